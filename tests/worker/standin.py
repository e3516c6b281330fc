"""A stand-in for RunPod's side of the wire: the job endpoints that the SDK talks to, as it talks to them."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from types import TracebackType
from typing import Any

from aiohttp import web

BASE = "/v2/endpoint"
LONG_POLL_S = 2.0
MAX_RESULT_BYTES = 10_000_000


@dataclass
class PlatformJob:
    """One job as the platform sees it.

    Attributes:
        results: every final result that was posted, a repetition of one left out; exactly one is right.
        progress: every progress update, with whether the result had been posted before it.
        taken_at: when a worker got it, seconds of ``time.perf_counter``.
        ended_at: when its result came.
    """

    id: str
    input: Any
    policy: dict[str, object] | None = None
    taken: bool = False
    stopping: bool = False
    results: list[dict[str, Any]] = field(default_factory=list)
    progress: list[tuple[Any, bool]] = field(default_factory=list)
    taken_at: float = 0.0
    ended_at: float = 0.0

    @property
    def result(self) -> dict[str, Any]:
        """The result, which must be the only one."""
        assert len(self.results) == 1, self.results
        return self.results[0]


class Fault(Enum):
    """What may become of a request."""

    NONE = auto()
    REFUSED = auto()
    DROPPED = auto()
    ANSWER_LOST = auto()


class Faults:
    """Decides by chance which requests go wrong.

    Answers get lost for results only: no client could tell a lost answer to job-take from no job.
    """

    def __init__(self, seed: int, share: float) -> None:
        self._random = random.Random(seed)
        self._share = share
        self.count = 0

    def draw(self, path: str) -> Fault:
        """For the next request to an address."""
        if self._random.random() >= self._share:
            return Fault.NONE
        self.count += 1
        kinds = [Fault.REFUSED, Fault.DROPPED]
        return self._random.choice([*kinds, Fault.ANSWER_LOST] if "/job-done/" in path else kinds)


class Platform:
    """Runs in a thread of its own; its methods are for the test's.

    Args:
        faults: what goes wrong on the way; nothing if None.

    Attributes:
        jobs: every job by id.
        pings: what the heartbeats said.
        asked_at: when a worker first asked for a job, seconds of ``time.perf_counter``.
        refuse_results: so many posts of results are answered with 502.
    """

    def __init__(self, faults: Faults | None = None) -> None:
        self.faults = faults
        self.jobs: dict[str, PlatformJob] = {}
        self.pings: list[dict[str, str]] = []
        self.asked_at: float | None = None
        self.refuse_results = 0
        self._loop = asyncio.new_event_loop()
        self._changed: asyncio.Condition
        self._runner: web.AppRunner
        self.port = 0
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)

    def environment(self) -> dict[str, str]:
        """What RunPod sets for a worker."""
        url = f"http://127.0.0.1:{self.port}{BASE}"
        return {
            "RUNPOD_WEBHOOK_GET_JOB": f"{url}/job-take/$ID?gpu=CPU",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{url}/job-done/$RUNPOD_POD_ID/$ID?gpu=CPU",
            "RUNPOD_WEBHOOK_POST_STREAM": f"{url}/job-stream/$RUNPOD_POD_ID/$ID?gpu=CPU",
            "RUNPOD_WEBHOOK_PING": f"{url}/ping/$RUNPOD_POD_ID",
            "RUNPOD_PING_INTERVAL": "1000",
            "RUNPOD_AI_API_KEY": "stand-in",
            "RUNPOD_POD_ID": "pod",
            "RUNPOD_ENDPOINT_ID": "endpoint",
            # They look for the internet and a GPU.
            "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
            "RUNPOD_SKIP_GPU_CHECK": "true",
        }

    def submit(
        self, job_input: object, job_id: str | None = None, policy: dict[str, object] | None = None
    ) -> PlatformJob:
        """Queue a job."""
        job = PlatformJob(job_id or f"{uuid.uuid4()}-u1", job_input, policy)

        async def add() -> None:
            async with self._changed:
                self.jobs[job.id] = job
                self._changed.notify_all()

        self._call(add())
        return job

    def stop(self, job: PlatformJob) -> None:
        """Tell the worker to stop a job, as a cancellation or a time limit does."""

        async def mark() -> None:
            async with self._changed:
                job.stopping = True
                self._changed.notify_all()

        self._call(mark())

    def wait(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Wait until the worker has done something."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
            time.sleep(0.02)

    def finish(self, job: PlatformJob, timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait for a job's result."""
        self.wait(lambda: bool(job.results), timeout_s, f"result of {job.input}")
        return job.result

    def __enter__(self) -> Platform:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._stop_serving())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _call(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _start(self) -> None:
        self._changed = asyncio.Condition()
        app = web.Application(client_max_size=64_000_000, middlewares=[self._stumble])
        app.router.add_get(BASE + "/job-take/{worker}", self._take)
        app.router.add_get(BASE + "/job-take-batch/{worker}", self._take_batch)
        app.router.add_get(BASE + "/job-stop/{worker}", self._stops)
        app.router.add_post(BASE + "/job-done/{worker}/{job}", self._done)
        app.router.add_get(BASE + "/ping/{worker}", self._ping)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _stop_serving(self) -> None:
        await self._runner.cleanup()
        waiting = asyncio.all_tasks() - {asyncio.current_task()}
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    async def _waiting(self, count: int) -> list[dict[str, Any]]:
        self.asked_at = self.asked_at or time.perf_counter()

        def free() -> list[PlatformJob]:
            return [job for job in self.jobs.values() if not job.taken and not job.stopping][:count]

        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(free), LONG_POLL_S)
            except asyncio.TimeoutError:
                return []
            taken = free()
            for job in taken:
                job.taken, job.taken_at = True, time.perf_counter()
        return [
            {"id": job.id, "input": job.input, **({} if job.policy is None else {"policy": job.policy})}
            for job in taken
        ]

    @web.middleware
    async def _stumble(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        fault = Fault.NONE if self.faults is None else self.faults.draw(request.path)
        if fault is Fault.REFUSED:
            return web.Response(status=502)
        answer = await handler(request) if fault is not Fault.DROPPED else web.Response()
        if fault is not Fault.NONE and request.transport is not None:
            request.transport.abort()
        return answer

    async def _take(self, request: web.Request) -> web.Response:
        jobs = await self._waiting(1)
        return web.json_response(jobs[0]) if jobs else web.Response(status=204)

    async def _take_batch(self, request: web.Request) -> web.Response:
        jobs = await self._waiting(int(request.query["batch_size"]))
        return web.json_response(jobs) if jobs else web.Response(status=204)

    async def _stops(self, request: web.Request) -> web.Response:
        def stopping() -> list[PlatformJob]:
            return [job for job in self.jobs.values() if job.stopping and job.taken]

        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(stopping), LONG_POLL_S)
            except asyncio.TimeoutError:
                return web.Response(status=204)
            jobs = stopping()
            for job in jobs:
                job.stopping = False
        return web.json_response({"jobsToStop": [job.id for job in jobs]})

    async def _done(self, request: web.Request) -> web.Response:
        job = self.jobs[request.match_info["job"]]
        body = await request.read()
        content = json.loads(body)
        if content.get("status") == "IN_PROGRESS":
            job.progress.append((content["output"], bool(job.results)))
            return web.Response()
        if self.refuse_results > 0:
            self.refuse_results -= 1
            return web.Response(status=502)
        if len(body) > MAX_RESULT_BYTES:
            return web.Response(status=400)
        if content not in job.results:
            job.results.append(content)
            job.ended_at = time.perf_counter()
        return web.Response()

    async def _ping(self, request: web.Request) -> web.Response:
        self.pings.append(dict(request.query))
        return web.Response()
