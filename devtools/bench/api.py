"""What the HTTP API adds to a graph's own time, against the way of the system that this pack replaces.

Both ways run on one real ComfyUI (on the CPU) in the same run, one job of each in turn, by one client over kept-alive
connections to 127.0.0.1. Ours is one `POST /runsync` whose answer has the picture in base64. The original's way, as its
specification has it: `GET /` to see whether ComfyUI is there, `POST /upload/image` with the decoded photo,
`POST /prompt`, `GET /history/{id}` at once and then every 250 ms, `GET /view`, base64. Its graphs end in SaveImage
where ours end in Job Output, and load the photo with LoadImage where ours use Load Face Photo.

A graph's own time is known: one node takes a given time, 100 to 325 ms in steps of 25, so that the ends of the graphs
are spread evenly over the original's polls, as those of real graphs are. In that time it makes the picture of one
colour; a photo it passes on. The overhead is all the rest, from the request to the decoded answer: decoding the photo,
ComfyUI's own work, encoding the picture. The graphs of the last rows have no such node.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import statistics
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import skimage
from PIL import Image

from ...tests.comfy_server import Comfy
from .report import Row, higher, lower

ORIGINAL = "upload, prompt, history every 250 ms, view"
POLL_SECONDS = 0.25
WAITS_MS = range(100, 350, 25)
TURNS = 10  # each runs every wait once
ALONE = 100
# The load: so many clients, each sending one job after another.
CLIENTS, JOBS_PER_CLIENT = 8, 20
CROWD, JOBS_PER_ONE = 50, 10
ROUNDS = 3

ROOT = Path(__file__).resolve().parents[2]

Graph = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """A graph to run both ways.

    Attributes:
        label: for the rows.
        size: width and height of the picture.
        photo: the file that goes in and comes out again, or None for a picture of one colour.
        wait_ms: the graph's own time.
    """

    label: str
    size: int
    photo: bytes | None = None
    wait_ms: int = 0

    @property
    def profile(self) -> str:
        """Name of our graph."""
        return f"bench-{self.size}-{'colour' if self.photo is None else 'photo'}-{self.wait_ms}"

    def our_graph(self) -> Graph:
        """For the profile's file."""
        return self._graph(_node("FluxFaceLoadPhoto", photo="example.png"), _node("FluxFaceJobOutput", job_id=""))

    def original_graph(self, upload: str | None) -> Graph:
        """With the photo that was uploaded. The saved file's name is new each time, else ComfyUI would do nothing."""
        return self._graph(_node("LoadImage", image=upload), _node("SaveImage", filename_prefix=uuid.uuid4().hex))

    def check(self, picture: bytes) -> None:
        """Look at a result's header.

        Raises:
            RuntimeError: it is not the picture that was asked for.
        """
        image = Image.open(io.BytesIO(picture))
        if image.format != "PNG" or image.size != (self.size, self.size):
            raise RuntimeError(f"asked for {self.size}x{self.size} and got {image.format} {image.size}")

    def _graph(self, loader: dict[str, Any], output: dict[str, Any]) -> Graph:
        graph: Graph = {}
        if self.photo is not None:
            graph["source"] = loader
            graph["wait"] = _node("BenchWait", images=["source", 0], milliseconds=self.wait_ms)
        elif self.wait_ms:
            graph["source"] = _node("BenchPicture", side=self.size, milliseconds=self.wait_ms)
        else:
            graph["source"] = _node("EmptyImage", width=self.size, height=self.size, batch_size=1, color=0x336699)
        graph["output"] = {**output, "inputs": {**output["inputs"], "images": [next(reversed(graph)), 0]}}
        return graph


def _node(kind: str, **inputs: object) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


Way = Callable[[Case], Awaitable[float]]
"""Runs one job and returns its overhead in seconds."""


def rows() -> list[Row]:
    """Milliseconds per job and jobs per second; about five minutes on two cores."""
    cases = _cases()
    spread = {case: [replace(case, wait_ms=wait_ms) for wait_ms in WAITS_MS] for case in cases}
    with tempfile.TemporaryDirectory() as folder:
        base, profiles = Path(folder, "base"), Path(folder, "profiles")
        (base / "custom_nodes").mkdir(parents=True)
        (base / "custom_nodes" / "bench").symlink_to(Path(__file__).with_name("_wait"), target_is_directory=True)
        profiles.mkdir()
        for case in (*cases, *(case for group in spread.values() for case in group)):
            (profiles / f"{case.profile}.json").write_text(json.dumps(case.our_graph()), encoding="utf-8")
        env = {"FLUX_FACE_PROFILES_DIR": str(profiles)}
        with Comfy.start(base, ROOT, Path(os.environ["COMFYUI_PATH"]), base / "models", env=env) as server:
            return asyncio.run(_measure(server.url, spread))


def _cases() -> list[Case]:
    astronaut = Image.open(Path(skimage.__file__).parent / "data" / "astronaut.png").convert("RGB")
    buffer = io.BytesIO()
    Image.fromarray(np.tile(np.asarray(astronaut), (2, 2, 1))).save(buffer, "JPEG", quality=92)
    photo = buffer.getvalue()
    return [
        Case("64x64 of one colour", 64),
        Case("1024x1024 of one colour", 1024),
        Case(f"1024x1024 photo of {len(photo) // 1000} kB in and out", 1024, photo),
    ]


class Server:
    """Runs a case either way and looks at the result."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def ours(self, case: Case) -> float:
        start = time.perf_counter()
        job_input = {"profile": case.profile}
        if case.photo is not None:
            job_input["user_photo"] = base64.b64encode(case.photo).decode()
        answer = await self._post("/flux-face/v1/runsync", json={"input": job_input})
        picture = base64.b64decode(answer["output"]["images"][0]["data"])
        seconds = time.perf_counter() - start
        case.check(picture)
        return seconds - case.wait_ms / 1000

    async def original(self, case: Case) -> float:
        start = time.perf_counter()
        await self._get("/")
        upload = None if case.photo is None else await self._upload(case.photo)
        prompt_id = (await self._post("/prompt", json={"prompt": case.original_graph(upload)}))["prompt_id"]
        while True:
            history = json.loads(await self._get(f"/history/{prompt_id}"))
            if prompt_id in history:
                break
            await asyncio.sleep(POLL_SECONDS)
        (image,) = history[prompt_id]["outputs"]["output"]["images"]
        encoded = base64.b64encode(await self._get("/view", **image))
        picture = base64.b64decode(encoded)
        seconds = time.perf_counter() - start
        case.check(picture)
        return seconds - case.wait_ms / 1000

    async def _upload(self, photo: bytes) -> str:
        form = aiohttp.FormData({"overwrite": "true"})
        received = base64.b64decode(base64.b64encode(photo))  # as the client sent it
        form.add_field("image", received, filename=f"{uuid.uuid4()}.jpg")
        return str((await self._post("/upload/image", data=form))["name"])

    async def _get(self, path: str, **query: str) -> bytes:
        async with self._session.get(self._url + path, params=query) as response:
            return await response.read()

    async def _post(self, path: str, **body: Any) -> dict[str, Any]:
        async with self._session.post(self._url + path, **body) as response:
            answer: dict[str, Any] = await response.json()
            if response.status != 200:
                raise RuntimeError(f"{path} answered {response.status}: {answer}")
            return answer


async def _measure(url: str, spread: dict[Case, list[Case]]) -> list[Row]:
    connector = aiohttp.TCPConnector(limit=0)  # as many connections as there are clients
    async with aiohttp.ClientSession(connector=connector) as session:
        server = Server(session, url)
        found = []
        for case, waiting in spread.items():
            await _overheads(server, waiting)  # warms up
            ours, original = await _overheads(server, waiting * TURNS)
            found.append(_milliseconds(f"overhead per job, {case.label}, median", 50, ours, original))
            found.append(_milliseconds(f"overhead per job, {case.label}, 99th percentile", 99, ours, original))
        trivial = next(iter(spread))
        ours, original = await _overheads(server, [trivial] * ALONE)
        found.append(_milliseconds(f"time per job, {trivial.label}, no wait, 1 client, median", 50, ours, original))
        return [*found, *await _load(server, trivial)]


async def _overheads(server: Server, cases: Sequence[Case]) -> tuple[list[float], list[float]]:
    pairs = [(await server.ours(case), await server.original(case)) for case in cases]
    return [ours for ours, _ in pairs], [original for _, original in pairs]


async def _load(server: Server, case: Case) -> list[Row]:
    ways: tuple[Way, Way] = (server.ours, server.original)
    rates: tuple[list[float], list[float]] = ([], [])
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for way, rate, taken in zip(ways, rates, times, strict=True):
            start = time.perf_counter()
            await _crowd(way, case, CLIENTS, JOBS_PER_CLIENT)
            rate.append(CLIENTS * JOBS_PER_CLIENT / (time.perf_counter() - start))
            taken += await _crowd(way, case, CROWD, JOBS_PER_ONE)
    label = f"{case.label}, no wait"
    return [
        higher(f"jobs per second, {label}, {CLIENTS} clients", *_medians(rates), ORIGINAL, "jobs/s"),
        _milliseconds(f"time per job, {label}, {CROWD} clients, 99th percentile", 99, *times),
    ]


async def _crowd(way: Way, case: Case, clients: int, jobs: int) -> list[float]:
    async def one() -> list[float]:
        return [await way(case) for _ in range(jobs)]

    return [seconds for several in await asyncio.gather(*(one() for _ in range(clients))) for seconds in several]


def _medians(rates: tuple[list[float], list[float]]) -> tuple[float, float]:
    return statistics.median(rates[0]), statistics.median(rates[1])


def _milliseconds(case: str, percent: float, ours: Sequence[float], original: Sequence[float]) -> Row:
    mine, theirs = (1000 * float(np.percentile(seconds, percent)) for seconds in (ours, original))
    return lower(case, mine, theirs, ORIGINAL, "ms")
