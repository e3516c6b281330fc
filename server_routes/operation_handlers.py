"""What operators and load balancers ask: how the server is, what it can run, and how to talk to it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

from aiohttp import web

from .auth import Caller
from .jobs import State
from .metrics import PROMETHEUS_TYPE, prometheus_text
from .readiness import Readiness
from .service import JobService

_DOCS_PAGE = Path(__file__).with_name("docs.html")


class OperationHandlers:
    """One method per route.

    Attributes:
        document: the OpenAPI document; written once the route table is complete.
    """

    def __init__(self, service: JobService, readiness: Readiness) -> None:
        self._service = service
        self._readiness = readiness
        self.document: dict[str, object] = {}

    async def health(self, request: web.Request, caller: Caller) -> web.Response:
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
                    "retried": self._service.metrics.retried,
                },
                "workers": {"idle": int(alive and not running), "running": int(alive and running > 0)},
            }
        )

    async def ready(self, request: web.Request, caller: Caller) -> web.Response:
        """Whether a job sent now would run: 200, or 503 with the reasons."""
        condition = await self._readiness.condition()
        return web.json_response(condition.to_json(), status=503 if condition.reasons else 200)

    async def metrics(self, request: web.Request, caller: Caller) -> web.Response:
        condition = await self._readiness.condition()
        text = prometheus_text(
            self._service.metrics,
            self._service.jobs,
            worker_alive=self._service.queue.worker_alive(),
            ready=not condition.reasons,
        )
        return web.Response(text=text, headers={"Content-Type": PROMETHEUS_TYPE})

    async def profiles(self, request: web.Request, caller: Caller) -> web.Response:
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

    async def openapi(self, request: web.Request, caller: Caller) -> web.Response:
        return web.json_response(text=json.dumps(self.document))

    async def docs(self, request: web.Request, caller: Caller) -> web.Response:
        """A page that shows the OpenAPI document."""
        page = _DOCS_PAGE.read_text(encoding="utf-8")
        return web.Response(text=page, content_type="text/html", headers=_page_headers(page))


def _page_headers(page: str) -> dict[str, str]:
    """The browser runs the page's own script and style and nothing else, and asks nobody but this server."""

    def allowed(tag: str) -> str:
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"

    policy = (
        f"default-src 'none'; script-src {allowed('script')}; style-src {allowed('style')}; connect-src 'self';"
        " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
