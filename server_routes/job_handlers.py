"""Jobs over HTTP, with RunPod's verbs and shapes."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from ..nodes.errors import UserInputError
from .auth import Caller
from .bodies import Submission, WatchBody, read_submission
from .jobs import Job, State
from .live import Live
from .request import Defaults
from .service import JobService
from .store import JobStore
from .stream import stream_job
from .validation import raise_invalid

log = logging.getLogger(__name__)

MAX_WAIT_MS = 600_000
_DEFAULT_WAIT_MS = 300_000
_MAX_LISTED = 500
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_PICTURE_TYPES = ("image/png", "image/jpeg", "image/webp")


class JobHandlers:
    """One method per route. Every job is its sender's own: to other callers it does not exist, but to admins."""

    def __init__(self, service: JobService, live: Live) -> None:
        self._service = service
        self._live = live

    async def run(self, request: web.Request, caller: Caller) -> web.Response:
        job = await self._submit(request, caller)
        return web.json_response({"id": job.id, "status": job.state.value})

    async def runsync(self, request: web.Request, caller: Caller) -> web.Response:
        return await self._run_and_wait(request, caller)

    async def faceswap(self, request: web.Request, caller: Caller) -> web.Response:
        """Only the swap: a photo's face into a given picture."""
        return await self._run_and_wait(request, caller, Defaults(profile=lambda _: "faceswap"))

    async def original_faceswap(self, request: web.Request, caller: Caller) -> web.Response:
        """The swap at the original's address, with its field names."""
        job = await self._submit(request, caller, Defaults(profile=lambda _: "faceswap"), _rename_original)
        await job.done.wait()
        return await self._job_response(job, _with_single_image)

    async def qa(self, request: web.Request, caller: Caller) -> web.Response:
        """Only the verdict on a given picture, compared with a photo if one is sent."""
        defaults = Defaults(profile=lambda photos: "qa-photo" if "user_photo" in photos else "qa", images_as="none")
        return await self._run_and_wait(request, caller, defaults)

    async def status(self, request: web.Request, caller: Caller) -> web.Response:
        """With ``images_as=url`` its pictures are addresses, so that a page can load those that it shows."""
        if request.query.get("images_as", "url") != "url":
            raise UserInputError(
                "value_out_of_range", "images_as", "only addresses can be asked for", "Use url, or leave it out"
            )
        addresses = "images_as" in request.query
        return await self._job_response(await self._job(request, caller), addresses=addresses)

    async def stream(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        """Server-sent events to who asks for them; else the next progress in the shape that RunPod's client polls."""
        job = await self._job(request, caller)
        if "text/event-stream" in request.headers.get("Accept", ""):
            return await stream_job(request, job, self._service)
        chunks = [] if job.state.is_final else [{"output": job.progress}]
        return web.json_response({"status": job.state.value, "stream": chunks})

    async def image(self, request: web.Request, caller: Caller) -> web.Response:
        """One finished picture's bytes."""
        job = await self._job(request, caller)
        for group in (job.pictures or {}).values():
            for picture in group:
                if picture.filename == request.match_info["filename"] and picture.link is None:
                    return web.Response(body=picture.data, content_type=picture.content_type)
        raise UserInputError(
            "image_not_found", "filename", "the job has no such picture here", "Ask for the job's status"
        )

    async def cancel(self, request: web.Request, caller: Caller) -> web.Response:
        job = await self._job(request, caller)
        await self._service.cancel(job)
        state = job.ending if job.ending is not None and not job.state.is_final else job.state
        return web.json_response({"id": job.id, "status": state.value})

    async def retry(self, request: web.Request, caller: Caller) -> web.Response:
        job = await self._job(request, caller)
        with self._service.admission(job.caller):
            again = await self._service.retry(job)
        return web.json_response({"id": again.id, "status": again.state.value})

    async def jobs(self, request: web.Request, caller: Caller) -> web.Response:
        """The caller's jobs without their pictures, the newest first; an admin's list has everybody's."""
        limit = _number(request, "limit", default=100, low=1, high=_MAX_LISTED)
        offset = _number(request, "offset", default=0, low=0, high=10_000_000)
        records = await self._service.store.call(
            JobStore.listing, None if caller.is_admin else caller.name, _states(request), limit, offset
        )
        present = [self._service.jobs.get(record.id) or record for record in records]
        return web.json_response({"jobs": [self._summary(job) for job in present]})

    def _summary(self, job: Job) -> dict[str, Any]:
        summary = job.summary()
        if job.state is State.IN_QUEUE:
            summary["position"] = self._service.jobs.position(job)
        return summary

    async def watch(self, request: web.Request, caller: Caller) -> web.Response:
        """Events of the caller's jobs over a page's web socket; says who the caller is."""
        submission = await read_submission(request, self._service.settings.limits)
        try:
            body = WatchBody.model_validate_json(submission.json)
        except ValidationError as error:
            raise_invalid(error, WatchBody)
        self._live.watch(body.client_id, caller)
        return web.json_response({"caller": caller.name, "admin": caller.is_admin})

    async def purge_queue(self, request: web.Request, caller: Caller) -> web.Response:
        removed = await self._service.purge_queue(None if caller.is_admin else caller.name)
        return web.json_response({"removed": removed, "status": "completed"})

    async def _run_and_wait(
        self, request: web.Request, caller: Caller, defaults: Defaults | None = None
    ) -> web.Response:
        wait_ms = _number(request, "wait", default=_DEFAULT_WAIT_MS, low=1000, high=MAX_WAIT_MS)
        wanted = _picture_wanted(request)
        job = await self._submit(request, caller, defaults)
        try:
            await asyncio.wait_for(job.done.wait(), wait_ms / 1000)
        except asyncio.TimeoutError:
            log.debug("Flux Face: job %s outlasted the wait of its runsync", job.id)
        if wanted and job.state is State.COMPLETED:
            return _picture_response(job)
        return await self._job_response(job)

    async def _submit(
        self,
        request: web.Request,
        caller: Caller,
        defaults: Defaults | None = None,
        change: Callable[[Submission], Submission] | None = None,
    ) -> Job:
        key = request.headers.get("Idempotency-Key")
        if key is not None and not _KEY.fullmatch(key):
            raise UserInputError(
                "value_out_of_range",
                "Idempotency-Key",
                "the key is empty, too long, or not plain ASCII",
                "Use 1 to 255 letters, digits and signs",
            )
        with self._service.admission(caller.name):
            submission = await read_submission(request, self._service.settings.limits)
            if change is not None:
                submission = await self._service.off_loop(change, submission)
            return await self._service.submit(submission, caller.name, key, defaults)

    async def _job(self, request: web.Request, caller: Caller) -> Job:
        job = await self._service.find(request.match_info["id"])
        if job is None or not caller.may_see(job.caller):
            raise UserInputError(
                "job_not_found",
                "id",
                "there is no such job, or its record has expired",
                "Check the id or send it again",
            )
        return job

    async def _job_response(
        self,
        job: Job,
        change: Callable[[dict[str, Any]], dict[str, Any]] = lambda status: status,
        *,
        addresses: bool = False,
    ) -> web.Response:
        # Megabytes of base64: writing the JSON here would hold up every other client.
        text = await self._service.off_loop(lambda: json.dumps(change(job.to_json(addresses=addresses))))
        return web.json_response(text=text)


def _picture_wanted(request: web.Request) -> bool:
    accepted = [part.partition(";")[0].strip().lower() for part in request.headers.get("Accept", "").split(",")]
    return any(kind == "image/*" or kind in _PICTURE_TYPES for kind in accepted)


def _picture_response(job: Job) -> web.Response:
    """The one picture of a job whose client asked for a picture instead of JSON."""
    pictures = (job.pictures or {}).get("images", ())
    if len(pictures) != 1 or pictures[0].link is not None:
        raise UserInputError(
            "not_acceptable",
            "Accept",
            f"the job {job.id} has {len(pictures)} pictures, and only one can be an answer by itself",
            "Ask for JSON, or for a batch of 1 without images_as",
        )
    return web.Response(body=pictures[0].data, content_type=pictures[0].content_type, headers={"Flux-Face-Job": job.id})


def _rename_original(submission: Submission) -> Submission:
    """The face-swap workers' names of the two pictures to ours."""
    try:
        body = json.loads(submission.json)
        given = body["input"]
        renamed = {"source_image": "user_photo"}
        body["input"] = {renamed.get(name, name): value for name, value in given.items()}
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return submission  # refused where every body is checked
    return Submission(json.dumps(body).encode(), submission.files)


def _with_single_image(status: dict[str, Any]) -> dict[str, Any]:
    """The first picture where clients of face-swap workers look for it."""
    images = status.get("output", {}).get("images")
    if images:
        status["output"]["image"] = images[0]["data"]
    return status


def _states(request: web.Request) -> list[State]:
    names = request.query["state"].split(",") if "state" in request.query else []
    known = [state.value for state in State]
    for name in names:
        if name not in known:
            raise UserInputError(
                "value_out_of_range", "state", f"there is no state {name[:40]!r}", f"Use {', '.join(known)}"
            )
    return [State(name) for name in names]


def _number(request: web.Request, name: str, *, default: int, low: int, high: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal()) or len(text) > 12 or not low <= int(text) <= high:
        raise UserInputError(
            "value_out_of_range", name, f"the value is {text[:20]!r}", f"Use a whole number from {low} to {high}"
        )
    return int(text)
