"""Running jobs: from a submission through ComfyUI's queue to RunPod's output."""

from __future__ import annotations

import asyncio
import base64
import logging
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from server import PromptServer

from ..nodes.errors import UserInputError
from ..nodes.job.handoff import HANDOFF, JobResult, photo_reference
from ..nodes.retry.plan import attempt_of
from ..workflows.profiles import Profile
from .bodies import Submission
from .clock import now
from .comfy_queue import ComfyQueue, Outcome
from .encode import PictureError
from .fetch import fetch_picture
from .jobs import Job, JobTable, State
from .metrics import Metrics
from .outputs import build_pictures, build_report, upload_pictures
from .refusal import explain_outcome, explain_refusals
from .request import Defaults, JobRequest, parse
from .settings import Settings
from .storage import StorageError
from .store import JobStore, StoreThread

log = logging.getLogger(__name__)

_WATCH_SECONDS = 0.25
_DROP_SECONDS = 60.0
T = TypeVar("T")


class JobService:
    """The one implementation of a job. Its methods run on the event loop; slow work goes to its own threads."""

    def __init__(
        self, server: PromptServer, settings: Settings, profiles: Mapping[str, Profile], store: StoreThread
    ) -> None:
        self.settings = settings
        self.profiles = profiles
        self.store = store
        self.jobs = JobTable(settings.limits)
        self.metrics = Metrics()
        self.queue = ComfyQueue(server, self._on_event)
        self.job_ended: Callable[[], None] = lambda: None
        self.job_changed: Callable[[Job], None] = lambda _: None
        self.loop = server.loop
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="flux-face")
        self._node_starts: dict[str, tuple[str, float]] = {}
        self._finishing: dict[str, asyncio.Task[None]] = {}
        self._submitting: dict[tuple[str, str], asyncio.Task[Job]] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._admitted: dict[str, int] = {}

    def start(self) -> None:
        """Begin to watch the jobs; called once, when the event loop runs."""
        self._watcher = self.loop.create_task(self._watch())

    async def off_loop(self, function: Callable[..., T], *args: object) -> T:
        """Run something slow in a thread of ours."""
        result: T = await self.loop.run_in_executor(self._threads, function, *args)
        return result

    @contextmanager
    def admission(self, caller: str) -> Iterator[None]:
        """A place for one job of the caller's while its body is read and checked.

        Raises:
            UserInputError: ``server_broken`` or ``queue_full``.
        """
        limits = self.settings.limits
        if not self.queue.worker_alive():
            raise UserInputError(
                "server_broken", "server", "ComfyUI's worker thread is not running", "Restart ComfyUI and try again"
            )
        active = self.jobs.active()
        if len(active) + sum(self._admitted.values()) >= limits.max_queue:
            raise _queue_full(f"{limits.max_queue} jobs are waiting or running")
        theirs = sum(job.caller == caller for job in active) + self._admitted.get(caller, 0)
        if theirs >= limits.max_queue_per_caller:
            raise _queue_full(f"{limits.max_queue_per_caller} of your jobs are waiting or running")
        if self.jobs.waiting_bytes >= limits.max_waiting_bytes:
            raise _queue_full(f"the photos of waiting jobs have {limits.max_waiting_bytes} bytes")
        self._admitted[caller] = self._admitted.get(caller, 0) + 1
        try:
            yield
        finally:
            self._admitted[caller] -= 1
            if not self._admitted[caller]:
                del self._admitted[caller]

    async def submit(
        self, submission: Submission, caller: str, key: str | None = None, defaults: Defaults | None = None
    ) -> Job:
        """Check a submission and queue its graph; call it within ``admission``.

        Args:
            submission: as received.
            caller: whose job it is.
            key: the client's name for this submission: a second one under the same name is the same job.
            defaults: what the request leaves open; None for the operator's.

        Raises:
            UserInputError: the request is wrong, files that its profile needs are missing, or ``key`` was another's.
        """
        defaults = defaults or Defaults(profile=lambda _: self.settings.default_profile)
        if key is None:
            return await self._submit(submission, caller, None, "", defaults)
        digest = await self.off_loop(submission.digest)
        task = self._submitting.get((caller, key))
        if task is None:
            task = self.loop.create_task(self._submit_once(submission, caller, key, digest, defaults))
            self._submitting[caller, key] = task
            task.add_done_callback(lambda _: self._submitting.pop((caller, key)))
        job: Job = await asyncio.shield(task)
        if job.digest != digest:
            raise UserInputError(
                "idempotency_conflict",
                "Idempotency-Key",
                "another request was sent under this key",
                "Use a new key for a new request",
            )
        return job

    async def _submit_once(self, submission: Submission, caller: str, key: str, digest: str, defaults: Defaults) -> Job:
        earlier = await self.store.call(JobStore.find_key, caller, key)
        if earlier is not None:
            return self.jobs.get(earlier.id) or earlier
        return await self._submit(submission, caller, key, digest, defaults)

    async def _submit(
        self, submission: Submission, caller: str, key: str | None, digest: str, defaults: Defaults
    ) -> Job:
        settings = self.settings
        draft = await self.off_loop(parse, submission, self.profiles, defaults, settings)
        fetched = await self._fetch(draft.addresses)
        request = await self.off_loop(draft.complete, fetched, settings.limits)
        job = Job(
            caller=caller,
            profile=request.profile.name,
            request=request,
            priority=request.priority,
            images_as=request.images_as,
            webhook=request.webhook,
            idempotency_key=key,
            digest=digest,
        )
        await self.enqueue(job, request, JobStore.insert)
        return job

    async def _fetch(self, addresses: Mapping[str, str]) -> dict[str, bytes]:
        limits, policy = self.settings.limits, self.settings.addresses
        return {
            field: await fetch_picture(url, field, policy, limits.max_photo_bytes, limits.url_seconds)
            for field, url in addresses.items()
        }

    async def enqueue(self, job: Job, request: JobRequest, record: Callable[[JobStore, Job], None]) -> None:
        """Validate the job's graph, put the job on record and its graph into ComfyUI's queue.

        Args:
            job: one that waits.
            request: what it runs.
            record: how the job table is told of it.

        Raises:
            UserInputError: ComfyUI refuses the graph.
        """
        references = {field: photo_reference(job.id, field) for field in request.photos}
        graph = request.profile.fill({**request.values, **references, "job_id": job.id})
        outputs = request.profile.output_nodes
        # The run's number is bound now: the event that counts it may come before the worker thread asks.
        on_start = None if self.settings.vault is None else partial(self._record_start, job.id, job.runs + 1)
        HANDOFF.open(job.id, request.photos, on_start)
        try:
            refusals = await self.queue.validate(job.id, graph, outputs)
            if refusals:
                raise explain_refusals(refusals, request.profile)
            await self.store.call(record, job)
        except BaseException:
            HANDOFF.close(job.id)
            raise
        self.jobs.add(job)
        job.number = self.queue.put(job.id, graph, outputs, priority=job.priority, preview=request.preview)
        self.job_changed(job)

    async def find(self, job_id: str) -> Job | None:
        """The job, from memory or from the job table."""
        return self.jobs.get(job_id) or await self.store.call(JobStore.find, job_id)

    async def cancel(self, job: Job, ending: State = State.CANCELLED) -> None:
        """End a job early; a running graph stops at its next step. No effect on a job that has ended."""
        if job.ended or job.id in self._finishing:
            return
        job.ending = job.ending or ending
        if self.queue.cancel(job.id):
            await self._end(job, job.ending)

    async def purge_queue(self, caller: str | None) -> int:
        """Cancel every waiting job, of one caller or of all; returns how many."""
        waiting = [job for job in self.jobs.active() if job.state is State.IN_QUEUE and caller in (None, job.caller)]
        for job in waiting:
            await self.cancel(job)
        return sum(job.state.is_final for job in waiting)

    async def retry(self, job: Job) -> Job:
        """Let a job that failed or timed out wait again, under its id.

        Raises:
            UserInputError: ``job_not_failed``; ``photo_gone``: its photos are not in memory any more.
        """
        if job.state not in (State.FAILED, State.TIMED_OUT):
            raise UserInputError(
                "job_not_failed", "id", f"the job is {job.state.value}", "Only a FAILED or TIMED_OUT job runs again"
            )
        if job.request is None:
            raise UserInputError(
                "photo_gone", "id", "the job's request is no longer in memory", "Send the job again with its photo"
            )
        again = Job(
            id=job.id,
            caller=job.caller,
            profile=job.profile,
            request=job.request,
            priority=job.priority,
            images_as=job.images_as,
            webhook=job.webhook,
            idempotency_key=job.idempotency_key,
            digest=job.digest,
        )
        await self.enqueue(again, job.request, JobStore.reopen)
        self.metrics.retried += 1
        return again

    async def fail(self, job: Job, error: str) -> None:
        """End a job that cannot run."""
        job.error = error
        await self._end(job, State.FAILED)

    async def time_out(self, job: Job) -> None:
        """End a job whose time to live has passed."""
        await self._end(job, State.TIMED_OUT)

    def _on_event(self, prompt_id: str, kind: str, data: dict[str, Any]) -> None:
        job = self.jobs.get(prompt_id)
        if job is None or job.ended or job.request is None:
            return
        self._mark_started(job)
        if kind == "progress":
            job.progress = {**job.progress, "value": data["value"], "max": data["max"]}
            self._notify(job)
        elif kind == "preview":
            encoded = base64.b64encode(data["image"]).decode("ascii")
            job.preview = f"data:{data['image_type']};base64,{encoded}"
            job.notify()
        elif kind == "executing":
            node = data.get("display_node") or data.get("node")
            self._count_node_time(job, node)
            if node is None:
                self._finish_soon(job)
            else:
                class_type = job.request.profile.graph.get(node, {}).get("class_type", "")
                attempt = {} if "max_attempts" not in job.request.values else {"attempt": attempt_of(data["node"])}
                job.progress = {"node": node, "class_type": class_type, **attempt}
                self._notify(job)

    def _mark_started(self, job: Job) -> None:
        if job.state is State.IN_QUEUE:
            job.state = State.IN_PROGRESS
            job.started = now()
            job.runs += 1
            self.store.send(JobStore.started, job.id, job.started, job.runs)
            self._notify(job)

    def _notify(self, job: Job) -> None:
        job.notify()
        self.job_changed(job)

    def _record_start(self, job_id: str, run: int) -> None:
        """Put a durable job's start on record before its graph can take the process down.

        In ComfyUI's worker thread; the event that comes afterwards may be too late.
        """
        try:
            self.store.wait(JobStore.started, job_id, now(), run)
        except sqlite3.Error:
            log.exception("Flux Face: the start of job %s is not on record", job_id)

    def _count_node_time(self, job: Job, node: str | None) -> None:
        when = now()
        previous = self._node_starts.pop(job.id, None)
        if previous is not None:
            job.node_seconds[previous[0]] = job.node_seconds.get(previous[0], 0.0) + when - previous[1]
        if node is not None:
            self._node_starts[job.id] = (node, when)

    def _finish_soon(self, job: Job) -> None:
        if job.id not in self._finishing and not job.ended:
            self._finishing[job.id] = self.loop.create_task(self._finish(job))

    async def _finish(self, job: Job) -> None:
        try:
            outcome = self.queue.take_outcome(job.id)
            results = HANDOFF.take(job.id)
            HANDOFF.close(job.id)
            self._mark_started(job)
            job.graph_done = now()
            if results and job.request is not None and (outcome is None or outcome.status == "success"):
                await self._complete(job, job.request, results)
            elif outcome is None or outcome.status == "interrupted":
                if job.ending is None:  # without an outcome someone cleared ComfyUI's queue or history
                    job.error = "[cancelled] job: it was stopped in ComfyUI. Send it again"
                await self._end(job, job.ending or State.CANCELLED)
            else:
                await self._fail(job, outcome)
        except PictureError as error:
            await self.fail(job, f"[not_a_picture] profile: {error}. Run the VAE in higher precision")
        except StorageError as error:
            await self.fail(job, f"[upload_failed] images_as: {error}")
        except Exception:
            log.exception("Flux Face: job %s could not be finished", job.id)
            await self.fail(job, "[internal] job: its result could not be encoded. See the server's log")
        finally:
            self._finishing.pop(job.id, None)

    async def _complete(self, job: Job, request: JobRequest, results: tuple[JobResult, ...]) -> None:
        report = build_report(job, request, results)
        pictures = await self.off_loop(build_pictures, job.id, request, report, results)
        if request.images_as == "s3" and self.settings.storage is not None:
            pictures = await self.off_loop(upload_pictures, job.id, pictures, self.settings.storage)
        report["timings"] = {
            "queue_ms": job.delay_ms,
            "execution_ms": job.execution_ms,
            "encode_ms": round((now() - (job.graph_done or 0.0)) * 1000),
            "nodes_ms": {node: round(seconds * 1000) for node, seconds in job.node_seconds.items()},
        }
        job.report, job.pictures = report, pictures
        await self._end(job, State.COMPLETED)

    async def _fail(self, job: Job, outcome: Outcome) -> None:
        assert job.request is not None
        log.warning("Flux Face: job %s failed in node %s (%s)", job.id, outcome.node_id, outcome.exception_type)
        await self.fail(
            job,
            explain_outcome(outcome, job.request.profile)
            if outcome.status == "error"
            else "[no_output] profile: the graph ended without handing back pictures. Correct the profile's graph",
        )

    async def _end(self, job: Job, state: State) -> None:
        if job.ended:
            return
        job.ended = True
        if state is State.TIMED_OUT:
            job.error = "[timed_out] policy: the job took longer than its time limit. Ask for less or allow more time"
        elif state is State.CANCELLED and job.error is None:
            job.error = "[cancelled] job: it was cancelled on request. Send it again"
        HANDOFF.close(job.id)
        self._node_starts.pop(job.id, None)
        job.preview = None
        finished = now()
        try:
            await self.store.call(JobStore.end, job, state, finished)
        except sqlite3.Error:
            log.exception("Flux Face: the end of job %s is not on record", job.id)
        job.state, job.finished = state, finished
        if state in (State.COMPLETED, State.CANCELLED) and job.request is not None:
            job.request = replace(job.request, photos={})  # a retry needs those of the others
        self.jobs.end(job)
        self.job_changed(job)
        self.metrics.observe(job)
        self._expire()
        if job.webhook is not None:
            self.job_ended()

    def _expire(self) -> None:
        gone = self.jobs.expire()
        if gone:
            self.store.send(JobStore.drop_pictures, gone)

    async def _watch(self) -> None:
        """Time limits, and whatever no event tells: a dead worker, a queue cleared by hand, an event that got lost."""
        drop_due = 0.0
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            try:
                await self._check_active()
                self._expire()
                if now() > drop_due:
                    drop_due = now() + _DROP_SECONDS
                    limits = self.settings.limits
                    self.store.send(
                        JobStore.drop_old,
                        now() - limits.record_seconds,
                        limits.max_records,
                        now() - limits.result_seconds,
                    )
            except Exception:
                log.exception("Flux Face: watching the jobs failed")

    async def _check_active(self) -> None:
        active = [job for job in self.jobs.active() if job.id not in self._finishing and not job.ended]
        pending = self.queue.pending() if active else set()
        alive = self.queue.worker_alive()
        when = now()
        for job in active:
            if job.id not in pending:
                self._finish_soon(job)
            elif not alive:
                self.queue.cancel(job.id)
                await self.fail(
                    job, "[server_broken] server: ComfyUI's worker thread has died. Restart ComfyUI and send it again"
                )
            elif job.ending is not None:
                await self.cancel(job)
            elif _is_over_time(job, when):
                await self.cancel(job, State.TIMED_OUT)


def _is_over_time(job: Job, when: float) -> bool:
    if job.request is None:
        return False
    ran_too_long = job.started is not None and when - job.started > job.request.execution_seconds
    return ran_too_long or when - job.created > job.request.ttl_seconds


def _queue_full(problem: str) -> UserInputError:
    return UserInputError("queue_full", "queue", problem, "Try again later")
