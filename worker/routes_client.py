"""The Flux Face routes on ComfyUI's server, as the worker uses them."""

from __future__ import annotations

import asyncio
import json
from types import TracebackType
from typing import Any

import aiohttp

from .probe import ROUTES

CONNECT_S = 5.0
ANSWER_S = 30.0
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

    async def run(self, body: dict[str, Any]) -> str:
        """Submit a job; returns its id there.

        Raises:
            RoutesRefusedError: the request is wrong or there is no room for it.
            RoutesGoneError: see there.
        """
        return str((await self._call("POST", "/run", body))["id"])

    async def status(self, job_id: str) -> dict[str, Any]:
        """The job as RunPod shapes it.

        Raises:
            RoutesGoneError: the job is not known, which after a restart of ComfyUI it is not.
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

    async def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            async with self._session.request(method, self._url + path, json=body) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            raise RoutesGoneError(f"ComfyUI did not answer {method} {path}: {error or type(error).__name__}") from error
        try:
            content = json.loads(text)
        except ValueError:
            content = None
        if answer.ok and isinstance(content, dict):
            return content
        if 400 <= answer.status < 500:
            raise RoutesRefusedError(_refusal(answer.status, content))
        raise RoutesGoneError(f"ComfyUI answered {method} {path} with HTTP {answer.status}")


def _refusal(status: int, content: object) -> str:
    """The routes' error in the form a job's error has: a code in brackets, then the text."""
    error = content.get("error") if isinstance(content, dict) else None
    if isinstance(error, dict) and "code" in error and "message" in error:
        return f"[{error['code']}] {error['message']}"
    return f"[http_{status}] ComfyUI refused the request. Its log says more"
