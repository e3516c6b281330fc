"""What becomes of the jobs that the last process left waiting or running."""

from __future__ import annotations

import json
import logging

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
    jobs = await service.store.call(JobStore.unfinished)
    # ComfyUI runs one graph at a time: of others that are on record as running only the end is not there.
    last_started = max((job.started or 0.0 for job in jobs), default=0.0)
    for job in jobs:
        service.jobs.add(job)
        try:
            await _requeue(service, job, suspect=job.started == last_started)
        except UserInputError as error:
            await service.fail(job, str(error))
        except VaultError as error:
            log.warning("Flux Face: job %s cannot go on after the restart: %s", job.id, error)
            await service.fail(
                job,
                "[key_changed] job: the server was restarted and cannot read the job any longer. "
                "Send it again with its photo",
            )


async def _requeue(service: JobService, job: Job, *, suspect: bool) -> None:
    request = await service.store.call(JobStore.request, job.id)
    if request is None:
        raise UserInputError(
            "server_restarted",
            "job",
            "the server was restarted and this job's request was in memory only",
            "Send it again with its photo",
        )
    if suspect and job.runs >= MOST_RUNS:
        raise UserInputError(
            "crashed_twice", "job", f"the server ended {job.runs} times while it ran", "Ask for fewer or smaller images"
        )
    kept = json.loads(request)
    if now() - job.created > kept["ttl_seconds"]:
        await service.time_out(job)
        return
    photos = await service.store.call(JobStore.photos, job.id)
    job.request = JobRequest.from_json(kept, photos, service.profiles)
    job.state, job.started = State.IN_QUEUE, None
    await service.enqueue(job, job.request, JobStore.requeue)
    log.info("Flux Face: job %s waits again after the restart", job.id)
