"""The job table: what RunPod's clients see of a job, bounded in number, bytes and time."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from .request import JobRequest
from .settings import Limits


class State(str, Enum):
    """RunPod's job states."""

    IN_QUEUE = "IN_QUEUE"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"

    @property
    def is_final(self) -> bool:
        """Whether a job in this state never changes again."""
        return self not in (State.IN_QUEUE, State.IN_PROGRESS)


@dataclass(eq=False)
class Job:
    """One job. Changed on the event loop only; times are seconds of ``time.monotonic``.

    Attributes:
        id: ours, and the prompt id in ComfyUI's queue.
        request: without its photos, which only the handoff holds.
        ending: the state that a cancellation or time limit wants the job to end in once ComfyUI lets go of it.
        graph_done: when ComfyUI was finished and encoding began.
        output: RunPod's ``output``.
        error: one line with a code in brackets first.
        progress: the running node and its step, as last reported.
        node_seconds: node id of the profile -> time spent in it, its retries included.
        changed: set, and replaced by a new one, whenever the job changes.
        done: set once the state is final.
    """

    request: JobRequest
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    state: State = State.IN_QUEUE
    created: float = field(default_factory=time.monotonic)
    started: float | None = None
    graph_done: float | None = None
    finished: float | None = None
    ending: State | None = None
    output: dict[str, Any] | None = None
    output_bytes: int = 0
    error: str | None = None
    progress: dict[str, Any] = field(default_factory=dict)
    node_seconds: dict[str, float] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def notify(self) -> None:
        """Wake whoever watches the job."""
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    @property
    def delay_ms(self) -> int:
        """Time in the queue so far, or until it started or ended."""
        return _ms(self.created, self.started or self.finished or time.monotonic())

    @property
    def execution_ms(self) -> int | None:
        """Time from start to end, or to now; None if it never started."""
        return None if self.started is None else _ms(self.started, self.finished or time.monotonic())

    def to_json(self) -> dict[str, Any]:
        """RunPod's status object."""
        status: dict[str, Any] = {"id": self.id, "status": self.state.value, "delayTime": self.delay_ms}
        if self.execution_ms is not None:
            status["executionTime"] = self.execution_ms
        if self.state is State.IN_PROGRESS and self.progress:
            status["output"] = {"progress": self.progress}
        if self.output is not None:
            status["output"] = self.output
        if self.error is not None:
            status["error"] = self.error
        return status


class JobTable:
    """All jobs that can be asked for. Used on the event loop only.

    Attributes:
        counts: jobs that have ended, by state.
        queue_seconds: how long they waited, together.
        execution_seconds: how long they ran, together.
        result_bytes: size of the encoded pictures that are kept.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._active: dict[str, Job] = {}
        self._finished: dict[str, Job] = {}  # oldest end first
        self.counts: dict[State, int] = dict.fromkeys(State, 0)
        self.queue_seconds = 0.0
        self.execution_seconds = 0.0
        self.result_bytes = 0

    def add(self, job: Job) -> None:
        """Enter a waiting job."""
        self._active[job.id] = job

    def get(self, job_id: str) -> Job | None:
        """The job, or None if it is unknown or its result has expired."""
        return self._active.get(job_id) or self._finished.get(job_id)

    def active(self) -> tuple[Job, ...]:
        """Waiting and running jobs, in order of arrival."""
        return tuple(self._active.values())

    def all(self) -> tuple[Job, ...]:
        """Every job that can be asked for: the active ones, then the finished, oldest first."""
        return (*self._active.values(), *self._finished.values())

    def position(self, job: Job) -> int:
        """How many jobs of ours are before it; 0 if it runs, is next or has ended."""
        if job.state is not State.IN_QUEUE:
            return 0
        return list(self._active).index(job.id)

    def end(self, job: Job, state: State) -> None:
        """Make the state final, wake whoever waits, and forget the oldest results beyond the limits."""
        job.state = state
        job.finished = time.monotonic()
        self.counts[state] += 1
        del self._active[job.id]
        self._finished[job.id] = job
        self.queue_seconds += job.delay_ms / 1000
        self.execution_seconds += (job.execution_ms or 0) / 1000
        self.result_bytes += job.output_bytes
        job.done.set()
        job.notify()
        self.expire()

    def expire(self) -> None:
        """Forget finished jobs that are too old, too many or too large together; the newest always stays."""
        too_old = time.monotonic() - self._limits.result_seconds
        while self._finished:
            oldest = next(iter(self._finished.values()))
            beyond = len(self._finished) > self._limits.max_results or self.result_bytes > self._limits.max_result_bytes
            expired = oldest.finished is not None and oldest.finished < too_old
            if not expired and (not beyond or len(self._finished) == 1):
                return
            del self._finished[oldest.id]
            self.result_bytes -= oldest.output_bytes


def _ms(start: float, end: float) -> int:
    return round((end - start) * 1000)
