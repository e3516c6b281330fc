"""What a page is told over ComfyUI's web socket: how its caller's jobs go on, and nothing of others."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import aiohttp

from flux_face.server_routes.auth import Caller
from flux_face.server_routes.jobs import Job, JobTable, State
from flux_face.server_routes.live import DOWNLOAD_EVENT, JOBS_EVENT, Live
from flux_face.server_routes.settings import Limits
from flux_face.tests.catalogue.hub import Hub, Served
from flux_face.tests.routes.client import Client, as_base64, encode
from flux_face.tests.routes.conftest import ADMIN, TOKENS
from flux_face.tests.routes.test_portraits import ONE_FACE

if TYPE_CHECKING:
    from flux_face.server_routes.service import JobService

Event = dict[str, Any]
ALICE, BOB, OPS = ({"Authorization": f"Bearer {token}"} for token in (*TOKENS.values(), ADMIN))
ENDED = [state.value for state in State if state.is_final]


@asynccontextmanager
async def page(client: Client) -> AsyncIterator[tuple[str, aiohttp.ClientWebSocketResponse]]:
    """A page's web socket, and the id that it connected with."""
    name = uuid.uuid4().hex
    async with client.session.ws_connect(f"{client.url}/ws?clientId={name}") as socket:
        await socket.receive_json()  # ComfyUI's greeting: the socket is in its table
        yield name, socket


async def watching(client: Client, name: str, headers: Mapping[str, str]) -> dict[str, Any]:
    answer = await client.post("/watch", json={"client_id": name}, headers=headers)
    assert answer.code == 200, answer.body
    return answer.body


async def events_until_end(socket: aiohttp.ClientWebSocketResponse, job_id: str) -> list[Event]:
    """What our events say of all jobs, until this one has ended."""
    told: list[Event] = []
    while not any(event["id"] == job_id and event["status"] in ENDED for event in told):
        message = await socket.receive()
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
        if message.type == aiohttp.WSMsgType.TEXT and message.json()["type"] == JOBS_EVENT:
            told += message.json()["data"]["jobs"]
    return told


async def test_each_page_is_told_of_its_callers_jobs(wide: Client) -> None:
    async with page(wide) as (mine, alices), page(wide) as (all_of_them, admins), page(wide) as (_, strangers):
        assert await watching(wide, mine, ALICE) == {"caller": "alice", "admin": False}
        assert await watching(wide, all_of_them, OPS) == {"caller": "ops", "admin": True}
        answer = await wide.post("/run", json={"input": {"profile": "nap"}}, headers=BOB)
        bobs = str(answer.body["id"])
        photo = as_base64(encode(ONE_FACE))
        own = await wide.run(profile="starter", prompt="a secret wish", user_photo=photo, max_attempts=1, seed=5)
        told = await events_until_end(alices, own)
        assert {event["id"] for event in told} == {own}
        assert [event["status"] for event in told][-1] == "COMPLETED"
        assert {event["status"] for event in told} == {"IN_QUEUE", "IN_PROGRESS", "COMPLETED"}
        assert set().union(*told) <= {"id", "status", "position", "attempt", "value", "max"}
        positions = [event["position"] for event in told if event["status"] == "IN_QUEUE"]
        assert positions == sorted(positions, reverse=True)
        assert positions[0] >= 1, "Bob's, and perhaps the warm-up"
        assert {event["id"] for event in await events_until_end(admins, own)} >= {own, bobs}
        unasked = await events_of(strangers)
        assert not [kind for kind in unasked if kind.startswith("flux_face")]


async def events_of(socket: aiohttp.ClientWebSocketResponse) -> list[str]:
    """The types of the events that have come."""
    kinds = []
    try:
        while True:
            message = await socket.receive(timeout=0.5)
            kinds += [message.json()["type"]] if message.type == aiohttp.WSMsgType.TEXT else []
    except asyncio.TimeoutError:
        return kinds


async def test_only_pages_that_are_connected_watch(wide: Client) -> None:
    answer = await wide.post("/watch", json={"client_id": "nobody"})
    assert (answer.code, answer.error["code"]) == (404, "client_unknown")
    broken = await wide.post("/watch", data=b"{", headers={"Content-Type": "application/json"})
    assert (broken.code, broken.error["code"]) == (400, "body_not_json")
    assert broken.error["remedy"] == 'Send {"client_id": ...}'
    async with page(wide) as (name, _):
        unknown = await wide.post("/watch", json={"client_id": name}, headers={"Authorization": "Bearer wrong"})
        assert unknown.code == 401


async def test_admins_are_told_of_downloads(wide: Client, hub: Hub) -> None:
    hub.files["facefusion/models-3.4.0/crossface_simswap.onnx"] = Served(b"network" * 1000)
    async with page(wide) as (name, socket), page(wide) as (other, alices):
        await watching(wide, name, OPS)
        await watching(wide, other, ALICE)
        await wide.post("/models/download", json={"models": ["crossface-simswap"]}, headers=OPS)
        while True:
            message = await socket.receive_json()
            if message["type"] == DOWNLOAD_EVENT and message["data"]["state"] != "running":
                break
        assert message["data"]["state"] == "completed", message["data"]
        (file,) = message["data"]["files"]
        assert file == {"file": "facefusion/crossface_simswap.onnx", "received": 7000, "total": 7000}
        assert DOWNLOAD_EVENT not in await events_of(alices)


async def test_pictures_as_addresses_whatever_was_asked_for(wide: Client) -> None:
    done = await wide.runsync(profile="tiny")
    (picture,) = (await wide.get(f"/status/{done.body['id']}?images_as=url")).body["output"]["images"]
    assert picture["type"] == "url"
    file = await wide.raw("GET", picture["data"])
    assert (file.code, file.headers["Content-Type"]) == (200, "image/png")
    refused = await wide.get(f"/status/{done.body['id']}?images_as=s3")
    assert (refused.code, refused.error["field"]) == (400, "images_as")


class Pages:
    """Stands where the service and its queue would: two pages are open, and what they are told is kept."""

    def __init__(self) -> None:
        self.open = {"alices", "admins"}
        self.told: asyncio.Queue[tuple[str, Event]] = asyncio.Queue()
        self.jobs = JobTable(Limits())
        self.queue = SimpleNamespace(is_connected=self.open.__contains__, tell=self._tell)
        self.job_changed: object = None

    def live(self) -> Live:
        return Live(cast("JobService", self), pause=0.01)

    def _tell(self, client_id: str, event: str, data: dict[str, Any]) -> None:
        assert event == JOBS_EVENT
        for job in data["jobs"]:
            self.told.put_nowait((client_id, job))


def running(pages: Pages) -> Job:
    job = Job("alice", "starter", None, state=State.IN_PROGRESS)
    pages.jobs.add(job)
    return job


async def next_told(pages: Pages) -> list[tuple[str, Event]]:
    """All that the pages are told next, at once."""
    told = [await pages.told.get()]
    while not pages.told.empty():
        told.append(pages.told.get_nowait())
    return told


async def test_many_changes_are_one_event() -> None:
    pages = Pages()
    live = pages.live()
    live.watch("alices", Caller("alice", is_admin=False))
    job = running(pages)
    for step in range(1, 101):
        job.progress = {"node": "sampler", "class_type": "KSampler", "attempt": 1, "value": step, "max": 100}
        live.job_changed(job)
    last = {"id": job.id, "status": "IN_PROGRESS", "attempt": 1, "value": 100, "max": 100}
    assert await next_told(pages) == [("alices", last)]
    live.job_changed(job)  # as it was told already
    waiting = Job("alice", "starter", None, number=1)
    pages.jobs.add(waiting)
    live.job_changed(waiting)
    assert await next_told(pages) == [("alices", {"id": waiting.id, "status": "IN_QUEUE", "position": 1})]
    job.state = State.COMPLETED
    pages.jobs.end(job)
    live.job_changed(job)
    assert await next_told(pages) == [
        ("alices", {"id": job.id, "status": "COMPLETED"}),
        ("alices", {"id": waiting.id, "status": "IN_QUEUE", "position": 0}),
    ]


async def test_a_page_that_has_gone_is_forgotten() -> None:
    pages = Pages()
    live = pages.live()
    live.watch("alices", Caller("alice", is_admin=False))
    live.watch("admins", Caller("ops", is_admin=True))
    pages.open.remove("alices")
    job = running(pages)
    live.job_changed(job)
    event = {"id": job.id, "status": "IN_PROGRESS"}
    assert await next_told(pages) == [("admins", event)]
    pages.open.add("alices")  # another page under its id has not asked
    job.progress = {"value": 1, "max": 2}
    live.job_changed(job)
    assert await next_told(pages) == [("admins", {**event, "value": 1, "max": 2})]
