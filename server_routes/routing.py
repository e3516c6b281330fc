"""The route table's rows, and what every request passes through: authorisation, rates, and errors told as JSON."""

from __future__ import annotations

import asyncio
import logging
import math
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from aiohttp import web

from ..nodes.errors import UserInputError
from .auth import LOCAL, TOKEN_HEADER, Caller, authorise
from .jobs import BASE
from .metrics import Metrics
from .rates import RateLimiter
from .settings import Settings

log = logging.getLogger(__name__)

Handler = Callable[[web.Request, Caller], Awaitable[web.StreamResponse]]

_BURST_SECONDS = 6
STATUS_CODES: Mapping[str, int] = {
    "unauthorised": 401,
    "origin_refused": 403,
    "admin_only": 403,
    "client_unknown": 404,
    "job_not_found": 404,
    "image_not_found": 404,
    "model_unknown": 404,
    "not_acceptable": 406,
    "body_timeout": 408,
    "url_timeout": 408,
    "download_running": 409,
    "idempotency_conflict": 409,
    "job_not_failed": 409,
    "photo_gone": 410,
    "body_too_large": 413,
    "photo_too_large": 413,
    "body_type": 415,
    "photo_format": 415,
    "queue_full": 429,
    "rate_limited": 429,
    "internal": 500,
    "server_broken": 503,
    "record_failed": 503,
}
_RETRY_AFTER_SECONDS = 5


class Access(Enum):
    """Whom a route answers."""

    EVERYONE = "everyone"
    CALLERS = "callers"
    ADMINS = "admins"


@dataclass(frozen=True)
class Parameter:
    """A query parameter, path parameter or header.

    Attributes:
        name: on the wire.
        place: ``query``, ``path`` or ``header``.
        schema: JSON Schema of its value.
        text: what it is for.
    """

    name: str
    place: str
    schema: Mapping[str, Any]
    text: str


@dataclass(frozen=True)
class Route:
    """One row of the route table; ``openapi`` writes the document from it.

    Attributes:
        method: HTTP method.
        path: below ``base``.
        handler: answers.
        name: OpenAPI's operation id.
        summary: what it does, in one line.
        answer: name of the answer's schema in ``schemas``.
        access: whom it answers.
        submits: whether it takes a job, which costs more than a look.
        body: name of the body's schema in ``schemas``, or None.
        example: of a body.
        parameters: of path, query and header.
        media_types: of good answers.
        refusals: status codes of its own errors, beside those that the gate answers.
        base: what comes before ``path``.
        good: status code of good answers.
        also: further status codes whose answers look like the good ones.
        tag: heading of the document under which it stands.
    """

    method: str
    path: str
    handler: Handler
    name: str
    summary: str
    answer: str
    access: Access = Access.CALLERS
    submits: bool = False
    body: str | None = None
    example: Mapping[str, Any] | None = None
    parameters: tuple[Parameter, ...] = ()
    media_types: tuple[str, ...] = ("application/json",)
    refusals: tuple[int, ...] = ()
    base: str = BASE
    good: int = 200
    also: tuple[int, ...] = ()
    tag: str = "Jobs"


class Gate:
    """Wraps handlers. Used on the event loop only."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        limits = settings.limits
        self._settings = settings
        self._metrics = metrics
        self._submissions = _limiter(limits.jobs_per_minute)
        self._requests = _limiter(limits.requests_per_minute)

    def wrap(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """The handler as ComfyUI's router takes it."""

        async def answer(request: web.Request) -> web.StreamResponse:
            try:
                response = await route.handler(request, self._admit(request, route))
            except UserInputError as error:
                response = error_response(error)
            except sqlite3.Error:
                log.exception("Flux Face: the job table cannot be used")
                response = error_response(
                    UserInputError(
                        "record_failed", "server", "the job table cannot be used", "Free disk space and try again"
                    )
                )
            except (web.HTTPException, asyncio.CancelledError, ConnectionError):
                raise
            except Exception:
                log.exception("Flux Face: %s %s failed", route.method, route.path)
                response = error_response(
                    UserInputError("internal", "server", "the server failed", "See its log and try again")
                )
            self._metrics.requests[route.path, response.status] += 1
            return response

        return answer

    def _admit(self, request: web.Request, route: Route) -> Caller:
        if route.access is Access.EVERYONE:
            return Caller("", is_admin=False)
        caller = authorise(request, self._settings)
        if caller.name != LOCAL or self._settings.tokens:
            self._check_rate(self._requests, caller, "requests")
            if route.submits:
                self._check_rate(self._submissions, caller, "jobs")
        if route.access is Access.ADMINS and not caller.is_admin:
            raise UserInputError(
                "admin_only",
                "Authorization",
                "this token may not do that",
                "The operator names admins: FLUX_FACE_ADMINS",
            )
        return caller

    def _check_rate(self, limiter: RateLimiter, caller: Caller, what: str) -> None:
        wait = limiter.take(caller.name)
        if wait:
            raise RateLimitedError(what, wait)


class RateLimitedError(UserInputError):
    """Too many requests of one token.

    Attributes:
        wait: seconds until one is allowed.
    """

    def __init__(self, what: str, wait: float) -> None:
        super().__init__(
            "rate_limited", "Authorization", f"this token has sent too many {what}", f"Wait {wait:.1f} seconds"
        )
        self.wait = wait


def error_response(error: UserInputError) -> web.Response:
    """An error as JSON, with the status code that its own code means."""
    status = STATUS_CODES.get(error.code, 400)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if status == 429:
        wait = error.wait if isinstance(error, RateLimitedError) else _RETRY_AFTER_SECONDS
        headers["Retry-After"] = str(math.ceil(wait))
    body: dict[str, Any] = {
        "error": {
            "code": error.code,
            "field": error.field,
            "message": f"{error.field}: {error.problem}. {error.remedy}",
            "remedy": error.remedy,
        }
    }
    return web.json_response(body, status=status, headers=headers)


def cross_origin(settings: Settings) -> Callable[..., Awaitable[web.StreamResponse]]:
    """A middleware for web pages of the operator's origins: answers their preflights and lets them read the answers.

    ComfyUI's own middlewares, which refuse every other origin, are passed by for these requests only.
    """

    @web.middleware
    async def answer(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        origin = request.headers.get("Origin", "")
        preflight = request.method == "OPTIONS"
        if origin.lower() not in settings.cors_origins or not _is_ours(request, preflight=preflight):
            return await handler(request)
        if preflight:
            response: web.StreamResponse = web.Response(
                headers={
                    "Access-Control-Allow-Methods": "GET, POST",
                    "Access-Control-Allow-Headers": f"Authorization, {TOKEN_HEADER}, Content-Type, Idempotency-Key",
                    "Access-Control-Max-Age": "600",
                }
            )
        else:
            # Sent with the head of the response, which a stream does before its handler returns.
            request[ORIGIN] = origin
            response = await request.match_info.handler(request)
        if not response.prepared:
            response.headers.update(_origin_headers(origin))
        return response

    return answer


ORIGIN = "flux_face_origin"


def _is_ours(request: web.Request, *, preflight: bool) -> bool:
    """Whether it goes to one of our routes. A preflight reaches no route, and its answer opens none."""
    resource = request.match_info.route.resource
    path = request.path if preflight else "" if resource is None else resource.canonical
    return path.startswith((f"{BASE}/", f"/api{BASE}/"))


def stream_headers(request: web.Request) -> dict[str, str]:
    """Headers of a streamed answer that a page of another origin may read; empty for all others."""
    origin = request.get(ORIGIN)
    return {} if origin is None else _origin_headers(origin)


def _origin_headers(origin: str) -> dict[str, str]:
    return {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}


def _limiter(per_minute: int) -> RateLimiter:
    return RateLimiter(per_minute, burst=max(1, per_minute * _BURST_SECONDS // 60))
