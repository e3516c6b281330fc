"""Two hundred clients at once: no job is lost, doubled, stuck or mixed up, and the server does not grow."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import numpy.typing as npt
import psutil
from PIL import Image

from flux_face.tests.routes.client import BASE, Answer, Client, as_base64, encode
from flux_face.tests.routes.conftest import start_server

CLIENTS = 200
# Set it higher to look for what grows slowly: FLUX_FACE_TEST_JOBS=20000.
JOBS = int(os.environ.get("FLUX_FACE_TEST_JOBS", "2000"))
# More than are kept, so that the results in memory are as many before as after.
WARM_UP_JOBS = 600
# Twice as many as can be waited for, so that none goes before its client has asked for it.
KEPT_RESULTS = 2 * CLIENTS
# By which the server may grow after the warm-up: 6 to 10 MB were seen after 2,000 jobs, 13 MB after 6,000. If it kept
# the pictures of all of them, and only those, it would be over 30 MB after 2,000.
MAX_GROWTH_BYTES = 16_000_000
WAYS = ("poll", "runsync", "stream", "poll", "runsync", "stream", "poll", "runsync", "stream", "cancel")


class Load:
    """The jobs, dealt out to clients, and what became of each."""

    def __init__(self, url: str) -> None:
        self.ended: dict[str, str] = {}
        self._url = url
        self._numbers = iter(range(JOBS))

    async def run(self, jobs: int) -> None:
        """Let all clients share so many further jobs."""
        numbers = [next(self._numbers) for _ in range(jobs)]
        left = iter(numbers)
        await asyncio.gather(*(self._client(left) for _ in range(CLIENTS)))

    async def _client(self, left: Iterator[int]) -> None:
        async with aiohttp.ClientSession() as session:
            client = Client(session, self._url)
            for number in left:
                answer = await self._job(client, number)
                job_id = answer.body["id"]
                assert job_id not in self.ended
                self.ended[job_id] = answer.body["status"]

    async def _job(self, client: Client, number: int) -> Answer:
        way = WAYS[number % len(WAYS)]
        job_input = _input(number)
        if way == "runsync":
            answer = await client.runsync(**job_input)
        else:
            job_id = await client.run(**job_input)
            if way == "cancel":
                await client.post(f"/cancel/{job_id}")
            answer = await (_streamed(client, job_id) if way == "stream" else _polled(client, job_id))
            assert answer.body["id"] == job_id
        if way == "cancel" and answer.body["status"] == "CANCELLED":
            assert "output" not in answer.body
        else:
            _check(answer, number)
        return answer


async def _polled(client: Client, job_id: str) -> Answer:
    while True:
        answer = await client.get(f"/status/{job_id}")
        if answer.body["status"] not in ("IN_QUEUE", "IN_PROGRESS"):
            return answer
        await asyncio.sleep(0.25)


async def _streamed(client: Client, job_id: str) -> Answer:
    accept = {"Accept": "text/event-stream"}
    async with client.session.get(f"{client.url}{BASE}/stream/{job_id}", headers=accept) as response:
        events = (await response.text()).strip().split("\n\n")
    results = [event for event in events if event.startswith("event: result\n")]
    assert results == events[-1:]
    return Answer(response.status, json.loads(results[0].partition("data: ")[2]))


def _input(number: int) -> dict[str, Any]:
    """Every second job makes a picture of one of 81 sizes, the others hand back a photo of their own."""
    if number % 2:
        width, height = _size(number)
        return {"profile": "tiny", "width": width, "height": height}
    return {"profile": "photo", "user_photo": as_base64(encode(Image.fromarray(_noise(number))))}


def _size(number: int) -> tuple[int, int]:
    return 64 + number % 9 * 16, 64 + number // 9 % 9 * 16


def _noise(number: int) -> npt.NDArray[np.uint8]:
    """A picture like no other that no format makes smaller."""
    return np.random.default_rng(number).integers(0, 256, (96, 96, 3), np.uint8)


def _check(answer: Answer, number: int) -> None:
    (picture,) = answer.images()
    assert answer.body["output"]["images"][0]["filename"].startswith(answer.body["id"])
    if number % 2:
        width, height = _size(number)
        assert picture.shape == (height, width, 3)
        assert (picture == (0x33, 0x66, 0x99)).all()
    else:
        assert np.array_equal(picture, _noise(number))


async def _listed(client: Client) -> dict[str, str]:
    """Every job of the listing, page by page."""
    jobs: list[dict[str, Any]] = []
    while True:
        page = (await client.get(f"/jobs?limit=500&offset={len(jobs)}")).body["jobs"]
        jobs += page
        if len(page) < 500:
            break
    listed = {job["id"]: job["status"] for job in jobs}
    assert len(listed) == len(jobs)
    return listed


async def _picture_bytes(client: Client, job_id: str) -> int:
    """How large the job's pictures are that can still be had."""
    images = (await client.get(f"/status/{job_id}")).body.get("output", {}).get("images", [])
    return sum(len(base64.b64decode(image["data"])) for image in images)


async def test_many_clients(tmp_path: Path) -> None:
    base, data = tmp_path / "base", tmp_path / "data"
    base.mkdir()
    env = {
        "FLUX_FACE_DATA_DIR": str(data),
        "FLUX_FACE_MAX_QUEUE": str(CLIENTS),
        "FLUX_FACE_MAX_QUEUE_PER_CALLER": str(CLIENTS),
        "FLUX_FACE_MAX_RESULTS": str(KEPT_RESULTS),
    }
    with start_server(base, env) as server:
        process = psutil.Process(server.process.pid)
        load = Load(server.url)
        await load.run(WARM_UP_JOBS)
        warm = process.memory_info().rss
        await load.run(JOBS - WARM_UP_JOBS)
        grown = process.memory_info().rss - warm
        states = Counter(load.ended.values())
        assert states.total() == JOBS
        assert states.keys() <= {"COMPLETED", "CANCELLED"}
        assert grown < MAX_GROWTH_BYTES

        async with aiohttp.ClientSession() as session:
            client = Client(session, server.url)
            assert await _listed(client) == load.ended
            health = (await client.get("/health")).body["jobs"]
            assert (health["completed"], health["inQueue"], health["inProgress"]) == (states["COMPLETED"], 0, 0)
            assert (await client.get("/ready")).body["ready"] is True
            kept = [await _picture_bytes(client, job_id) for job_id in load.ended]
            assert KEPT_RESULTS // 2 < sum(map(bool, kept)) <= KEPT_RESULTS
            async with session.get(server.url + BASE + "/metrics") as response:
                assert f"\nflux_face_result_bytes {sum(kept)}\n" in await response.text()
        assert server.get("/history") == {}
        assert server.get("/queue") == {"queue_running": [], "queue_pending": []}

    with closing(sqlite3.connect(data / "jobs.sqlite3")) as table:
        rows = table.execute("SELECT id, state, runs FROM jobs").fetchall()
        assert table.execute("SELECT count(*) FROM files").fetchone() == (0,)
    assert {job_id: state for job_id, state, _ in rows} == load.ended
    assert all(runs == 1 for _, state, runs in rows if state == "COMPLETED")
    assert all(runs <= 1 for _, _, runs in rows)
