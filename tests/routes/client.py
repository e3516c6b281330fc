"""What a client of the HTTP API does, and pictures for it to send."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import numpy as np
import numpy.typing as npt
from PIL import Image

BASE = "/flux-face/v1"


@dataclass(frozen=True)
class Answer:
    """Status code and JSON body."""

    code: int
    body: dict[str, Any]

    @property
    def error(self) -> dict[str, str]:
        """The error object of a 4xx or 5xx."""
        error: dict[str, str] = self.body["error"]
        return error

    def images(self, key: str = "images") -> list[npt.NDArray[np.uint8]]:
        """The decoded pictures of a completed job."""
        assert self.body["status"] == "COMPLETED", self.body
        return [np.asarray(open_image(item)) for item in self.body["output"][key]]


@dataclass(frozen=True)
class RawAnswer:
    """Status code, headers and body as it came."""

    code: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Client:
    """Speaks to one server."""

    session: aiohttp.ClientSession
    url: str

    async def get(self, path: str, **kwargs: Any) -> Answer:
        async with self.session.get(self.url + BASE + path, **kwargs) as response:
            return Answer(response.status, await response.json())

    async def post(self, path: str, **kwargs: Any) -> Answer:
        async with self.session.post(self.url + BASE + path, **kwargs) as response:
            return Answer(response.status, await response.json())

    async def raw(self, method: str, path: str, **kwargs: Any) -> RawAnswer:
        async with self.session.request(method, self.url + path, **kwargs) as response:
            return RawAnswer(response.status, response.headers, await response.read())

    async def runsync(self, **job_input: Any) -> Answer:
        return await self.post("/runsync", json={"input": job_input})

    async def run(self, policy: dict[str, int] | None = None, **job_input: Any) -> str:
        body: dict[str, Any] = {"input": job_input} if policy is None else {"input": job_input, "policy": policy}
        answer = await self.post("/run", json=body)
        assert answer.code == 200, answer.body
        job_id: str = answer.body["id"]
        return job_id

    async def until(self, job_id: str, *states: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Ask for the status until it is one of these; the test's timeout bounds it."""
        while True:
            answer = await self.get(f"/status/{job_id}", headers=headers)
            if answer.body["status"] in states:
                return answer
            await asyncio.sleep(0.05)

    async def until_ended(self, job_id: str, headers: Mapping[str, str] | None = None) -> Answer:
        return await self.until(job_id, "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT", headers=headers)


def open_image(item: dict[str, str]) -> Image.Image:
    """A picture in worker-comfyui's shape, decoded."""
    assert item["type"] == "base64"
    image = Image.open(io.BytesIO(base64.b64decode(item["data"])))
    image.load()
    return image


def encode(image: Image.Image, name: str = "PNG", **options: Any) -> bytes:
    """A picture's file."""
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def as_base64(data: bytes) -> str:
    """What goes into ``user_photo``."""
    return base64.b64encode(data).decode()
