"""The HTTP surface: RunPod's verbs and shapes under /flux-face/v1."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from ..nodes.errors import UserInputError
from .auth import caller
from .jobs import Job, State
from .metrics import PROMETHEUS_TYPE, prometheus_text
from .service import JobService
from .stream import stream_job

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

BASE = "/flux-face/v1"
_MAX_WAIT_MS = 600_000
_DEFAULT_WAIT_MS = 300_000
_STATUS_CODES = {
    "unauthorised": 401,
    "job_not_found": 404,
    "body_timeout": 408,
    "body_too_large": 413,
    "photo_too_large": 413,
    "body_type": 415,
    "photo_format": 415,
    "queue_full": 429,
    "server_broken": 503,
}


class Handlers:
    """One method per route."""

    def __init__(self, service: JobService) -> None:
        self._service = service

    def routes(self) -> list[web.RouteDef]:
        """The route table."""
        return [
            web.post(f"{BASE}/run", self._guarded(self.run)),
            web.post(f"{BASE}/runsync", self._guarded(self.runsync)),
            web.get(f"{BASE}/status/{{id}}", self._guarded(self.status)),
            web.post(f"{BASE}/status/{{id}}", self._guarded(self.status)),  # RunPod's local API asks by POST
            web.get(f"{BASE}/stream/{{id}}", self._guarded(self.stream)),
            web.post(f"{BASE}/cancel/{{id}}", self._guarded(self.cancel)),
            web.post(f"{BASE}/faceswap", self._guarded(self.faceswap)),
            web.get(f"{BASE}/jobs", self._guarded(self.jobs)),
            web.post(f"{BASE}/purge-queue", self._guarded(self.purge_queue)),
            web.get(f"{BASE}/metrics", self._guarded(self.metrics)),
            web.get(f"{BASE}/profiles", self._guarded(self.profiles)),
            web.get(f"{BASE}/health", self.health),
            web.get(f"{BASE}/ready", self.ready),
        ]

    async def run(self, request: web.Request) -> web.Response:
        job = await self._submit(request)
        return web.json_response({"id": job.id, "status": job.state.value})

    async def runsync(self, request: web.Request) -> web.Response:
        return await self._run_and_wait(request, None)

    async def faceswap(self, request: web.Request) -> web.Response:
        """Only the swap: a photo's face into a given picture."""
        return await self._run_and_wait(request, "faceswap")

    async def _run_and_wait(self, request: web.Request, profile: str | None) -> web.Response:
        wait_ms = _wait_ms(request)
        job = await self._submit(request, profile)
        try:
            await asyncio.wait_for(job.done.wait(), wait_ms / 1000)
        except asyncio.TimeoutError:
            log.debug("Flux Face: job %s outlasted the wait of its runsync", job.id)
        return await self._job_response(job)

    async def status(self, request: web.Request) -> web.Response:
        return await self._job_response(self._job(request))

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events to who asks for them; else the next progress in the shape that RunPod's client polls."""
        job = self._job(request)
        if "text/event-stream" in request.headers.get("Accept", ""):
            return await stream_job(request, job, self._service)
        chunks = [] if job.state.is_final else [{"output": job.progress}]
        return web.json_response({"status": job.state.value, "stream": chunks})

    async def cancel(self, request: web.Request) -> web.Response:
        job = self._job(request)
        self._service.cancel(job)
        state = job.ending if job.ending is not None and not job.state.is_final else job.state
        return web.json_response({"id": job.id, "status": state.value})

    async def jobs(self, request: web.Request) -> web.Response:
        """All jobs that can be asked for, without their pictures."""
        listing = [
            {key: value for key, value in job.to_json().items() if key != "output"} for job in self._service.jobs.all()
        ]
        return web.json_response({"jobs": listing})

    async def purge_queue(self, request: web.Request) -> web.Response:
        return web.json_response({"removed": self._service.purge_queue(), "status": "completed"})

    async def metrics(self, request: web.Request) -> web.Response:
        return web.Response(text=prometheus_text(self._service), headers={"Content-Type": PROMETHEUS_TYPE})

    async def profiles(self, request: web.Request) -> web.Response:
        default = self._service.settings.default_profile
        listing = [
            {
                "name": profile.name,
                "default": profile.name == default,
                "fields": sorted(set(profile.bindings) - {"job_id"}),
                "defaults": dict(profile.defaults),
            }
            for profile in self._service.profiles.values()
        ]
        return web.json_response({"profiles": listing})

    async def health(self, request: web.Request) -> web.Response:
        """The process answers; in RunPod's shape. Open to all: it names no job."""
        jobs = self._service.jobs
        active = jobs.active()
        running = sum(job.state is State.IN_PROGRESS for job in active)
        alive = self._service.queue.worker_alive()
        return web.json_response(
            {
                "jobs": {
                    "completed": jobs.counts[State.COMPLETED],
                    "failed": jobs.counts[State.FAILED] + jobs.counts[State.TIMED_OUT],
                    "inProgress": running,
                    "inQueue": len(active) - running,
                    "retried": 0,
                },
                "workers": {"idle": int(alive and not running), "running": int(alive and running > 0)},
            }
        )

    async def ready(self, request: web.Request) -> web.Response:
        """Whether a job sent now would run: 200, or 503 with the reasons."""
        jobs = self._service.jobs.active()
        limits = self._service.settings.limits
        reasons = []
        if not self._service.queue.worker_alive():
            reasons.append("ComfyUI's worker thread is dead: restart ComfyUI")
        if len(jobs) >= limits.max_queue:
            reasons.append(f"the queue is full: {len(jobs)} jobs of {limits.max_queue}")
        overdue = [job for job in jobs if (job.execution_ms or 0) > (job.request.execution_seconds + 10) * 1000]
        if overdue:
            reasons.append("the running job does not stop after its time limit: restart ComfyUI")
        oldest = max((job.execution_ms or 0 for job in jobs), default=0)
        body = {"ready": not reasons, "reasons": reasons, "jobs": len(jobs), "running_ms": oldest}
        return web.json_response(body, status=503 if reasons else 200)

    def _guarded(self, handler: Handler) -> Handler:
        """Authorise, and turn mistakes into answers that name field, problem and remedy."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            try:
                if caller(request, self._service.settings.tokens) is None:
                    raise _unauthorised(bool(self._service.settings.tokens))
                return await handler(request)
            except UserInputError as error:
                return _error_response(error)
            except (web.HTTPException, asyncio.CancelledError, ConnectionError):
                raise
            except Exception:
                log.exception("Flux Face: %s %s failed", request.method, request.path)
                return _error_response(
                    UserInputError("internal", "server", "the server failed", "See its log and try again")
                )

        return guarded

    async def _submit(self, request: web.Request, profile: str | None = None) -> Job:
        if request.content_type != "application/json":
            raise UserInputError(
                "body_type",
                "Content-Type",
                f"the content type is {request.content_type!r}",
                "Send JSON with Content-Type: application/json",
            )
        limits = self._service.settings.limits
        with self._service.admission():
            try:
                body = await asyncio.wait_for(_read_body(request, limits.max_body_bytes), limits.body_seconds)
            except asyncio.TimeoutError as error:
                raise UserInputError(
                    "body_timeout",
                    "body",
                    f"the body did not arrive within {limits.body_seconds} seconds",
                    "Send a smaller photo or use a faster connection",
                ) from error
            return await self._service.submit(body, profile)

    def _job(self, request: web.Request) -> Job:
        job = self._service.jobs.get(request.match_info["id"])
        if job is None:
            raise UserInputError(
                "job_not_found",
                "id",
                "there is no such job, or its result has expired",
                "Check the id or send it again",
            )
        return job

    async def _job_response(self, job: Job) -> web.Response:
        # Megabytes of base64: writing the JSON here would hold up every other client.
        text = await self._service.off_loop(json.dumps, job.to_json())
        return web.json_response(text=text)


async def _read_body(request: web.Request, limit: int) -> bytes:
    """The whole body, given up as soon as it is known to be too large."""
    too_large = UserInputError(
        "body_too_large", "body", f"the body is over the limit of {limit} bytes", "Send a smaller photo"
    )
    if request.content_length is not None and request.content_length > limit:
        raise too_large
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > limit:
            raise too_large
    return bytes(body)


def _wait_ms(request: web.Request) -> int:
    text = request.query.get("wait")
    if text is None:
        return _DEFAULT_WAIT_MS
    if not text.isdecimal() or not 1000 <= int(text) <= _MAX_WAIT_MS:
        raise UserInputError(
            "value_out_of_range",
            "wait",
            f"the value is {text[:20]!r}",
            f"Use whole milliseconds from 1000 to {_MAX_WAIT_MS}",
        )
    return int(text)


def _unauthorised(tokens_exist: bool) -> UserInputError:
    if tokens_exist:
        return UserInputError(
            "unauthorised",
            "Authorization",
            "the bearer token is missing or wrong",
            "Send the header Authorization: Bearer <token>",
        )
    return UserInputError(
        "unauthorised",
        "Authorization",
        "without tokens this server takes jobs from its own machine only",
        "Set FLUX_FACE_API_TOKENS=name:token for ComfyUI and send the token",
    )


def _error_response(error: UserInputError) -> web.Response:
    status = 500 if error.code == "internal" else _STATUS_CODES.get(error.code, 400)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {"Retry-After": "5"} if status == 429 else None
    body: dict[str, Any] = {
        "error": {
            "code": error.code,
            "field": error.field,
            "message": f"{error.field}: {error.problem}. {error.remedy}",
            "remedy": error.remedy,
        }
    }
    return web.json_response(body, status=status, headers=headers)
