"""What every request passes through, on an aiohttp server of the test's own."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from flux_face.nodes.errors import UserInputError
from flux_face.server_routes.auth import Caller
from flux_face.server_routes.metrics import Metrics
from flux_face.server_routes.routing import Access, Gate, Handler, Route
from flux_face.server_routes.settings import Settings

TOKENS = "alice:alice-0123456789abcdef,ops:ops-0123456789abcdef"


def header(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}-0123456789abcdef"}


async def hello(_: web.Request, caller: Caller) -> web.Response:
    return web.json_response({"caller": caller.name, "admin": caller.is_admin})


@asynccontextmanager
async def served(handler: Handler, environ: Mapping[str, str], metrics: Metrics | None = None) -> AsyncIterator[str]:
    """Routes ``/look``, ``/submit`` and ``/manage`` below ``/x``, all with this handler."""
    gate = Gate(Settings.from_environ(environ), metrics or Metrics())
    app = web.Application()
    for path, access, submits in (
        ("/look", Access.CALLERS, False),
        ("/submit", Access.CALLERS, True),
        ("/manage", Access.ADMINS, False),
        ("/open", Access.EVERYONE, False),
    ):
        route = Route("GET", path, handler, path[1:], "", "", access=access, submits=submits, base="/x")
        app.router.add_route(route.method, route.base + route.path, gate.wrap(route))
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}/x"
    finally:
        await runner.cleanup()


async def get(url: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], dict[str, object]]:
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status, dict(answer.headers), await answer.json()


async def test_submissions_of_a_token_are_limited() -> None:
    limits = {"FLUX_FACE_API_TOKENS": TOKENS, "FLUX_FACE_JOBS_PER_MINUTE": "30"}
    async with served(hello, limits) as url:
        codes = [(await get(f"{url}/submit", header("alice")))[0] for _ in range(4)]
        assert codes == [200, 200, 200, 429], "a burst is six seconds' worth"
        status, headers, body = await get(f"{url}/submit", header("alice"))
        assert status == 429
        assert 1 <= int(headers["Retry-After"]) <= 2
        assert body["error"]["code"] == "rate_limited"  # type: ignore[index]
        assert (await get(f"{url}/submit", header("ops")))[0] == 200, "others have limits of their own"
        assert (await get(f"{url}/look", header("alice")))[0] == 200, "looking costs less"


async def test_requests_of_a_token_are_limited() -> None:
    async with served(hello, {"FLUX_FACE_API_TOKENS": TOKENS, "FLUX_FACE_REQUESTS_PER_MINUTE": "20"}) as url:
        codes = [(await get(f"{url}/look", header("alice")))[0] for _ in range(3)]
        assert codes == [200, 200, 429]


async def test_this_machine_is_not_limited_where_there_are_no_tokens() -> None:
    limits = {"FLUX_FACE_JOBS_PER_MINUTE": "1", "FLUX_FACE_REQUESTS_PER_MINUTE": "1"}
    async with served(hello, limits) as url:
        answers = [await get(f"{url}/submit") for _ in range(5)]
        assert [status for status, _, _ in answers] == [200] * 5
        assert answers[0][2] == {"caller": "local", "admin": True}


async def test_admins_are_named() -> None:
    async with served(hello, {"FLUX_FACE_API_TOKENS": TOKENS, "FLUX_FACE_ADMINS": "ops"}) as url:
        assert (await get(f"{url}/manage", header("ops")))[2] == {"caller": "ops", "admin": True}
        status, _, body = await get(f"{url}/manage", header("alice"))
        assert (status, body["error"]["code"]) == (403, "admin_only")  # type: ignore[index]
        assert (await get(f"{url}/open"))[2] == {"caller": "", "admin": False}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (UserInputError("photo_format", "user_photo", "no picture", "Send one"), 415, "photo_format"),
        (UserInputError("something_new", "x", "y", "z"), 400, "something_new"),
        (sqlite3.OperationalError("disk full in /home/somebody"), 503, "record_failed"),
        (RuntimeError("secret /home/somebody"), 500, "internal"),
    ],
)
async def test_errors_become_answers_without_paths(error: Exception, status: int, code: str) -> None:
    async def failing(*_: object) -> web.Response:
        raise error

    metrics = Metrics()
    async with served(failing, {}, metrics) as url:
        answered, _, body = await get(f"{url}/look")
    assert (answered, body["error"]["code"]) == (status, code)  # type: ignore[index]
    assert "somebody" not in str(body)
    assert metrics.requests == {("/look", status): 1}
