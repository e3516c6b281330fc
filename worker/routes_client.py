"""The Flux Face routes on ComfyUI's server, as the worker uses them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any

import aiohttp

from .probe import ROUTES

log = logging.getLogger(__name__)

CONNECT_S = 5.0
ANSWER_S = 30.0
# The routes send a line every 15 s where nothing happens.
STREAM_SILENCE_S = 45.0
READ_BYTES = 1 << 20
FINAL_STATES = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"})


class RoutesGoneError(RuntimeError):
    """No usable answer: the connection broke, nothing listens, or the job is not known there any more."""


class RoutesRefusedError(RuntimeError):
    """The request was refused; the message is the routes' own, code and remedy included."""


class RoutesClient:
    """One connection to the routes; use as an async context manager.

    Args:
        url: ComfyUI's address without a trailing slash.
        token: bearer token, if the routes want one.
    """

    def __init__(self, url: str, token: str | None) -> None:
        self._url = url + ROUTES
        # Results are local and large; the environment's proxies are for elsewhere.
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {token}"} if token else None,
            timeout=aiohttp.ClientTimeout(total=ANSWER_S, sock_connect=CONNECT_S),
            trust_env=False,
        )

    async def __aenter__(self) -> RoutesClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def run(self, body: dict[str, Any], key: str) -> str:
        """Submit a job; returns its id there.

        Args:
            body: as the routes take it.
            key: names this submission, so that asking again after a lost answer does not start a second job.

        Raises:
            RoutesRefusedError: the request is wrong or there is no room for it.
            RoutesGoneError: see there.
        """
        headers = {"Idempotency-Key": key}
        try:
            answer = await self._call("POST", "/run", body, headers)
        except RoutesGoneError as error:
            log.info("asking again: %s", error)
            answer = await self._call("POST", "/run", body, headers)
        return str(answer["id"])

    async def follow(self, job_id: str, look: Callable[[dict[str, Any]], None], pause_s: float) -> dict[str, Any]:
        """The job's status once it has ended.

        Args:
            job_id: the id there.
            look: told where the job is each time that changes: its status, queue position, node, step and attempt.
            pause_s: time between two looks while the event stream is broken.

        Raises:
            RoutesGoneError: the job is not known, or nobody answers any more.
        """
        while True:
            try:
                async for snapshot, ended in self._events(job_id):
                    if ended:
                        return snapshot
                    look(snapshot)
            except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
                log.info("the event stream of a job broke: %s", error or type(error).__name__)
            status = await self.status(job_id)
            if status["status"] in FINAL_STATES:
                return status
            look({"status": status["status"], **(status.get("output") or {}).get("progress", {})})
            await asyncio.sleep(pause_s)

    async def _events(self, job_id: str) -> AsyncIterator[tuple[dict[str, Any], bool]]:
        """Snapshots of the job, and whether it has ended, from server-sent events; ends early where the stream does."""
        async with self._session.get(
            f"{self._url}/stream/{job_id}",
            headers={"Accept": "text/event-stream"},
            timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_S, sock_read=STREAM_SILENCE_S),
            read_bufsize=READ_BYTES,
            raise_for_status=True,
        ) as answer:
            received = bytearray()
            async for chunk in answer.content.iter_any():
                looked_at = max(0, len(received) - 1)
                received += chunk
                while (end := received.find(b"\n\n", looked_at)) >= 0:
                    event, _, data = bytes(received[:end]).partition(b"\ndata: ")
                    del received[: end + 2]
                    looked_at = 0
                    if event in (b"event: status", b"event: result"):
                        yield json.loads(data), event == b"event: result"

    async def status(self, job_id: str) -> dict[str, Any]:
        """The job as RunPod shapes it.

        Raises:
            RoutesGoneError: the job is not known, or nobody answers.
        """
        try:
            return await self._call("GET", f"/status/{job_id}")
        except RoutesRefusedError as error:
            raise RoutesGoneError(str(error)) from error

    async def cancel(self, job_id: str) -> None:
        """Cancel a waiting or running job; one that has ended is left alone.

        Raises:
            RoutesGoneError: there is no such job or nobody to tell.
        """
        try:
            await self._call("POST", f"/cancel/{job_id}")
        except RoutesRefusedError as error:
            raise RoutesGoneError(str(error)) from error

    async def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        try:
            async with self._session.request(method, self._url + path, json=body, headers=headers) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            raise RoutesGoneError(f"ComfyUI did not answer {method} {path}: {error or type(error).__name__}") from error
        try:
            content = json.loads(text)
        except ValueError:
            content = None
        if answer.ok and isinstance(content, dict):
            return content
        refusal = _refusal(answer.status, content)
        raise RoutesRefusedError(refusal) if 400 <= answer.status < 500 else RoutesGoneError(refusal)


def _refusal(status: int, content: object) -> str:
    """The routes' error in the form a job's error has: a code in brackets, then the text."""
    error = content.get("error") if isinstance(content, dict) else None
    if isinstance(error, dict) and "code" in error and "message" in error:
        return f"[{error['code']}] {error['message']}"
    return f"[http_{status}] ComfyUI refused the request. Its log says more"
