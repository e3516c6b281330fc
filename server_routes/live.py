"""Tells web pages over ComfyUI's web socket that a job or a download goes on: who asked for it, and what they may see.

An event names a job and how far it is. What else there is to know, a page asks the routes for, with its token. Nothing
is kept for a page that is slow or away: it asks again when it is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ..nodes.errors import UserInputError
from .auth import Caller
from .jobs import Job, State
from .service import JobService

JOBS_EVENT = "flux_face.jobs"
DOWNLOAD_EVENT = "flux_face.download"

_PAUSE_SECONDS = 0.25


class Live:
    """The pages that watch. Used on the event loop only.

    Args:
        service: whose jobs they watch.
        pause: seconds for which changes are gathered before they are told.
    """

    def __init__(self, service: JobService, pause: float = _PAUSE_SECONDS) -> None:
        self._service = service
        self._queue = service.queue
        self._pause = pause
        self._watchers: dict[str, Caller] = {}
        self._changed: dict[str, Job] = {}
        self._told: dict[str, dict[str, Any]] = {}
        self._download: Callable[[], dict[str, Any]] | None = None
        self._timer: asyncio.TimerHandle | None = None
        service.job_changed = self.job_changed

    def watch(self, client_id: str, caller: Caller) -> None:
        """Tell a page from now on, until its web socket closes; what it watched for another sender before ends.

        Raises:
            UserInputError: ``client_unknown``.
        """
        if not self._queue.is_connected(client_id):
            raise UserInputError(
                "client_unknown",
                "client_id",
                "no web socket is open under this id",
                "Connect to ComfyUI's /ws first, and send the clientId that you connected with",
            )
        self._watchers[client_id] = caller

    def job_changed(self, job: Job) -> None:
        """A job was added, went on or ended."""
        if self._watchers:
            self._changed[job.id] = job
            self._tell_soon()

    def download_changed(self, status: Callable[[], dict[str, Any]]) -> None:
        """A download went on or ended; ``status`` says how it is when the pages are told."""
        if self._watchers:
            self._download = status
            self._tell_soon()

    def _tell_soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._pause, self._tell)

    def _tell(self) -> None:
        self._timer = None
        self._watchers = {name: caller for name, caller in self._watchers.items() if self._queue.is_connected(name)}
        news = self._news()
        download, self._download = self._download and self._download(), None
        for client_id, caller in self._watchers.items():
            theirs = [event for owner, event in news if caller.may_see(owner)]
            if theirs:
                self._queue.tell(client_id, JOBS_EVENT, {"jobs": theirs})
            if download is not None and caller.is_admin:
                self._queue.tell(client_id, DOWNLOAD_EVENT, download)

    def _news(self) -> list[tuple[str, dict[str, Any]]]:
        """Whose job, and how it is, of all that are not as they were told last."""
        active = {job.id: job for job in self._service.jobs.active()}  # a start or end moves those that wait
        present = {**self._changed, **active}
        self._changed = {}
        events = {job_id: self._event(job) for job_id, job in present.items()}
        news = [(present[job_id].caller, event) for job_id, event in events.items() if self._told.get(job_id) != event]
        self._told = {job_id: events[job_id] for job_id in active}
        return news

    def _event(self, job: Job) -> dict[str, Any]:
        event: dict[str, Any] = {"id": job.id, "status": job.state.value}
        if job.state is State.IN_QUEUE:
            event["position"] = self._service.jobs.position(job)
        elif job.state is State.IN_PROGRESS:
            event |= {name: job.progress[name] for name in ("attempt", "value", "max") if name in job.progress}
        return event
