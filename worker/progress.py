"""A running job's progress: into the log, and to RunPod.

The SDK's ``progress_update`` starts a thread of its own for each update and cannot be awaited, so a late update may
overwrite the result on the platform. This module therefore awaits ``runpod.serverless.modules.rp_http.send_result``,
which that function calls too: the only use of the SDK's inside in this package.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from types import TracebackType
from typing import Any

log = logging.getLogger(__name__)

MIN_INTERVAL_S = 1.0
LAST_UPDATE_S = 2.0


class ProgressReporter:
    """Reports at most one update a second, and none once the ``async with`` block has been left.

    Args:
        job: the RunPod job.
        platform: whether there is a platform to report to; without one, updates go to the log only.
    """

    def __init__(self, job: dict[str, Any], platform: bool) -> None:
        self._job = job
        self._platform = platform
        self._last_sent = float("-inf")
        self._last: dict[str, Any] | None = None
        self._sending: asyncio.Task[None] | None = None

    async def __aenter__(self) -> ProgressReporter:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sending is None:
            return
        if kind is None:
            await asyncio.wait({self._sending}, timeout=LAST_UPDATE_S)
        self._sending.cancel()
        await asyncio.gather(self._sending, return_exceptions=True)

    def report(self, progress: dict[str, Any]) -> None:
        """Report where the job is; dropped if it says nothing new or comes too soon after the last one."""
        now = time.monotonic()
        if progress == self._last or now - self._last_sent < MIN_INTERVAL_S:
            return
        self._last, self._last_sent = progress, now
        log.info("job %s progress %s", self._job["id"], json.dumps(progress, sort_keys=True))
        if self._platform and (self._sending is None or self._sending.done()):
            self._sending = asyncio.create_task(self._send(progress))

    async def _send(self, progress: dict[str, Any]) -> None:
        from runpod.http_client import AsyncClientSession
        from runpod.serverless.modules.rp_http import send_result

        async with AsyncClientSession() as session:
            # Logs a failure and returns: a lost update costs nothing.
            await send_result(session, {"status": "IN_PROGRESS", "output": progress}, self._job)
