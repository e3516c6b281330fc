"""Running jobs: from a checked request through ComfyUI's queue to RunPod's output."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from server import PromptServer

from ..nodes.errors import UserInputError
from ..nodes.job.handoff import HANDOFF, JobResult, photo_reference
from ..workflows.profiles import Profile
from .comfy_queue import ComfyQueue, Outcome
from .encode import encode_image
from .jobs import Job, JobTable, State
from .refusal import explain_outcome, explain_refusals
from .request import JobRequest, parse
from .settings import Settings

log = logging.getLogger(__name__)

_WATCH_SECONDS = 0.25
T = TypeVar("T")


class JobService:
    """The one implementation of a job. Its methods run on the event loop; slow work goes to its own threads."""

    def __init__(self, server: PromptServer, settings: Settings, profiles: Mapping[str, Profile]) -> None:
        self.settings = settings
        self.profiles = profiles
        self.jobs = JobTable(settings.limits)
        self.queue = ComfyQueue(server, self._on_event)
        self._loop = server.loop
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="flux-face")
        self._node_starts: dict[str, tuple[str, float]] = {}
        self._finishing: dict[str, asyncio.Task[None]] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._admitted = 0

    async def off_loop(self, function: Callable[..., T], *args: object) -> T:
        """Run something slow in a thread of ours."""
        result: T = await self._loop.run_in_executor(self._threads, function, *args)
        return result

    @contextmanager
    def admission(self) -> Iterator[None]:
        """A place for one job while its body is read and checked.

        Raises:
            UserInputError: ``server_broken`` or ``queue_full``.
        """
        limit = self.settings.limits.max_queue
        if not self.queue.worker_alive():
            raise UserInputError(
                "server_broken", "server", "ComfyUI's worker thread is not running", "Restart ComfyUI and try again"
            )
        if len(self.jobs.active()) + self._admitted >= limit:
            raise UserInputError("queue_full", "queue", f"{limit} jobs are waiting or running", "Try again later")
        self._admitted += 1
        try:
            yield
        finally:
            self._admitted -= 1

    async def submit(self, body: bytes, profile: str | None = None) -> Job:
        """Check a request and queue its graph; call it within ``admission``.

        Args:
            body: as received.
            profile: where the request names none; None for the operator's default.

        Raises:
            UserInputError: the request is wrong, or files that its profile needs are missing.
        """
        settings = self.settings
        default = profile or settings.default_profile
        request = await self.off_loop(parse, body, self.profiles, default, settings.limits)
        job = Job(replace(request, photos={}))
        references = {field: photo_reference(job.id, field) for field in request.photos}
        graph = request.profile.fill({**request.values, **references, "job_id": job.id})
        HANDOFF.open(job.id, request.photos)
        try:
            refusals = await self.queue.validate(job.id, graph, request.profile.output_node)
            if refusals:
                raise explain_refusals(refusals, request.profile)
        except BaseException:
            HANDOFF.close(job.id)
            raise
        self.jobs.add(job)
        self.queue.put(job.id, graph, request.profile.output_node)
        if self._watcher is None:
            self._watcher = self._loop.create_task(self._watch())
        return job

    def cancel(self, job: Job, ending: State = State.CANCELLED) -> None:
        """End a job early; a running graph stops at its next step. No effect on a finished job."""
        if job.state.is_final or job.id in self._finishing:
            return
        job.ending = job.ending or ending
        if self.queue.cancel(job.id):
            self._end(job, job.ending)

    def purge_queue(self) -> int:
        """Cancel every job that waits; returns how many."""
        waiting = [job for job in self.jobs.active() if job.state is State.IN_QUEUE]
        for job in waiting:
            self.cancel(job)
        return sum(job.state.is_final for job in waiting)

    def _on_event(self, prompt_id: str, kind: str, data: dict[str, Any]) -> None:
        job = self.jobs.get(prompt_id)
        if job is None or job.state.is_final:
            return
        self._mark_started(job)
        if kind == "progress":
            job.progress = {**job.progress, "value": data["value"], "max": data["max"]}
            job.notify()
        elif kind == "executing":
            node = data.get("display_node") or data.get("node")
            self._count_node_time(job, node)
            if node is None:
                self._finish_soon(job)
            else:
                job.progress = {"node": node, "class_type": job.request.profile.graph[node]["class_type"]}
                job.notify()

    def _mark_started(self, job: Job) -> None:
        if job.state is State.IN_QUEUE:
            job.state = State.IN_PROGRESS
            job.started = time.monotonic()
            job.notify()

    def _count_node_time(self, job: Job, node: str | None) -> None:
        now = time.monotonic()
        previous = self._node_starts.pop(job.id, None)
        if previous is not None:
            job.node_seconds[previous[0]] = job.node_seconds.get(previous[0], 0.0) + now - previous[1]
        if node is not None:
            self._node_starts[job.id] = (node, now)

    def _finish_soon(self, job: Job) -> None:
        if job.id not in self._finishing:
            self._finishing[job.id] = self._loop.create_task(self._finish(job))

    async def _finish(self, job: Job) -> None:
        try:
            outcome = self.queue.take_outcome(job.id)
            result = HANDOFF.take(job.id)
            HANDOFF.close(job.id)
            self._mark_started(job)
            job.graph_done = time.monotonic()
            if result is not None and (outcome is None or outcome.status == "success"):
                await self._complete(job, result)
            elif outcome is None or outcome.status == "interrupted":
                if job.ending is None:  # without an outcome someone cleared ComfyUI's queue or history
                    job.error = "[cancelled] job: it was stopped in ComfyUI. Send it again"
                self._end(job, job.ending or State.CANCELLED)
            else:
                self._fail(job, outcome)
        except Exception:
            log.exception("Flux Face: job %s could not be finished", job.id)
            job.error = "[internal] job: its result could not be encoded. See the server's log"
            self._end(job, State.FAILED)

    async def _complete(self, job: Job, result: JobResult) -> None:
        output = await self.off_loop(_build_output, job, result)
        output["timings"] = {
            "queue_ms": job.delay_ms,
            "execution_ms": job.execution_ms,
            "encode_ms": round((time.monotonic() - (job.graph_done or 0.0)) * 1000),
            "nodes_ms": {node: round(seconds * 1000) for node, seconds in job.node_seconds.items()},
        }
        job.output = output
        job.output_bytes = sum(len(image["data"]) for image in (*output["images"], *output.get("generated", ())))
        self._end(job, State.COMPLETED)

    def _fail(self, job: Job, outcome: Outcome) -> None:
        log.warning("Flux Face: job %s failed in node %s (%s)", job.id, outcome.node_id, outcome.exception_type)
        job.error = (
            explain_outcome(outcome, job.request.profile)
            if outcome.status == "error"
            else "[no_output] profile: the graph ended without handing back pictures. Correct the profile's graph"
        )
        self._end(job, State.FAILED)

    def _end(self, job: Job, state: State) -> None:
        if state is State.TIMED_OUT:
            job.error = "[timed_out] policy: the job took longer than its time limit. Ask for less or allow more time"
        elif state is State.CANCELLED and job.error is None:
            job.error = "[cancelled] job: it was cancelled on request. Send it again"
        HANDOFF.close(job.id)
        self._node_starts.pop(job.id, None)
        self.jobs.end(job, state)
        self._finishing.pop(job.id, None)

    async def _watch(self) -> None:
        """Time limits, and whatever no event tells: a dead worker, a queue cleared by hand, an event that got lost."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            try:
                self._check_active()
                self.jobs.expire()
            except Exception:
                log.exception("Flux Face: watching the jobs failed")

    def _check_active(self) -> None:
        active = [job for job in self.jobs.active() if job.id not in self._finishing]
        pending = self.queue.pending() if active else set()
        alive = self.queue.worker_alive()
        now = time.monotonic()
        for job in active:
            if job.id not in pending:
                self._finish_soon(job)
            elif not alive:
                job.error = (
                    "[server_broken] server: ComfyUI's worker thread has died. Restart ComfyUI and send it again"
                )
                self.queue.cancel(job.id)
                self._end(job, State.FAILED)
            elif job.ending is not None:
                self.cancel(job)
            elif _is_over_time(job, now):
                self.cancel(job, State.TIMED_OUT)


def _is_over_time(job: Job, now: float) -> bool:
    ran_too_long = job.started is not None and now - job.started > job.request.execution_seconds
    return ran_too_long or now - job.created > job.request.ttl_seconds


def _build_output(job: Job, result: JobResult) -> dict[str, Any]:
    """RunPod's ``output`` without the timings."""
    request = job.request
    seeds = _seeds(request, result)
    verdicts: tuple[dict[str, Any] | None, ...] = result.verdicts or (None,) * len(result.images)

    def encode(images: Any, suffix: str) -> list[dict[str, str]]:
        return [
            encode_image(
                image, f"{job.id}{suffix}_{index}", request.output_format, request.quality, seeds[index], verdict
            )
            for index, (image, verdict) in enumerate(zip(images, verdicts, strict=True))
        ]

    output: dict[str, Any] = {"images": encode(result.images, ""), "profile": request.profile.name, "seeds": seeds}
    if request.include_generated and result.generated is not None:
        output["generated"] = encode(result.generated, "_generated")
    if result.verdicts is not None:
        output["qa"] = list(result.verdicts)
    if result.retry_report is not None:
        output["retry"] = json.loads(result.retry_report)
    if result.swap_report is not None:
        output["swap"] = json.loads(result.swap_report)
    return output


def _seeds(request: JobRequest, result: JobResult) -> list[int]:
    """The seed that each picture came from: another one than the request's where it was sampled again."""
    if result.retry_report is None:
        return [request.seed] * len(result.images)
    return [item["seed"] for item in json.loads(result.retry_report)["items"]]
