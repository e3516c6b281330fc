"""Tokens, limits and a worker thread that dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from PIL import Image

from flux_face.tests.comfy_server import Comfy
from flux_face.tests.routes.client import BASE, Client, as_base64, encode

BOB = {"Authorization": "Bearer bob-0123456789abcdef"}
PATHS = [("POST", "/run"), ("POST", "/runsync"), ("GET", "/status/x"), ("POST", "/cancel/x"), ("GET", "/stream/x")]


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer "},
        {"Authorization": "alice-0123456789abcdef"},
        {"Authorization": "Basic alice-0123456789abcdef"},
        {"X-Flux-Face-Token": "wrong"},
        {"X-Flux-Face-Token": ""},
        {"X-Flux-Face-Token": "wrong", "Authorization": "Bearer alice-0123456789abcdef"},
    ],
)
async def test_strangers_are_refused(tight_server: Comfy, method: str, path: str, headers: dict[str, str]) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, tight_server.url + BASE + path, headers=headers) as response,
    ):
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert (await response.json())["error"]["code"] == "unauthorised"


async def test_a_gateways_own_key_does_not_hide_the_token(tight_server: Comfy) -> None:
    headers = {"Authorization": "Bearer rpa_the_gateways", "X-Flux-Face-Token": "alice-0123456789abcdef"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(tight_server.url + BASE + "/profiles", headers=headers) as response,
    ):
        assert response.status == 200


async def test_health_needs_no_token(tight_server: Comfy) -> None:
    async with aiohttp.ClientSession() as session:
        for path in ("/health", "/ready"):
            async with session.get(tight_server.url + BASE + path) as response:
                assert response.status == 200


async def test_every_token_opens(tight: Client) -> None:
    assert (await tight.runsync(profile="tiny")).images()
    answer = await tight.post("/runsync", json={"input": {"profile": "tiny"}}, headers=BOB)
    assert answer.images()


@pytest.mark.parametrize(
    "headers", [{"X-Forwarded-For": "203.0.113.9"}, {"Forwarded": "for=203.0.113.9"}, {"Host": "rebound.example"}]
)
async def test_without_tokens_only_this_machine_is_served(client: Client, headers: dict[str, str]) -> None:
    answer = await client.post("/run", json={"input": {"profile": "tiny"}}, headers=headers)
    assert answer.code == 401
    assert "FLUX_FACE_API_TOKENS" in answer.error["remedy"]


async def test_announced_body_over_the_limit(tight: Client) -> None:
    answer = await tight.post("/run", data=b" " * 20_001, headers={"Content-Type": "application/json"})
    assert answer.code == 413
    assert answer.error["code"] == "body_too_large"


async def test_chunked_body_over_the_limit(tight: Client) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b" " * 1000

    answer = await tight.post("/run", data=chunks(), headers={"Content-Type": "application/json"})
    assert answer.code == 413


async def test_form_over_the_limit(tight: Client) -> None:
    form = aiohttp.FormData({"input": '{"profile": "photo"}'}, default_to_multipart=True)
    form.add_field("user_photo", b"x" * 30_000, filename="me.png")
    answer = await tight.post("/run", data=form)
    assert answer.code == 413


async def test_slow_body_is_given_up(tight: Client) -> None:
    async def drip() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" "
            await asyncio.sleep(0.1)

    answer = await tight.post("/run", data=drip(), headers={"Content-Type": "application/json"})
    assert answer.code == 408


async def test_photo_over_its_limit(tight: Client) -> None:
    noise = Image.effect_noise((66, 66), 100).convert("RGB")
    photo = encode(noise)
    assert 10_000 < len(photo) < 14_000
    answer = await tight.runsync(profile="photo", user_photo=as_base64(photo))
    assert answer.code == 413
    assert "10000" in answer.error["message"]


async def test_pixels_of_the_whole_job_are_limited(tight: Client) -> None:
    answer = await tight.runsync(profile="tiny", width=128, height=128, batch_size=3)
    assert answer.code == 400
    assert "40000" in answer.error["message"]


async def test_queue_limit_then_room_again(tight: Client) -> None:
    jobs = [await tight.run(profile="sleep") for _ in range(3)]
    answer = await tight.runsync(profile="tiny")
    assert answer.code == 429
    assert answer.error["code"] == "queue_full"
    ready = await tight.get("/ready")
    assert ready.code == 503
    assert "queue is full" in ready.body["reasons"][0]
    for job_id in jobs:
        await tight.post(f"/cancel/{job_id}")
        await tight.until_ended(job_id)
    assert (await tight.runsync(profile="tiny")).images()


async def test_oldest_results_are_forgotten_first(tight: Client) -> None:
    """A job is remembered when its pictures are not any more, and says so."""
    ids = [(await tight.runsync(profile="tiny")).body["id"] for _ in range(7)]
    answers = [(await tight.get(f"/status/{job_id}")).body for job_id in ids]
    assert [answer["status"] for answer in answers] == ["COMPLETED"] * 7
    assert [len(answer["output"]["images"]) for answer in answers] == [0, 0, 1, 1, 1, 1, 1]
    assert ["error" in answer for answer in answers] == [True, True, False, False, False, False, False]
    assert answers[0]["error"].startswith("[result_gone]")
    assert answers[0]["output"]["seeds"]


async def test_tokens_and_photos_stay_out_of_the_log(tight: Client, tight_server: Comfy) -> None:
    photo = as_base64(encode(Image.new("RGB", (50, 50), (77, 88, 99))))
    await tight.runsync(profile="photo", user_photo=photo)
    log = tight_server.log()
    assert "alice-0123456789abcdef" not in log
    assert photo[:60] not in log


async def test_a_dead_worker_thread_is_seen(tight: Client) -> None:
    """Last in this file: afterwards this server runs nothing any more."""
    waiting = [await tight.run(profile="exit"), await tight.run(profile="tiny")]
    for job_id in waiting:
        ended = await tight.until_ended(job_id)
        assert ended.body["status"] == "FAILED"
        assert ended.body["error"].startswith("[server_broken]")
    ready = await tight.get("/ready")
    assert ready.code == 503
    assert "worker thread" in ready.body["reasons"][0]
    assert (await tight.get("/health")).body["workers"] == {"idle": 0, "running": 0}
    assert (await tight.get("/jobs?state=IN_QUEUE,IN_PROGRESS")).body["jobs"] == []
    answer = await tight.runsync(profile="tiny")
    assert answer.code == 503
    assert answer.error["code"] == "server_broken"
