"""Tells the webhooks of finished jobs, again and again until they hear; what is due is in the job table."""

from __future__ import annotations

import asyncio
import json
import logging

from .clock import now
from .jobs import Job
from .service import JobService
from .store import JobStore
from .webhooks import deliver

log = logging.getLogger(__name__)

_LOOK_SECONDS = 5.0
_AT_A_TIME = 8


class Notifier:
    """One task that delivers what is due."""

    def __init__(self, service: JobService) -> None:
        self._service = service
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        service.job_ended = self._wake.set

    def start(self) -> None:
        """Begin; called once, when the event loop runs."""
        if self._service.settings.webhook_secrets:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while True:
            try:
                due = await self._service.store.call(JobStore.due_webhooks, now(), _AT_A_TIME)
                await asyncio.gather(*(self._deliver(job, tries) for job, tries in due))
            except Exception:
                log.exception("Flux Face: webhooks could not be sent")
                due = []
            if len(due) == _AT_A_TIME:
                continue
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), _LOOK_SECONDS)
            except asyncio.TimeoutError:
                continue

    async def _deliver(self, record: Job, tries: int) -> None:
        service = self._service
        job = await service.find(record.id) or record
        body = await service.off_loop(lambda: json.dumps(job.to_json()).encode())
        assert record.webhook is not None
        settings = service.settings
        delivery = await deliver(
            record.webhook, record.id, body, settings.webhook_secrets, settings.addresses, attempt=tries + 1
        )
        service.metrics.webhooks[delivery.state] += 1
        if delivery.state != "delivered":
            log.warning("Flux Face: the webhook of job %s was not delivered: %s", record.id, delivery.reason)
        due = None if delivery.retry_seconds is None else now() + delivery.retry_seconds
        await service.store.call(JobStore.webhook_tried, record.id, tries + 1, due)
