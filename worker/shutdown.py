"""SIGTERM in production: take no more jobs, finish what runs if it is quick, then leave.

The SDK's own signal handler only stops its loops before their next round, and those hold requests open for up to 90 s;
an orchestrator kills long before that. Touches ``runpod.serverless.modules.worker_state.JobsProgress``, which counts
the jobs whose result has not been sent.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Collection
from types import FrameType
from typing import Any

log = logging.getLogger(__name__)

LOOK_S = 0.05
# How long cancelled jobs may take to tell ComfyUI; with the usual grace, less than the 10 s after which containers are
# killed.
CANCEL_S = 1.0


class GracefulShutdown:
    """Armed on the SDK's event loop, once that has installed its own signal handlers.

    Args:
        grace_s: how long running jobs may go on.
        jobs: the tasks of jobs that run, kept up to date by whoever runs them; cancelled, each cancels its graph.
    """

    def __init__(self, grace_s: float, jobs: Collection[asyncio.Task[Any]]) -> None:
        self._grace_s = grace_s
        self._jobs = jobs
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def arm(self) -> None:
        """Take over SIGTERM and SIGINT; harmless when repeated."""
        if self._loop is not None:
            return
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._take_over(number, self._loop)

    def _take_over(self, number: signal.Signals, loop: asyncio.AbstractEventLoop) -> None:
        before = signal.getsignal(number)

        def on_signal(received: int, frame: FrameType | None) -> None:
            if callable(before):
                before(received, frame)
            loop.call_soon_threadsafe(self._begin)

        signal.signal(number, on_signal)

    def _begin(self) -> None:
        if self._task is None:
            log.info("told to stop; running jobs have %.0f s to finish", self._grace_s)
            self._task = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        from runpod.serverless.modules.worker_state import JobsProgress

        deadline = time.monotonic() + self._grace_s
        while JobsProgress().get_job_count() and time.monotonic() < deadline:  # noqa: ASYNC110  (the SDK has no event)
            await asyncio.sleep(LOOK_S)
        # The jobs first: when the SDK's loops end, so does the event loop, and with it what is still being sent.
        late = set(self._jobs)
        for job in late:
            job.cancel()
        if late:
            await asyncio.wait(late, timeout=CANCEL_S)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
