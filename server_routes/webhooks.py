"""Tells a client's server that a job has ended, by the Standard Webhooks specification (standardwebhooks.com).

One attempt at a time; who calls keeps the message and asks again at the time that the attempt's result names.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import io
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import Literal

from aiohttp import ClientError

from ..nodes.errors import UserInputError
from .addresses import AddressPolicy, AddressRefusedError, check_url, open_session

MAX_RETRY_AFTER_SECONDS = 7_200.0
_DELAYS_SECONDS = (5.0, 30.0, 120.0, 600.0, 1_800.0, 7_200.0)
_SECRET_PREFIX = "whsec_"  # noqa: S105  (what every secret begins with)
_SECRET_BYTES = (24, 64)
# No full stop, which separates the signed parts.
_MESSAGE_ID = re.compile(r"[A-Za-z0-9_-]+")
_GONE = 410
_BUSY = frozenset({429, 503})


@dataclass(frozen=True)
class Delivery:
    """What one attempt came to.

    Attributes:
        state: ``retry`` means again after ``retry_seconds``; the other two are final.
        reason: for logs and the job's record; holds no secret, address or text of the receiver.
        retry_seconds: from the end of this attempt; None unless ``state`` is ``retry``.
    """

    state: Literal["delivered", "retry", "given_up"]
    reason: str
    retry_seconds: float | None = None


def check_secret(secret: str) -> None:
    """Refuse what cannot sign.

    Raises:
        ValueError: it is not ``whsec_`` and 24 to 64 bytes in base64; the message does not show it.
    """
    _key(secret)


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """One signature, ``v1,<base64>``.

    Args:
        secret: ``whsec_<base64>``.
        message_id: letters, digits, ``_`` and ``-``; the same for all attempts at a message.
        timestamp: of this attempt, seconds since 1970.
        body: exactly what is sent.

    Raises:
        ValueError: a secret or message id that cannot be used.
    """
    key = _key(secret)
    if not _MESSAGE_ID.fullmatch(message_id):
        raise ValueError("a message id is made of letters, digits, _ and - only")
    digest = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode("ascii")


def signed_headers(secrets: Sequence[str], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The specification's three headers. While secrets are being changed, the new and the old one both sign.

    Raises:
        ValueError: as ``sign``, or there is no secret.
    """
    if not secrets:
        raise ValueError("a webhook needs at least one secret to be signed with")
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(sign(secret, message_id, timestamp, body) for secret in secrets),
    }


def delay_after(attempt: int, retry_after: float | None = None) -> float | None:
    """Seconds from the end of failed attempt number ``attempt``, from 1, to the next one; None after the last.

    ``retry_after`` is what the receiver asked for: it lengthens the delay, up to two hours.
    """
    if attempt > len(_DELAYS_SECONDS):
        return None
    return max(_DELAYS_SECONDS[attempt - 1], min(retry_after or 0.0, MAX_RETRY_AFTER_SECONDS))


async def deliver(
    url: str,
    message_id: str,
    body: bytes,
    secrets: Sequence[str],
    policy: AddressPolicy,
    attempt: int,
    seconds: float = 20.0,
) -> Delivery:
    """Post a message once. Redirects count as failures, and what the receiver says besides its status is not read.

    Args:
        url: as the client wrote it.
        message_id: see ``sign``.
        body: JSON, up to a few megabytes.
        secrets: see ``signed_headers``.
        policy: what may be connected to.
        attempt: the number of this attempt, from 1.
        seconds: for name, connection, sending and the answer's status together.

    Raises:
        ValueError: a secret or message id that cannot be used.
    """
    try:
        target = check_url(url, "webhook", policy)
    except UserInputError as error:
        return Delivery("given_up", error.problem)
    # Off the event loop, since megabytes take a while.
    signed = await asyncio.to_thread(signed_headers, secrets, message_id, int(time.time()), body)

    async def post() -> tuple[int, str | None]:
        headers = {"Content-Type": "application/json", **signed}
        async with (
            open_session(policy) as session,
            session.post(target, data=io.BytesIO(body), headers=headers, allow_redirects=False) as response,
        ):
            return response.status, response.headers.get("Retry-After")

    try:
        status, retry_after = await asyncio.wait_for(post(), seconds)
    except asyncio.TimeoutError:
        return _failed(attempt, f"no answer within {seconds:g} seconds")
    except AddressRefusedError:
        return Delivery("given_up", "its host is not a public one")
    except (ClientError, OSError):
        return _failed(attempt, "its server cannot be reached, has no valid certificate, or broke off")
    if 200 <= status < 300:
        return Delivery("delivered", f"status {status}")
    if status == _GONE:
        return Delivery("given_up", f"status {status}: its server wants no more")
    wait = _retry_after_seconds(retry_after, time.time()) if status in _BUSY else None
    return _failed(attempt, f"status {status}", wait)


def _failed(attempt: int, problem: str, retry_after: float | None = None) -> Delivery:
    delay = delay_after(attempt, retry_after)
    if delay is None:
        return Delivery("given_up", f"{problem}, at the last of {attempt} attempts")
    return Delivery("retry", problem, delay)


def _retry_after_seconds(text: str | None, now: float) -> float | None:
    """The header's number of seconds, or its date less ``now``; None for anything else."""
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
        return date.replace(tzinfo=date.tzinfo or timezone.utc).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return None


def _key(secret: str) -> bytes:
    problem = f"a webhook secret is {_SECRET_PREFIX} and {_SECRET_BYTES[0]} to {_SECRET_BYTES[1]} bytes in base64"
    try:
        key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(problem) from None
    if not secret.startswith(_SECRET_PREFIX) or not _SECRET_BYTES[0] <= len(key) <= _SECRET_BYTES[1]:
        raise ValueError(problem)
    return key
