"""Clients that leave, dawdle or do not listen: whatever they do, the next job works and every place is free again."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from http.client import HTTPResponse
from typing import Any

import aiohttp
import numpy as np
import pytest
import pytest_asyncio
from PIL import Image

from flux_face.tests.comfy_server import Comfy
from flux_face.tests.routes.client import BASE, Answer, Client, as_base64, encode
from flux_face.tests.routes.conftest import start_server

QUEUE = 8
BODY_SECONDS = 3
JSON = "application/json"
FORM = "multipart/form-data; boundary=cut"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comfy]:
    env = {"FLUX_FACE_MAX_QUEUE": str(QUEUE), "FLUX_FACE_BODY_SECONDS": str(BODY_SECONDS)}
    with start_server(tmp_path_factory.mktemp("clients"), env) as server:
        yield server


@pytest_asyncio.fixture
async def unharmed(server: Comfy) -> AsyncIterator[Client]:
    """A client of the server, which must be as good as new after the test."""
    async with aiohttp.ClientSession() as session:
        client = Client(session, server.url)
        yield client
        for job in (await client.get("/jobs?state=IN_QUEUE,IN_PROGRESS")).body["jobs"]:
            await client.until_ended(job["id"])
        assert (await client.runsync(profile="tiny")).images()
        await _fill_the_queue(client)
        assert "server_routes" not in server.log(), "no traceback of ours; aiohttp shows its own for malformed requests"


async def _fill_the_queue(client: Client) -> None:
    """Every place can be taken, and none beyond."""
    while True:  # a place is free once the server has noticed that its client is gone
        answers = [await client.post("/run", json={"input": {"profile": "sleep"}}) for _ in range(QUEUE + 1)]
        jobs = [answer.body["id"] for answer in answers if answer.code == 200]
        for job_id in jobs:
            await client.post(f"/cancel/{job_id}")
            await client.until_ended(job_id)
        assert answers[-1].code == 429
        if len(jobs) == QUEUE:
            return


class Raw:
    """A connection on which anything can be sent."""

    def __init__(self, server: Comfy, *, receive_bytes: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.connect(("127.0.0.1", server.port))
        self.socket.settimeout(60)

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> None:
        """Send a request; ``Content_Length`` replaces the body's own."""
        length = headers.pop("Content_Length", str(len(body)))
        lines = [f"{method} {BASE}{path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {length}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join([*lines, "", ""]).encode() + body)

    def reset(self) -> None:
        """Leave without a goodbye."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    async def answer(self) -> Answer:
        """The answer, once it is there."""
        return await asyncio.to_thread(self._answer)

    def _answer(self) -> Answer:
        response = HTTPResponse(self.socket)
        response.begin()
        return Answer(response.status, json.loads(response.read()))


def body_of(profile: str, **job_input: Any) -> bytes:
    return json.dumps({"input": {"profile": profile, **job_input}}).encode()


HALF_A_FORM = (
    b'--cut\r\nContent-Disposition: form-data; name="input"\r\n\r\n{"profile": "photo"}\r\n'
    b'--cut\r\nContent-Disposition: form-data; name="user_photo"; filename="a.png"\r\n\r\n\x89PNG half of it'
)


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("kind", [JSON, FORM])
@pytest.mark.parametrize("way", ["close", "reset"])
@pytest.mark.parametrize("verb", ["run", "runsync"])
async def test_leaving_during_the_upload(server: Comfy, verb: str, way: str, kind: str) -> None:
    with ExitStack() as stack:
        for _ in range(QUEUE):
            raw = stack.enter_context(Raw(server))
            body = body_of("tiny") if kind == JSON else HALF_A_FORM
            raw.request("POST", f"/{verb}", body, Content_Length="100000", Content_Type=kind)
            if way == "reset":
                raw.reset()


async def test_leaving_during_runsync(unharmed: Client, server: Comfy) -> None:
    """The job was taken, so it is done; its result can be asked for."""
    before = (await unharmed.get("/jobs")).body["jobs"]
    with Raw(server) as raw:
        raw.request("POST", "/runsync", body_of("nap"), Content_Type=JSON)
        job_id = await _newer_job(unharmed, before)
    assert (await unharmed.until_ended(job_id)).images()


async def _newer_job(client: Client, before: list[dict[str, Any]]) -> str:
    while True:
        jobs = (await client.get("/jobs")).body["jobs"]
        if len(jobs) > len(before):
            return str(jobs[0]["id"])
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("way", ["half", "close", "reset"])
async def test_leaving_a_stream(unharmed: Client, server: Comfy, way: str) -> None:
    job_id = await unharmed.run(profile="nap")
    with Raw(server) as raw:
        raw.request("GET", f"/stream/{job_id}", Accept="text/event-stream")
        assert await asyncio.to_thread(raw.socket.recv, 1000)
        if way == "half":
            raw.socket.shutdown(socket.SHUT_WR)
            assert (await unharmed.until_ended(job_id)).images()
        elif way == "reset":
            raw.reset()
    assert (await unharmed.until_ended(job_id)).images()


async def test_slow_bodies_do_not_stop_others(unharmed: Client, server: Comfy) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(Raw(server)) for _ in range(QUEUE - 1)]
        for raw in slow:
            raw.request("POST", "/run", b" ", Content_Length="100000", Content_Type=JSON)
        for _ in range(5):
            assert (await unharmed.runsync(profile="tiny")).images()
            for raw in slow:
                raw.send(b" ")
        for raw in slow:
            answer = await raw.answer()
            assert answer.code == 408
            assert answer.error["code"] == "body_timeout"


@pytest.mark.usefixtures("unharmed")
async def test_more_slow_bodies_than_places_are_refused_at_once(server: Comfy) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(Raw(server)) for _ in range(QUEUE + 2)]
        for raw in slow:
            raw.request("POST", "/run", b" ", Content_Length="100000", Content_Type=JSON)
        answers = await asyncio.gather(*(raw.answer() for raw in slow))
        assert sorted(answer.code for answer in answers) == [408] * QUEUE + [429] * 2


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize(
    ("length", "code"), [(len(HALF_A_FORM), "body_form"), (60, "body_not_json"), (40, "body_form"), (3, "body_form")]
)
async def test_a_form_cut_off_in_the_middle(server: Comfy, length: int, code: str) -> None:
    with Raw(server) as raw:
        raw.request("POST", "/runsync", HALF_A_FORM[:length], Content_Type=FORM)
        answer = await raw.answer()
    assert answer.code == 400
    assert answer.error["code"] == code


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("chunk", [b"zz\r\n", b"-1\r\n", b"5\r\n1234567\r\n"])
@pytest.mark.parametrize("pause", [0, 0.3], ids=["at once", "while the body is read"])
async def test_broken_chunks(server: Comfy, chunk: bytes, pause: float) -> None:
    """Refused by aiohttp at once or, where it does not tell us, at the end of the body's time."""
    with Raw(server) as raw:
        head = f"POST {BASE}/run HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {JSON}\r\nTransfer-Encoding: chunked\r\n"
        raw.send(f"{head}\r\n2\r\n{{ \r\n".encode())
        await asyncio.sleep(pause)
        raw.send(chunk)
        received = await asyncio.to_thread(raw.socket.recv, 1000)
        assert received.split()[1] in (b"400", b"408"), received


@pytest.mark.parametrize("verb", ["runsync", "stream"])
async def test_never_reading_a_large_answer(unharmed: Client, server: Comfy, verb: str) -> None:
    """Far larger than what the two sockets hold, so the server is left with the rest until the client has gone."""
    pixels = np.random.default_rng(1).integers(0, 256, (1800, 1800, 3), np.uint8)
    photo = as_base64(encode(Image.fromarray(pixels), "JPEG", quality=90))
    with ExitStack() as stack:
        deaf = [stack.enter_context(Raw(server, receive_bytes=4096)) for _ in range(QUEUE - 1)]
        if verb == "runsync":
            for raw in deaf:
                raw.request("POST", "/runsync", body_of("photo", user_photo=photo), Content_Type=JSON)
        else:
            job_id = await unharmed.run(profile="photo", user_photo=photo)
            for raw in deaf:
                raw.request("GET", f"/stream/{job_id}", Accept="text/event-stream")
        for _ in range(5):
            assert (await unharmed.runsync(profile="tiny")).images()
        for job in (await unharmed.get("/jobs?state=IN_QUEUE,IN_PROGRESS")).body["jobs"]:
            assert (await unharmed.until_ended(job["id"])).body["status"] == "COMPLETED"
        await _fill_the_queue(unharmed)
