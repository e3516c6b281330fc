"""The time of day that never goes back while the process runs, so that it serves records and time limits alike."""

from __future__ import annotations

import time

_OFFSET = time.time() - time.monotonic()


def now() -> float:
    """Seconds since the epoch, monotonic within this process."""
    return time.monotonic() + _OFFSET
