"""ComfyUI killed while jobs run and wait, and started again: every job is in a right state, in both modes."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from flux_face.tests.comfy_server import Comfy, ComfyError
from flux_face.tests.routes.client import BASE, Answer, Client, as_base64, encode
from flux_face.tests.routes.conftest import start_server

KEY = base64.b64encode(bytes(range(32))).decode()
OTHER_KEY = base64.b64encode(bytes(32)).decode()
PROMPT = "a portrait that nobody else may know of"
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT")


@dataclass
class Installation:
    """A base directory and a data directory, on which ComfyUI is started again and again."""

    folder: Path
    servers: list[Comfy] = field(default_factory=list)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def start(self, key: str = "", base: str = "base") -> Comfy:
        (self.folder / base).mkdir(exist_ok=True)
        env = {"FLUX_FACE_DATA_DIR": str(self.data), "FLUX_FACE_DURABLE_KEY": key}
        self.servers.append(start_server(self.folder / base, env))
        return self.servers[-1]

    def start_to_die(self, key: str) -> None:
        """Start, and wait until a job has killed the process, be it before or after the server was up."""
        with suppress(ComfyError):
            self.start(key).process.wait(timeout=60)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask the job table; only while no server has it."""
        with closing(sqlite3.connect(self.data / "jobs.sqlite3")) as table:
            return table.execute(statement).fetchall()

    def files_with(self, secret: bytes) -> list[str]:
        """Which files below the folder hold it."""
        return [path.name for path in self.folder.rglob("*") if path.is_file() and secret in path.read_bytes()]


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    installation = Installation(tmp_path)
    yield installation
    for server in installation.servers:
        server.stop()


@asynccontextmanager
async def client_of(server: Comfy) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session:
        yield Client(session, server.url)


def noise(seed: int) -> npt.NDArray[np.uint8]:
    """A picture like no other."""
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)


def letter(seed: int) -> dict[str, Any]:
    """A job that hands its photo back and has a prompt."""
    return {"profile": "letter", "user_photo": as_base64(encode(Image.fromarray(noise(seed)))), "prompt": PROMPT}


def secrets_of(seed: int, answer: Answer) -> list[bytes]:
    """Pieces of a letter's photo and picture that would show wherever they were written, and the prompt."""
    photo = encode(Image.fromarray(noise(seed)))
    picture = base64.b64decode(answer.body["output"]["images"][0]["data"])
    middle = slice(1000, 1040)
    return [photo[middle], as_base64(photo)[middle].encode(), picture[-1000:-960], noise(seed).tobytes()[middle],
            PROMPT.encode()]  # fmt: skip


def has_picture(answer: Answer, seed: int) -> bool:
    (picture,) = answer.images()
    return np.array_equal(picture, noise(seed))


async def test_jobs_in_memory_end_and_say_so(installation: Installation) -> None:
    server = installation.start()
    async with client_of(server) as client:
        done = await client.runsync(**letter(1))
        failed = await client.runsync(profile="raise")
        running = await client.run(profile="sleep")
        await client.until(running, "IN_PROGRESS")
        waiting = [await client.run(**letter(seed)) for seed in (2, 3)]
        cancelled = await client.run(**letter(4))
        await client.post(f"/cancel/{cancelled}")
        server.kill()
    for secret in secrets_of(1, done):
        assert installation.files_with(secret) == []
    assert installation.query("SELECT count(*) FROM files") == [(0,)]

    async with client_of(installation.start()) as client:
        listed = {job["id"]: job["status"] for job in (await client.get("/jobs")).body["jobs"]}
        assert listed == {
            done.body["id"]: "COMPLETED",
            failed.body["id"]: "FAILED",
            cancelled: "CANCELLED",
            **dict.fromkeys([running, *waiting], "FAILED"),
        }
        for job_id in (running, *waiting):
            assert (await client.get(f"/status/{job_id}")).body["error"].startswith("[server_restarted] ")
        assert (await client.get(f"/status/{failed.body['id']}")).body == failed.body
        again = (await client.get(f"/status/{done.body['id']}")).body
        assert again["error"].startswith("[result_gone] ")
        assert again["output"] == {**done.body["output"], "images": []}
        assert has_picture(await client.runsync(**letter(5)), 5), "the next job works"


async def test_durable_jobs_go_on(installation: Installation) -> None:
    server = installation.start(KEY)
    async with client_of(server) as client:
        done = await client.runsync(**letter(1))
        interrupted = await client.run(profile="nap")
        await client.until(interrupted, "IN_PROGRESS")
        waiting = {await client.run(**letter(seed)): seed for seed in (2, 3)}
        endless = await client.run(profile="sleep")
        server.kill()
    for secret in secrets_of(1, done):
        assert installation.files_with(secret) == []
    photos = "SELECT job_id FROM files WHERE kind = 'photo'"
    assert {job_id for (job_id,) in installation.query(photos)} == set(waiting)

    server = installation.start(KEY)
    async with client_of(server) as client:
        assert (await client.until_ended(interrupted)).images()
        for job_id, seed in waiting.items():
            assert has_picture(await client.until_ended(job_id), seed)
        assert (await client.get(f"/status/{done.body['id']}")).body == done.body
        await client.until(endless, "IN_PROGRESS")
        server.kill()
    assert installation.query(photos) == []
    assert installation.query("SELECT count(*) FROM jobs WHERE state != 'IN_PROGRESS' AND request NOT NULL") == [(0,)]
    runs = dict(installation.query("SELECT id, runs FROM jobs"))
    assert runs == {done.body["id"]: 1, interrupted: 2, endless: 1, **dict.fromkeys(waiting, 1)}

    server = installation.start(KEY)
    async with client_of(server) as client:
        await client.until(endless, "IN_PROGRESS")
        server.kill()

    async with client_of(installation.start(KEY)) as client:
        ended = await client.until_ended(endless)
        assert ended.body["status"] == "FAILED"
        assert ended.body["error"].startswith("[crashed_twice] ")
        assert has_picture(await client.get(f"/status/{done.body['id']}"), 1)
        assert len((await client.get("/jobs")).body["jobs"]) == 5
        assert has_picture(await client.runsync(**letter(6)), 6), "the next job works"


async def test_a_job_that_kills_the_process_does_so_twice_at_most(installation: Installation) -> None:
    server = installation.start(KEY)
    async with client_of(server) as client:
        running = await client.run(profile="nap")  # so that the next two are sent before the process dies
        deadly = await client.run(profile="kill")
        harmless = await client.run(**letter(1))
        server.process.wait(timeout=60)
    installation.start_to_die(KEY)
    async with client_of(installation.start(KEY)) as client:
        ended = await client.until_ended(deadly)
        assert ended.body["error"].startswith("[crashed_twice] ")
        assert has_picture(await client.until_ended(harmless), 1)
        assert (await client.until_ended(running)).images()


@pytest.mark.parametrize("key", [OTHER_KEY, ""], ids=["another key", "no key"])
async def test_without_the_key_durable_jobs_end_and_say_so(installation: Installation, key: str) -> None:
    server = installation.start(KEY)
    async with client_of(server) as client:
        done = await client.runsync(**letter(1))
        running = await client.run(profile="sleep")
        await client.until(running, "IN_PROGRESS")
        waiting = await client.run(**letter(2))
        server.kill()

    async with client_of(installation.start(key)) as client:
        for job_id in (running, waiting):
            ended = await client.until_ended(job_id)
            assert ended.body["status"] == "FAILED"
            assert ended.body["error"].startswith("[key_changed] ")
            assert "FLUX_FACE_DURABLE_KEY" not in ended.body["error"], "that is the operator's affair"
        again = (await client.get(f"/status/{done.body['id']}")).body
        assert again["status"] == "COMPLETED"
        assert again["error"].startswith("[result_gone] ")
        assert has_picture(await client.runsync(**letter(3)), 3), "the next job works"


async def test_a_second_server_keeps_off_the_first_ones_jobs(installation: Installation) -> None:
    first = installation.start(KEY)
    async with client_of(first) as client:
        running = await client.run(profile="sleep")
        await client.until(running, "IN_PROGRESS")
        second = installation.start(KEY, "second")
        lines = [line for line in second.log().splitlines() if "Flux Face" in line and "API" in line]
        assert len(lines) == 1
        assert "the HTTP API is off" in lines[0]
        assert "FLUX_FACE_DATA_DIR" in lines[0]
        assert "Traceback" not in second.log()
        assert second.get("/object_info/FluxFaceJobOutput"), "the nodes work all the same"
        async with client.session.get(second.url + BASE + "/health") as response:
            assert response.status == 404
        second.stop()
        assert (await client.get(f"/status/{running}")).body["status"] == "IN_PROGRESS"
        await client.post(f"/cancel/{running}")
        assert (await client.until_ended(running)).body["status"] == "CANCELLED"
        assert has_picture(await client.runsync(**letter(1)), 1)
