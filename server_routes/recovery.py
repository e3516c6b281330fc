"""What becomes of the jobs that the last process left waiting or running."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from ..nodes.errors import UserInputError
from .clock import now
from .jobs import Job, State
from .request import JobRequest
from .service import JobService
from .store import JobStore
from .vault import VaultError

log = logging.getLogger(__name__)

# One that takes the process down with it must not do so for ever.
MOST_RUNS = 2


async def recover(service: JobService) -> None:
    """End the jobs whose photos went with the process; queue the durable ones again, the interrupted ones first."""
    for job, request in await service.store.call(JobStore.unfinished):
        service.jobs.add(job)
        try:
            await _requeue(service, job, None if request is None else json.loads(request))
        except UserInputError as error:
            await service.fail(job, str(error))
        except VaultError as error:
            await service.fail(job, f"[photo_gone] user_photo: {error}. Send the job again with its photo")


async def _requeue(service: JobService, job: Job, kept: Mapping[str, Any] | None) -> None:
    if kept is None:
        raise UserInputError(
            "server_restarted",
            "job",
            "the server was restarted and this job's request was in memory only",
            "Send it again with its photo",
        )
    if job.runs >= MOST_RUNS:
        raise UserInputError(
            "crashed_twice", "job", f"the server ended {job.runs} times while it ran", "Ask for fewer or smaller images"
        )
    if now() - job.created > kept["ttl_seconds"]:
        await service.time_out(job)
        return
    photos = await service.store.call(JobStore.photos, job.id)
    job.request = JobRequest.from_json(kept, photos, service.profiles)
    job.state, job.started = State.IN_QUEUE, None
    await service.enqueue(job, job.request, JobStore.requeue)
    log.info("Flux Face: job %s waits again after the restart", job.id)
