"""Results reach the platform even when the network stumbles.

The SDK posts a result up to three times within some seconds, and after a dropped connection not even a second time:
minutes of a GPU's work are then lost. Replaces ``runpod.serverless.modules.rp_http.FibonacciRetry``, which says how
often and after what.
"""

from __future__ import annotations

import asyncio

ATTEMPTS = 8
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 20.0  # with the others about a minute in all


def deliver_persistently() -> None:
    """Make the SDK go on trying for a minute after dropped connections and answers of 500 and more.

    Raises:
        AttributeError: this SDK works differently.
    """
    from aiohttp import ClientConnectionError, ClientPayloadError
    from aiohttp_retry import ExponentialRetry
    from runpod.serverless.modules import rp_http

    def options(attempts: int) -> ExponentialRetry:
        return ExponentialRetry(
            max(attempts, ATTEMPTS),
            start_timeout=FIRST_PAUSE_S,
            max_timeout=LONGEST_PAUSE_S,
            exceptions={ClientConnectionError, ClientPayloadError, ConnectionError, asyncio.TimeoutError},
        )

    if not hasattr(rp_http, "FibonacciRetry"):
        raise AttributeError("runpod.serverless.modules.rp_http.FibonacciRetry")
    rp_http.FibonacciRetry = options
