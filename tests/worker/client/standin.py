"""A stand-in for what RunPod's endpoints are to a client: run, status and cancel, with the trouble a network makes."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar

import aiohttp
from aiohttp import web

API_KEY = "stand-in-key"
_Self = TypeVar("_Self", bound="Loopback")
_PASSED_ON = ("Authorization", "Content-Type", "Idempotency-Key")
FINAL = ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT")


@dataclass
class RemoteJob:
    """One job as the platform sees it.

    Attributes:
        key: the idempotency key it came with.
        looks_left: times its status is asked for before it ends.
    """

    id: str
    key: str
    input: dict[str, Any]
    policy: dict[str, Any]
    looks_left: int
    status: str = "IN_QUEUE"
    error: str | None = None

    @property
    def name(self) -> str:
        """The prompt, which tests use as the item's name."""
        return str(self.input.get("prompt"))


@dataclass
class Trouble:
    """Shares of the requests that go wrong, 0..1.

    Attributes:
        busy: 429.
        broken: 500.
        dropped: the connection ends before the request is looked at.
        unanswered: the job is accepted and the connection ends.
        lost: a job is forgotten when its status is asked for.
    """

    busy: float = 0.0
    broken: float = 0.0
    dropped: float = 0.0
    unanswered: float = 0.0
    lost: float = 0.0


def echo(job: RemoteJob) -> dict[str, Any]:
    """An output whose one picture is the photo that was sent."""
    return {
        "images": [{"filename": "../../x.png", "type": "base64", "data": job.input["user_photo"]}],
        "seeds": [7],
        "qa": [{"passed": True, "reasons": []}],
    }


@dataclass
class Knobs:
    """How the endpoint behaves; may be changed while it runs.

    Attributes:
        looks: fewest and most looks at a job until it ends, drawn per job, so that they end in any order.
        idempotent: one key, one job, as on servers of ours.
        retry_after: header of a 429.
        held: no job ends.
        judge: the error a job fails with, or None.
        output: a job's output.
    """

    looks: tuple[int, int] = (1, 3)
    idempotent: bool = True
    trouble: Trouble = field(default_factory=Trouble)
    retry_after: str | None = None
    held: bool = False
    judge: Callable[[RemoteJob], str | None] = lambda _: None
    output: Callable[[RemoteJob], Any] = echo


class Loopback:
    """A server on 127.0.0.1 in a thread of its own; use as a context manager."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner
        self.port = 0
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)

    @property
    def server_url(self) -> str:
        """The address as a server of ours."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _app(self) -> web.Application:
        raise NotImplementedError

    async def _start(self) -> None:
        self._runner = web.AppRunner(self._app(), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]


class AnswerLoser(Loopback):
    """Stands before a server and loses the answer to every second submission; tells how many it has lost."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._submissions = 0
        self.lost = 0
        super().__init__()

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=64_000_000)
        app.router.add_route("*", "/{path:.*}", self._pass_on)
        return app

    async def _pass_on(self, request: web.Request) -> web.Response:
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                request.method, self._url + request.path, data=await request.read(), headers=headers
            ) as answer,
        ):
            body, status, content_type = await answer.read(), answer.status, answer.content_type
        if request.path.endswith("/run") and status == 200:
            self._submissions += 1
            if self._submissions % 2:
                self.lost += 1
                _drop(request)
        return web.Response(body=body, status=status, content_type=content_type)


class Endpoint(Loopback):
    """Its methods are for the test's thread."""

    def __init__(self, knobs: Knobs | None = None, seed: int = 0) -> None:
        self.knobs = knobs or Knobs()
        self.jobs: dict[str, RemoteJob] = {}
        self.accepted: list[tuple[str, str]] = []
        """Name and key of every job that was made."""
        self.requests: Counter[str] = Counter()
        self.most_active = 0
        self.files: dict[str, bytes] = {}
        self.file_headers: list[dict[str, str]] = []
        self._random = random.Random(seed)
        super().__init__()

    @property
    def url(self) -> str:
        """What the endpoint's id is appended to."""
        return f"http://127.0.0.1:{self.port}/v2"

    def wait(self, condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
        """Wait until a client has done something."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
            time.sleep(0.01)

    def keys_by_name(self) -> dict[str, list[str]]:
        """The keys of the jobs that were made for each item."""
        keys: dict[str, list[str]] = {}
        for name, key in self.accepted:
            keys.setdefault(name, []).append(key)
        return keys

    def states(self) -> Counter[str]:
        """Jobs by state."""
        return Counter(job.status for job in tuple(self.jobs.values()))

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=64_000_000)
        for base in ("/v2/{endpoint}", "/flux-face/v1"):
            app.router.add_post(base + "/run", self._run)
            app.router.add_get(base + "/status/{job}", self._status)
            app.router.add_post(base + "/cancel/{job}", self._cancel)
        app.router.add_get("/bucket/{file}", self._file)
        app.router.add_get("/flux-face/v1/image/{job}/{file}", self._file)
        return app

    def _answer(self, request: web.Request, operation: str) -> web.Response | None:
        """A refusal, or what goes wrong before the request is looked at."""
        self.requests[operation] += 1
        if request.headers.get("Authorization") != f"Bearer {API_KEY}":
            return web.json_response({"error": "unauthorized"}, status=401)
        trouble = self.knobs.trouble
        if self._random.random() < trouble.busy:
            headers = {"Retry-After": self.knobs.retry_after} if self.knobs.retry_after else None
            return web.json_response({"error": "too many requests"}, status=429, headers=headers)
        if self._random.random() < trouble.broken:
            return web.Response(status=500, text="<html>")
        if self._random.random() < trouble.dropped:
            _drop(request)
        return None

    async def _run(self, request: web.Request) -> web.Response:
        body = await request.read()
        refusal = self._answer(request, "run")
        if refusal is not None:
            return refusal
        content, key = json.loads(body), request.headers["Idempotency-Key"]
        job = next((job for job in self.jobs.values() if job.key == key), None) if self.knobs.idempotent else None
        if job is None:
            looks = self._random.randint(*self.knobs.looks)
            job = RemoteJob(f"{uuid.uuid4()}-u1", key, content["input"], content.get("policy", {}), looks)
            self.jobs[job.id] = job
            self.accepted.append((job.name, key))
            self.most_active = max(self.most_active, sum(job.status not in FINAL for job in self.jobs.values()))
        if self._random.random() < self.knobs.trouble.unanswered:
            _drop(request)
        return web.json_response({"id": job.id, "status": job.status})

    async def _status(self, request: web.Request) -> web.Response:
        refusal = self._answer(request, "status")
        if refusal is not None:
            return refusal
        job = self.jobs.get(request.match_info["job"])
        if job is not None and self._random.random() < self.knobs.trouble.lost:
            del self.jobs[job.id]
            job = None
        if job is None:
            return web.json_response({"error": "request does not exist"}, status=404)
        if job.status not in FINAL and not self.knobs.held:
            job.looks_left -= 1
            job.status = "IN_PROGRESS"
            if job.looks_left <= 0:
                job.error = self.knobs.judge(job)
                job.status = "FAILED" if job.error else "COMPLETED"
        content: dict[str, Any] = {"id": job.id, "status": job.status, "delayTime": 120, "executionTime": 3400}
        if job.status == "COMPLETED":
            content["output"] = self.knobs.output(job)
        elif job.error:
            content["error"] = job.error
        return web.json_response(content)

    async def _cancel(self, request: web.Request) -> web.Response:
        refusal = self._answer(request, "cancel")
        if refusal is not None:
            return refusal
        job = self.jobs.get(request.match_info["job"])
        if job is None:
            return web.json_response({"error": "request does not exist"}, status=404)
        if job.status not in FINAL:
            job.status = "CANCELLED"
        return web.json_response({"id": job.id, "status": job.status})

    async def _file(self, request: web.Request) -> web.Response:
        self.file_headers.append(dict(request.headers))
        data = self.files.get(request.match_info["file"])
        return web.Response(status=403) if data is None else web.Response(body=data)


def _drop(request: web.Request) -> None:
    """End the connection without an answer."""
    assert request.transport is not None
    request.transport.abort()
    raise ConnectionResetError
