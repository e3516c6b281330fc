"""One job, and the jobs in memory: those that wait or run, and the pictures of finished ones, within bounds.

What outlives the memory is in the job table on disk (``store``).
"""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from .clock import now
from .encode import Picture
from .request import JobRequest
from .request_models import ImagesAs
from .settings import Limits

BASE = "/flux-face/v1"


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
        """Whether a job in this state has ended; only a retry makes it run again."""
        return self not in (State.IN_QUEUE, State.IN_PROGRESS)


FINAL_STATES = tuple(state for state in State if state.is_final)

Pictures = Mapping[str, tuple[Picture, ...]]
"""``images`` and perhaps ``generated``."""


@dataclass(eq=False)
class Job:
    """One job. Changed on the event loop only; times are of ``clock.now``.

    Attributes:
        id: ours, and the prompt id in ComfyUI's queue.
        caller: name of the token that sent it.
        profile: name of its graph.
        request: what it runs; None for a job of which only the record is left.
        priority: higher runs first.
        images_as: how the pictures are returned.
        webhook: address that is told of its end.
        idempotency_key: the client's name for this submission.
        digest: of what was submitted, to tell a repetition from another request under the same key.
        runs: how often its graph was started since the client last asked for it.
        number: its place in ComfyUI's queue, smaller first.
        ending: the state that a cancellation or time limit wants the job to end in once ComfyUI lets go of it.
        ended: whether its end is decided; the state turns final once that is on record.
        graph_done: when ComfyUI was finished and encoding began.
        report: RunPod's ``output`` without the pictures.
        pictures: the encoded results; None where there are none, or none any more.
        error: one line with a code in brackets first.
        progress: the running node, its step and the attempt, as last reported.
        preview: the latest picture of a sampler, as a data URI.
        node_seconds: node id of the profile -> time spent in it, its retries included.
        changed: set, and replaced by a new one, whenever the job changes.
        done: set once the state is final.
    """

    caller: str
    profile: str
    request: JobRequest | None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    priority: int = 0
    images_as: ImagesAs = "base64"
    webhook: str | None = None
    idempotency_key: str | None = None
    digest: str = ""
    runs: int = 0
    number: int = 0
    state: State = State.IN_QUEUE
    created: float = field(default_factory=now)
    started: float | None = None
    graph_done: float | None = None
    finished: float | None = None
    ending: State | None = None
    ended: bool = False
    report: dict[str, Any] | None = None
    pictures: Pictures | None = None
    error: str | None = None
    progress: dict[str, Any] = field(default_factory=dict)
    preview: str | None = None
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
        return _ms(self.created, self.started or self.finished or now())

    @property
    def execution_ms(self) -> int | None:
        """Time from start to end, or to now; None if it never started."""
        return None if self.started is None else _ms(self.started, self.finished or now())

    @property
    def held_bytes(self) -> int:
        """What it keeps in memory: photos and pictures. Does not change once the job has ended."""
        photos = self.request.photos.values() if self.request is not None else ()
        pictures = (picture for group in (self.pictures or {}).values() for picture in group)
        return sum(map(len, photos)) + sum(len(picture.data) for picture in pictures)

    def summary(self) -> dict[str, Any]:
        """What a list of jobs says of it."""
        summary: dict[str, Any] = {
            "id": self.id,
            "status": self.state.value,
            "profile": self.profile,
            "created": round(self.created, 3),
            "delayTime": self.delay_ms,
            "passed": self._passed(),
        }
        if self.execution_ms is not None:
            summary["executionTime"] = self.execution_ms
        if self.state is State.IN_PROGRESS and self.progress:
            summary["progress"] = self.progress
        if self.error is not None and self.state.is_final:
            summary["error"] = self.error
        return summary

    def to_json(self, *, addresses: bool = False) -> dict[str, Any]:
        """RunPod's status object. Encodes the pictures: call it off the event loop.

        Args:
            addresses: paths on this server in place of base64, whatever the request asked for.
        """
        status: dict[str, Any] = {"id": self.id, "status": self.state.value, "delayTime": self.delay_ms}
        if self.execution_ms is not None:
            status["executionTime"] = self.execution_ms
        if self.state is State.IN_PROGRESS and self.progress:
            status["output"] = {"progress": self.progress}
        if self.error is not None and self.state.is_final:  # it is known a little before the end is on record
            status["error"] = self.error
        if self.state is State.COMPLETED:
            gone = self.pictures is None and self.images_as != "none"
            pictures: Pictures = {"images": ()} if gone else self.pictures or {}
            by_address = addresses or self.images_as == "url"
            entries = {
                name: [self._entry(picture, by_address=by_address) for picture in group]
                for name, group in pictures.items()
            }
            status["output"] = {**entries, **(self.report or {})}
            if gone:
                status["error"] = (
                    "[result_gone] job: its pictures are not kept any longer, or were in memory when the server "
                    "stopped. Send it again"
                )
        return status

    def _entry(self, picture: Picture, *, by_address: bool) -> dict[str, str]:
        """A picture in the shape that worker-comfyui returns."""
        if picture.link is not None:
            return {"filename": picture.filename, "type": "s3_url", "data": picture.link}
        if by_address:
            return {"filename": picture.filename, "type": "url", "data": f"{BASE}/image/{self.id}/{picture.filename}"}
        return {
            "filename": picture.filename,
            "type": "base64",
            "data": base64.b64encode(picture.data).decode("ascii"),
        }

    def _passed(self) -> int | None:
        """How many of its pictures passed QA; None without QA."""
        verdicts = (self.report or {}).get("qa")
        return None if verdicts is None else sum(bool(verdict["passed"]) for verdict in verdicts)


class JobTable:
    """The jobs in memory. Used on the event loop only.

    Attributes:
        counts: jobs that have ended since the start, by state.
        result_bytes: pictures, and photos for a retry, of finished jobs.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._active: dict[str, Job] = {}
        self._finished: dict[str, Job] = {}  # oldest end first
        self.counts: dict[State, int] = dict.fromkeys(State, 0)
        self.result_bytes = 0

    def add(self, job: Job) -> None:
        """Enter a waiting job; one that had ended begins anew."""
        self._forget(job.id)
        self._active[job.id] = job

    def get(self, job_id: str) -> Job | None:
        """The job, or None if it is not in memory."""
        return self._active.get(job_id) or self._finished.get(job_id)

    def active(self) -> tuple[Job, ...]:
        """Waiting and running jobs, in order of arrival."""
        return tuple(self._active.values())

    def position(self, job: Job) -> int:
        """How many jobs of ours run before it, the running one included; 0 if it runs or has ended."""
        if job.state is not State.IN_QUEUE:
            return 0
        return sum(other.state is State.IN_PROGRESS or other.number < job.number for other in self._active.values())

    @property
    def waiting_bytes(self) -> int:
        """Photos of jobs that wait or run."""
        return sum(job.held_bytes for job in self._active.values())

    def end(self, job: Job) -> None:
        """Move a job whose state is final to the finished ones and wake whoever waits."""
        self.counts[job.state] += 1
        del self._active[job.id]
        self._finished[job.id] = job
        self.result_bytes += job.held_bytes
        job.done.set()
        job.notify()

    def expire(self) -> list[str]:
        """Forget finished jobs that are too old, too many or too large together; the newest always stays.

        Returns:
            Their ids: the record of them stays in the job table, their pictures do not.
        """
        too_old = now() - self._limits.result_seconds
        gone = []
        for job in tuple(self._finished.values()):
            beyond = len(self._finished) > self._limits.max_results or self.result_bytes > self._limits.max_result_bytes
            expired = job.finished is not None and job.finished < too_old
            if not expired and (not beyond or len(self._finished) == 1):
                break
            self._forget(job.id)
            gone.append(job.id)
        return gone

    def _forget(self, job_id: str) -> None:
        job = self._finished.pop(job_id, None)
        if job is not None:
            self.result_bytes -= job.held_bytes


def _ms(start: float, end: float) -> int:
    return round((end - start) * 1000)
