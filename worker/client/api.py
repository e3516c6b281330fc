"""One target's HTTP interface: run, status, cancel, and what each kind of answer means."""

from __future__ import annotations

import asyncio
import datetime
import io
import json
import urllib.request
from collections.abc import Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp

from ..routes_client import FINAL_STATES
from .backoff import parse_retry_after
from .errors import BusyError, LostError, RefusedError, TargetError, UnavailableError
from .targets import Target

CONNECT_S = 10.0
# Ten megabytes up, or a result of many pictures down, over a slow line.
ANSWER_S = 180.0
MAX_ANSWER_BYTES = 256_000_000
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_MAX_MESSAGE_CHARS = 500

Status = dict[str, Any]


class Pace:
    """Lets requests through no faster than one per interval."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._next = 0.0

    async def wait(self) -> None:
        """Return when the next request may go."""
        now = asyncio.get_running_loop().time()
        start = max(now, self._next)
        self._next = start + self._interval_s
        if start > now:
            await asyncio.sleep(start - now)


class TargetApi:
    """Use as an async context manager."""

    def __init__(self, target: Target, max_answer_bytes: int = MAX_ANSWER_BYTES) -> None:
        self.target = target
        self._max_answer_bytes = max_answer_bytes
        self._pace = {operation: Pace(target.pace_s.get(operation, 0.0)) for operation in ("run", "status", "cancel")}

    async def __aenter__(self) -> TargetApi:
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self.target.token}"} if self.target.token else None,
            timeout=aiohttp.ClientTimeout(total=ANSWER_S, sock_connect=CONNECT_S),
            connector=aiohttp.TCPConnector(limit=100),
            proxy=proxy_for(self.target.url),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def run(self, body: bytes, key: str) -> str:
        """Submit a job; returns its id there.

        Args:
            body: JSON.
            key: of the header ``Idempotency-Key``: servers of ours run one job for all requests of one key.

        Raises:
            RefusedError, BusyError, UnavailableError, TargetError: see there.
        """
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        code, content = await self._call("POST", "run", "run", body, headers)
        if code == HTTPStatus.NOT_FOUND:
            raise TargetError(f"{self.target.name} has no {self.target.url}/run. Check the id or the address")
        job_id = content.get("id") if isinstance(content, dict) else None
        if code != HTTPStatus.OK or not isinstance(job_id, str) or not job_id:
            raise RefusedError(_refusal(code, content))
        return job_id

    async def status(self, job_id: str) -> Status:
        """The job in RunPod's shape.

        Raises:
            LostError, BusyError, UnavailableError, TargetError: see there.
        """
        code, content = await self._call("GET", "status", f"status/{quote(job_id, safe='')}")
        if code == HTTPStatus.NOT_FOUND:
            raise LostError(f"{self.target.name} does not know the job {job_id}")
        if code != HTTPStatus.OK or not isinstance(content, dict) or not isinstance(content.get("status"), str):
            raise UnavailableError(f"{self.target.name}: {_refusal(code, content)}", maybe_accepted=False)
        return content

    async def cancel(self, job_id: str) -> str:
        """Cancel a job; returns the state it then has, which is its own where it had ended.

        Raises:
            LostError, BusyError, UnavailableError, RefusedError, TargetError: see there.
        """
        code, content = await self._call("POST", "cancel", f"cancel/{quote(job_id, safe='')}")
        if code == HTTPStatus.NOT_FOUND:
            raise LostError(f"{self.target.name} does not know the job {job_id}")
        if code != HTTPStatus.OK or not isinstance(content, dict):
            raise RefusedError(_refusal(code, content))
        return str(content.get("status", ""))

    async def _call(
        self,
        method: str,
        operation: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, object]:
        """Code and JSON content (None where it is none) of an answer that is neither busy, broken nor a wrong key."""
        await self._pace[operation].wait()
        name = self.target.name
        try:
            # A redirection would take the token along, or turn a POST into a GET.
            async with self._session.request(
                method,
                f"{self.target.url}/{path}",
                data=body and io.BytesIO(body),
                headers=headers,
                allow_redirects=False,
            ) as answer:
                code, retry_after = answer.status, answer.headers.get("Retry-After")
                content = _parse(await read_bounded(answer, self._max_answer_bytes))
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise UnavailableError(f"{name} cannot be reached: {error}", maybe_accepted=False) from error
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            raise UnavailableError(
                f"{name} did not answer {method} {operation}: {error or type(error).__name__}", maybe_accepted=True
            ) from error
        asked_s = parse_retry_after(retry_after, datetime.datetime.now(datetime.timezone.utc))
        if code == HTTPStatus.TOO_MANY_REQUESTS:
            raise BusyError(asked_s)
        if code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise TargetError(f"{name} does not accept our key ({_refusal(code, content)})")
        if 300 <= code < 400:
            raise TargetError(f"{name} redirects to another address (HTTP {code}). Give that one")
        if code >= 500 or code == HTTPStatus.REQUEST_TIMEOUT:
            raise UnavailableError(
                f"{name} answered {method} {operation} with HTTP {code}",
                # A gateway does not know what became of the request behind it.
                maybe_accepted=code in (HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT),
                retry_after_s=asked_s,
            )
        return code, content


def is_final(status: Status) -> bool:
    """Whether the job has ended."""
    return status["status"] in FINAL_STATES


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for an address; none for this machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host in _LOOPBACK or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(parts.scheme)


async def read_bounded(answer: aiohttp.ClientResponse, limit: int) -> bytes:
    """The whole body.

    Raises:
        RefusedError: it is over ``limit`` bytes.
    """
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > limit:
            raise RefusedError(
                f"[answer_too_large] the answer is over {limit:,} bytes. Ask for fewer or smaller images"
            )
    return bytes(body)


def _parse(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _refusal(code: int, content: object) -> str:
    """The target's own words: our routes send an object with code and message, RunPod text."""
    error = content.get("error") if isinstance(content, dict) else None
    if isinstance(error, dict) and "code" in error and "message" in error:
        return f"[{error['code']}] {error['message']}"[:_MAX_MESSAGE_CHARS]
    if isinstance(error, str) and error:
        return f"[http_{code}] {error}"[:_MAX_MESSAGE_CHARS]
    return f"[http_{code}] the answer cannot be understood"
