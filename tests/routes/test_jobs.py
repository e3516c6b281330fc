"""Jobs through a real ComfyUI: states, results, cancelling, time limits, failures."""

from __future__ import annotations

import asyncio
import json
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from flux_face.server_routes.jobs import Job, State
from flux_face.tests.comfy_server import Comfy
from flux_face.tests.routes.client import BASE, Client, as_base64, encode, open_image

BLUE = (0x33, 0x66, 0x99)
EVENTS = {"Accept": "text/event-stream"}


async def test_runsync_hands_the_picture_back(client: Client) -> None:
    answer = await client.runsync(profile="tiny", width=96, height=64, batch_size=2)
    assert answer.code == 200
    assert [image.shape for image in answer.images()] == [(64, 96, 3)] * 2
    assert all((image == BLUE).all() for image in answer.images())
    output = answer.body["output"]
    assert output["profile"] == "tiny"
    assert len(output["seeds"]) == 2
    assert set(output["timings"]) == {"queue_ms", "execution_ms", "encode_ms", "nodes_ms"}
    assert answer.body["delayTime"] >= 0
    assert answer.body["executionTime"] >= 0
    names = [item["filename"] for item in output["images"]]
    assert len(set(names)) == 2
    assert all(name.endswith(".png") for name in names)


async def test_a_whole_number_may_have_a_point(client: Client) -> None:
    """In JSON 96.0 is the integer 96."""
    answer = await client.runsync(profile="tiny", width=96.0, quality=80.0)
    assert answer.images()[0].shape == (64, 96, 3)


def test_an_error_is_told_with_the_end_and_not_before() -> None:
    job = Job(caller="alice", profile="tiny", request=None, error="[node_failed] profile: it failed. See the log")
    for state in State:
        job.state = state
        assert ("error" in job.to_json()) == state.is_final
        assert ("error" in job.summary()) == state.is_final


async def test_run_then_status_and_the_api_twin(client: Client) -> None:
    job_id = await client.run(profile="tiny")
    ended = await client.until_ended(job_id)
    assert ended.images()[0].shape == (64, 64, 3)
    again = await client.get(f"/status/{job_id}")
    assert again.body == ended.body, "a result can be asked for twice"
    async with client.session.get(f"{client.url}/api{BASE}/status/{job_id}") as response:
        assert (await response.json()) == ended.body


async def test_nothing_is_written_and_comfyui_forgets_the_job(client: Client, api_server: Comfy) -> None:
    photo = as_base64(encode(Image.new("RGB", (40, 30), (200, 10, 10))))
    answer = await client.runsync(profile="photo", user_photo=photo)
    assert answer.body["status"] == "COMPLETED"
    assert list((api_server.base / "output").rglob("*.*")) == []
    assert not list((api_server.base / "temp").rglob("*.png"))
    assert answer.body["id"] not in api_server.get("/history")


async def test_identical_jobs_each_return_their_pictures(client: Client) -> None:
    answers = [await client.runsync(profile="tiny", width=128) for _ in range(3)]
    assert [len(answer.images()) for answer in answers] == [1, 1, 1]
    assert len({answer.body["id"] for answer in answers}) == 3


async def test_two_photos_are_not_mixed_up(client: Client) -> None:
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    photos = [as_base64(encode(Image.new("RGB", (8, 8), colour))) for colour in colours]
    answers = await asyncio.gather(*(client.runsync(profile="photo", user_photo=photo) for photo in photos))
    assert [tuple(answer.images()[0][0, 0]) for answer in answers] == colours


async def test_two_pictures_in_one_job(client: Client) -> None:
    red, green = (as_base64(encode(Image.new("RGB", (8, 8), colour))) for colour in ((250, 0, 0), (0, 250, 0)))
    answer = await client.runsync(profile="two", user_photo=red, target_image=green)
    assert [tuple(image[0, 0]) for image in answer.images()] == [(250, 0, 0), (0, 250, 0)]
    missing = await client.runsync(profile="two", user_photo=red)
    assert missing.code == 400
    assert missing.error["field"] == "target_image"


@pytest.mark.parametrize(("output_format", "extension"), [("png", "png"), ("jpeg", "jpg"), ("webp", "webp")])
async def test_formats_and_the_mark_of_ai(client: Client, output_format: str, extension: str) -> None:
    answer = await client.runsync(profile="tiny", output_format=output_format, quality=80)
    item = answer.body["output"]["images"][0]
    assert item["filename"].endswith(f".{extension}")
    image = open_image(item)
    assert image.format == output_format.upper()
    assert np.abs(np.asarray(image.convert("RGB")).astype(int) - BLUE).max() <= 4
    xmp = image.info.get("xmp") or image.info["XML:com.adobe.xmp"].encode()
    assert b"digitalsourcetype/trainedAlgorithmicMedia" in xmp
    seed = answer.body["output"]["seeds"][0]
    assert f'"seed": {seed}'.encode() in xmp
    packet = xmp[xmp.index(b"<x:xmpmeta") : xmp.index(b"<?xpacket end")]
    assert ElementTree.fromstring(packet).tag == "{adobe:ns:meta/}xmpmeta"


async def test_twenty_jobs_at_once(client: Client) -> None:
    sizes = [64 + 16 * index for index in range(20)]
    answers = await asyncio.gather(*(client.runsync(profile="tiny", width=size) for size in sizes))
    assert [answer.images()[0].shape[1] for answer in answers] == sizes
    assert len({answer.body["id"] for answer in answers}) == 20


async def test_cancel_running_and_waiting(client: Client) -> None:
    running = await client.run(profile="sleep")
    await client.until(running, "IN_PROGRESS")
    waiting = await client.run(profile="sleep")
    assert (await client.get(f"/status/{waiting}")).body["status"] == "IN_QUEUE"

    assert (await client.post(f"/cancel/{waiting}")).body == {"id": waiting, "status": "CANCELLED"}
    assert (await client.get(f"/status/{waiting}")).body["status"] == "CANCELLED"
    assert (await client.get(f"/status/{running}")).body["status"] == "IN_PROGRESS"

    assert (await client.post(f"/cancel/{running}")).body == {"id": running, "status": "CANCELLED"}
    ended = await client.until_ended(running)
    assert ended.body["status"] == "CANCELLED"
    assert ended.body["error"].startswith("[cancelled]")
    assert (await client.post(f"/cancel/{running}")).body["status"] == "CANCELLED", "twice does no harm"
    assert (await client.runsync(profile="tiny")).body["status"] == "COMPLETED"


async def test_cancel_right_after_submission(client: Client) -> None:
    """ComfyUI may forget an interruption that comes while it takes the prompt; ours is repeated."""
    for _ in range(10):
        job_id = await client.run(profile="sleep")
        await client.post(f"/cancel/{job_id}")
        assert (await client.until_ended(job_id)).body["status"] == "CANCELLED"


async def test_cancelling_a_finished_job_changes_nothing(client: Client) -> None:
    answer = await client.runsync(profile="tiny")
    cancelled = await client.post(f"/cancel/{answer.body['id']}")
    assert cancelled.body["status"] == "COMPLETED"
    assert (await client.get(f"/status/{answer.body['id']}")).images()


async def test_a_queue_cleared_in_the_web_ui_ends_our_job(client: Client) -> None:
    running = await client.run(profile="sleep")
    await client.until(running, "IN_PROGRESS")
    waiting = await client.run(profile="tiny")
    async with client.session.post(f"{client.url}/queue", json={"clear": True}) as response:
        assert response.status == 200
    assert (await client.until_ended(waiting)).body["status"] == "CANCELLED"
    async with client.session.post(f"{client.url}/interrupt", json={}) as response:
        assert response.status == 200
    ended = await client.until_ended(running)
    assert ended.body["status"] == "CANCELLED"
    assert "stopped in ComfyUI" in ended.body["error"]


async def test_execution_timeout(client: Client) -> None:
    job_id = await client.run(policy={"executionTimeout": 1000}, profile="sleep")
    ended = await client.until_ended(job_id)
    assert ended.body["status"] == "TIMED_OUT"
    assert ended.body["error"].startswith("[timed_out]")


async def test_time_to_live_ends_a_waiting_job(client: Client) -> None:
    running = await client.run(profile="sleep")
    waiting = await client.run(policy={"ttl": 1000}, profile="tiny")
    assert (await client.until_ended(waiting)).body["status"] == "TIMED_OUT"
    assert (await client.get(f"/status/{running}")).body["status"] == "IN_PROGRESS"
    await client.post(f"/cancel/{running}")
    await client.until_ended(running)


async def test_runsync_answers_after_its_wait(client: Client) -> None:
    answer = await client.post("/runsync?wait=1000", json={"input": {"profile": "nap"}})
    assert answer.body["status"] == "IN_PROGRESS"
    assert (await client.until_ended(answer.body["id"])).images()


async def test_a_failing_node_fails_its_job_only(client: Client) -> None:
    failed, good = await asyncio.gather(client.runsync(profile="raise"), client.runsync(profile="tiny"))
    assert failed.code == 200
    assert failed.body["status"] == "FAILED"
    assert "output" not in failed.body
    assert failed.body["error"].startswith("[node_failed] profile: node TestRaise failed with RuntimeError")
    assert "/home/" not in failed.body["error"]
    assert "Traceback" not in failed.body["error"]
    assert good.images()


async def test_stream_tells_progress_and_the_result(client: Client) -> None:
    job_id = await client.run(profile="nap")
    events: list[tuple[str, dict[str, object]]] = []
    async with client.session.get(f"{client.url}{BASE}/stream/{job_id}", headers=EVENTS) as response:
        assert response.content_type == "text/event-stream"
        text = await response.text()
    for block in text.strip().split("\n\n"):
        if block.startswith("event: "):
            name, data = block.split("\n", 1)
            events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    assert any(data.get("class_type") == "TestSleep" for name, data in events if name == "status")
    assert [name for name, _ in events].count("result") == 1
    assert events[-1] == ("result", (await client.get(f"/status/{job_id}")).body)


async def test_stream_survives_a_client_that_leaves(client: Client) -> None:
    job_id = await client.run(profile="nap")
    async with client.session.get(f"{client.url}{BASE}/stream/{job_id}", headers=EVENTS) as response:
        await response.content.readline()
    assert (await client.until_ended(job_id)).images()


async def test_health_ready_and_profiles(client: Client) -> None:
    health = (await client.get("/health")).body
    assert health["workers"] == {"idle": 1, "running": 0}
    assert (await client.get("/ready")).body["ready"] is True
    profiles = {profile["name"]: profile for profile in (await client.get("/profiles")).body["profiles"]}
    assert profiles["flux1-schnell-gguf"]["default"] is True
    assert profiles["tiny"]["defaults"] == {"batch_size": 1, "width": 64, "height": 64}
    assert "user_photo" in profiles["starter"]["fields"]


async def test_health_answers_while_a_job_runs(client: Client) -> None:
    job_id = await client.run(profile="sleep")
    await client.until(job_id, "IN_PROGRESS")
    assert (await client.get("/health")).body["jobs"]["inProgress"] == 1
    await client.post(f"/cancel/{job_id}")
    await client.until_ended(job_id)


async def test_purging_cancels_what_waits_and_nothing_else(client: Client) -> None:
    running = await client.run(profile="sleep")
    await client.until(running, "IN_PROGRESS")
    waiting = [await client.run(profile="tiny") for _ in range(3)]
    assert (await client.post("/purge-queue")).body == {"removed": 3, "status": "completed"}
    states = {job["id"]: job["status"] for job in (await client.get("/jobs")).body["jobs"]}
    assert [states[job_id] for job_id in waiting] == ["CANCELLED"] * 3
    assert states[running] == "IN_PROGRESS"
    await client.post(f"/cancel/{running}")
    await client.until_ended(running)


async def test_metrics(client: Client) -> None:
    async def completed() -> int:
        async with client.session.get(f"{client.url}{BASE}/metrics") as response:
            assert response.content_type == "text/plain"
            lines = (await response.text()).splitlines()
        assert "flux_face_worker_alive 1" in lines
        values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return int(values['flux_face_jobs_total{state="COMPLETED"}'])

    before = await completed()
    await client.runsync(profile="tiny")
    assert await completed() == before + 1
