"""A running job's progress: into the log, and to RunPod.

The SDK's ``progress_update`` starts a thread of its own for each update and cannot be awaited, so a late update may
overwrite the result on the platform. This module therefore awaits ``runpod.serverless.modules.rp_http.send_result``,
which that function calls too.
"""

from __future__ import annotations

import asyncio
import json
import logging
from types import TracebackType
from typing import Any

log = logging.getLogger(__name__)

INTERVAL_S = 1.0
LAST_UPDATE_S = 2.0


class ProgressReporter:
    """Reports the latest progress once a second if it has changed, and nothing once the ``async with`` block is left.

    A job that is over within a second costs the platform no update.

    Args:
        job: the RunPod job.
        platform: whether there is a platform to report to; without one, updates go to the log only.
    """

    def __init__(self, job: dict[str, Any], platform: bool) -> None:
        self._job = job
        self._platform = platform
        self._latest: dict[str, Any] | None = None
        self._sending = False
        self._over = False
        self._ticking: asyncio.Task[None]

    async def __aenter__(self) -> ProgressReporter:
        self._ticking = asyncio.create_task(self._tick())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        if self._sending and kind is None:
            await asyncio.wait({self._ticking}, timeout=LAST_UPDATE_S)
        self._ticking.cancel()
        await asyncio.gather(self._ticking, return_exceptions=True)

    def report(self, progress: dict[str, Any]) -> None:
        """Say where the job is."""
        self._latest = progress

    async def _tick(self) -> None:
        reported = None
        while not self._over:
            await asyncio.sleep(INTERVAL_S)
            if self._latest == reported:
                continue
            reported = self._latest
            log.info("job %s progress %s", self._job["id"], json.dumps(reported, sort_keys=True))
            if self._platform:
                self._sending = True
                await self._send(reported)
                self._sending = False

    async def _send(self, progress: dict[str, Any] | None) -> None:
        from runpod.http_client import AsyncClientSession
        from runpod.serverless.modules.rp_http import send_result

        async with AsyncClientSession() as session:
            # Logs a failure and returns: a lost update costs nothing.
            await send_result(session, {"status": "IN_PROGRESS", "output": progress}, self._job)
