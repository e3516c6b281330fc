"""Whether a job sent now would run, and the warm-up that must come first where the operator asks for one."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..nodes.errors import UserInputError
from .bodies import Submission
from .jobs import State
from .service import JobService

log = logging.getLogger(__name__)

WARM_UP_CALLER = "warm-up"
_WARM_UP_PHOTO = Path(__file__).with_name("warm_up.jpg")
_WARM_UP_PROMPT = "portrait of a person"
# How long a job may go on after its time limit before the server counts as hung.
_GRACE_SECONDS = 10


@dataclass(frozen=True)
class Condition:
    """How the server is.

    Attributes:
        reasons: why a job sent now would not run; empty where it would.
        warm: whether the warm-up has ended well, or none was asked for.
        jobs: waiting and running ones.
        running_ms: age of the running job.
        free_disk_bytes: where the job table is.
    """

    reasons: tuple[str, ...]
    warm: bool
    jobs: int
    running_ms: int
    free_disk_bytes: int

    def to_json(self) -> dict[str, Any]:
        """The body of ``GET /ready``."""
        return {
            "ready": not self.reasons,
            "reasons": list(self.reasons),
            "warm": self.warm,
            "jobs": self.jobs,
            "running_ms": self.running_ms,
            "free_disk_bytes": self.free_disk_bytes,
        }


class Readiness:
    """Looks at the service each time it is asked.

    Args:
        service: what runs the jobs.
        folder: where the job table is, whose disk must have room.
    """

    def __init__(self, service: JobService, folder: Path) -> None:
        self._service = service
        self._folder = folder
        self._cold = service.settings.warm_up is not None
        self._warm_up_error: str | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin the warm-up; called once, when the event loop runs."""
        if self._cold:
            self._task = asyncio.get_running_loop().create_task(self._warm_up())

    async def condition(self) -> Condition:
        """The condition now."""
        service = self._service
        limits = service.settings.limits
        jobs = service.jobs.active()
        reasons = []
        if not service.queue.worker_alive():
            reasons.append("ComfyUI's worker thread is dead: restart ComfyUI")
        overdue = [
            job
            for job in jobs
            if job.request and (job.execution_ms or 0) > (job.request.execution_seconds + _GRACE_SECONDS) * 1000
        ]
        if overdue:
            reasons.append("the running job does not stop after its time limit: restart ComfyUI")
        if len(jobs) >= limits.max_queue:
            reasons.append(f"the queue is full: {len(jobs)} jobs of {limits.max_queue}")
        free = (await service.off_loop(shutil.disk_usage, self._folder)).free
        if free < limits.min_free_disk_bytes:
            reasons.append(f"the disk is nearly full: {free} bytes are free, {limits.min_free_disk_bytes} are needed")
        if self._warm_up_error is not None:
            reasons.append(f"the warm-up failed: {self._warm_up_error}")
        elif self._cold:
            reasons.append("the warm-up has not ended yet")
        oldest = max((job.execution_ms or 0 for job in jobs), default=0)
        return Condition(tuple(reasons), not self._cold, len(jobs), oldest, free)

    async def _warm_up(self) -> None:
        """Run the warm-up's profile once, so that its models are loaded before the first client waits for them."""
        name = self._service.settings.warm_up
        assert name is not None
        profile = self._service.profiles[name]
        job_input: dict[str, Any] = {"profile": name, "images_as": "none"}
        if "prompt" in profile.bindings:
            job_input["prompt"] = _WARM_UP_PROMPT
        if "max_attempts" in profile.bindings:
            job_input["max_attempts"] = 1
        photo = _WARM_UP_PHOTO.read_bytes()
        files = {field: photo for field in ("user_photo", "target_image") if field in profile.bindings}
        try:
            with self._service.admission(WARM_UP_CALLER):
                submission = Submission(json.dumps({"input": job_input}).encode(), files)
                job = await self._service.submit(submission, WARM_UP_CALLER)
        except UserInputError as error:
            self._warm_up_error = str(error)
        else:
            await job.done.wait()
            if job.state is not State.COMPLETED:
                self._warm_up_error = job.error
        self._cold = self._warm_up_error is not None
        if self._warm_up_error is None:
            log.info("Flux Face: warmed up with profile %s", name)
        else:
            log.error("Flux Face: the warm-up with profile %s failed: %s", name, self._warm_up_error)
