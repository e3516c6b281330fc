"""Whose job it is: tokens, admins, keys, retries, priorities, other origins, webhooks, previews, the warm-up."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import io
import json
import uuid
from typing import Any

from PIL import Image

from flux_face.tests.routes.client import BASE, Client, as_base64, encode
from flux_face.tests.routes.conftest import ADMIN, ORIGIN, TOKENS, WEBHOOK_SECRET
from flux_face.tests.routes.peers import Peer

BOB = {"Authorization": f"Bearer {TOKENS['bob']}"}
OPS = {"Authorization": f"Bearer {ADMIN}"}
EVENTS = {"Accept": "text/event-stream"}
FACE_FREE = as_base64(encode(Image.new("RGB", (64, 64), (90, 120, 90))))


def keyed(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


async def test_another_callers_job_does_not_exist(wide: Client) -> None:
    job_id = (await wide.runsync(profile="tiny", images_as="url")).body["id"]
    for method, path in (("GET", "status"), ("GET", "stream"), ("POST", "cancel"), ("POST", "retry")):
        answer = await wide.raw(method, f"{BASE}/{path}/{job_id}", headers=BOB)
        assert answer.code == 404
    assert (await wide.raw("GET", f"{BASE}/image/{job_id}/{job_id}_0.png", headers=BOB)).code == 404
    listed = [job["id"] for job in (await wide.get("/jobs?limit=500", headers=BOB)).body["jobs"]]
    assert job_id not in listed
    assert (await wide.get(f"/status/{job_id}", headers=OPS)).code == 200
    listed = [job["id"] for job in (await wide.get("/jobs?limit=500", headers=OPS)).body["jobs"]]
    assert job_id in listed


async def test_purging_leaves_others_jobs_alone(wide: Client) -> None:
    running = await wide.run(profile="sleep")
    await wide.until(running, "IN_PROGRESS")
    mine = await wide.run(profile="tiny")
    body = {"input": {"profile": "tiny"}}
    theirs = (await wide.post("/run", json=body, headers=BOB)).body["id"]
    assert (await wide.post("/purge-queue")).body["removed"] == 1
    assert (await wide.get(f"/status/{mine}")).body["status"] == "CANCELLED"
    await wide.post(f"/cancel/{running}")
    await wide.until_ended(running)
    assert (await wide.until_ended(theirs, headers=BOB)).body["status"] == "COMPLETED"


async def test_the_list_is_filtered_and_paged(wide: Client) -> None:
    ids = [(await wide.runsync(profile="tiny")).body["id"] for _ in range(3)]
    newest = (await wide.get("/jobs?state=COMPLETED&limit=2")).body["jobs"]
    assert [job["id"] for job in newest] == [ids[2], ids[1]]
    assert newest[0]["status"] == "COMPLETED"
    assert (await wide.get("/jobs?state=COMPLETED&limit=1&offset=2")).body["jobs"][0]["id"] == ids[0]
    assert (await wide.get("/jobs?state=IN_QUEUE")).body["jobs"] == []
    for query in ("state=DONE", "limit=0", "limit=501", "offset=-1", "limit=x"):
        assert (await wide.get(f"/jobs?{query}")).code == 400


async def test_a_key_names_one_job(wide: Client) -> None:
    key = str(uuid.uuid4())
    body = {"input": {"profile": "nap"}}
    answers = await asyncio.gather(*(wide.post("/run", json=body, headers=keyed(key)) for _ in range(5)))
    assert len({answer.body["id"] for answer in answers}) == 1
    job_id = answers[0].body["id"]
    again = await wide.post("/runsync", json=body, headers=keyed(key))
    assert again.body["id"] == job_id
    assert again.body["status"] == "COMPLETED"
    other = await wide.post("/run", json={"input": {"profile": "tiny"}}, headers=keyed(key))
    assert (other.code, other.error["code"]) == (409, "idempotency_conflict")
    theirs = await wide.post("/run", json=body, headers={**keyed(key), **BOB})
    assert theirs.body["id"] != job_id, "another caller's key is another key"


async def test_a_refused_request_does_not_use_up_its_key(wide: Client) -> None:
    key = str(uuid.uuid4())
    refused = await wide.post("/run", json={"input": {"profile": "tiny", "width": 65}}, headers=keyed(key))
    assert refused.code == 400
    assert (await wide.post("/runsync", json={"input": {"profile": "tiny"}}, headers=keyed(key))).images()
    assert (await wide.post("/run", json={"input": {"profile": "tiny"}}, headers=keyed("k" * 256))).code == 400


async def test_a_failed_job_runs_again_under_its_id(wide: Client) -> None:
    failed = await wide.runsync(profile="faceswap", user_photo=FACE_FREE, target_image=FACE_FREE)
    assert failed.body["status"] == "FAILED"
    job_id = failed.body["id"]
    again = await wide.post(f"/retry/{job_id}")
    assert again.body == {"id": job_id, "status": "IN_QUEUE"}
    ended = await wide.until_ended(job_id)
    assert ended.body["status"] == "FAILED"
    assert ended.body["error"] == failed.body["error"], "the photo was still there and still has no face"


async def test_only_failed_jobs_run_again(wide: Client) -> None:
    job_id = (await wide.runsync(profile="tiny")).body["id"]
    answer = await wide.post(f"/retry/{job_id}")
    assert (answer.code, answer.error["code"]) == (409, "job_not_failed")
    timed_out = await wide.run(policy={"executionTimeout": 1000}, profile="sleep")
    assert (await wide.until_ended(timed_out)).body["status"] == "TIMED_OUT"
    assert (await wide.post(f"/retry/{timed_out}")).code == 200
    await wide.post(f"/cancel/{timed_out}")
    assert (await wide.until_ended(timed_out)).body["status"] == "CANCELLED"
    assert (await wide.post(f"/retry/{timed_out}")).code == 409


async def test_higher_priority_runs_first(wide: Client) -> None:
    running = await wide.run(profile="sleep")
    await wide.until(running, "IN_PROGRESS")
    low = await wide.post("/run", json={"input": {"profile": "tiny"}, "policy": {"lowPriority": True}})
    usual = await wide.run(profile="nap")
    high = await wide.post("/run", json={"input": {"profile": "nap"}, "policy": {"priority": 5}})
    await wide.post(f"/cancel/{running}")
    await wide.until_ended(running)
    await wide.until_ended(high.body["id"])
    order = [high.body["id"], usual, low.body["id"]]
    for job_id in order:
        await wide.until_ended(job_id)
    listed = {job["id"]: job for job in (await wide.get("/jobs?limit=10")).body["jobs"]}
    started = [listed[job_id]["created"] + listed[job_id]["delayTime"] / 1000 for job_id in order]
    rounding = 0.002
    assert started[0] < started[1] + rounding < started[2] + 2 * rounding
    assert (await wide.post("/run", json={"input": {"profile": "tiny"}, "policy": {"priority": 11}})).code == 400


async def test_a_waiting_jobs_stream_tells_how_the_queue_shrinks(wide: Client) -> None:
    ahead = [await wide.run(profile="sleep") for _ in range(2)]
    await wide.until(ahead[0], "IN_PROGRESS")
    last = await wide.run(profile="tiny")
    positions: list[int] = []
    async with wide.session.get(f"{wide.url}{BASE}/stream/{last}", headers=EVENTS) as response:
        async for line in response.content:
            if line.startswith(b"data: "):
                data = json.loads(line.removeprefix(b"data: "))
                if data["status"] == "COMPLETED":
                    break
                if not positions or positions[-1] != data["position"]:
                    positions.append(data["position"])
                    if len(positions) <= 2:
                        await wide.post(f"/cancel/{ahead.pop()}")
    assert positions == [2, 1, 0]


async def test_only_the_operators_web_pages_may_call(wide: Client, client: Client) -> None:
    preflight = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST", "Sec-Fetch-Site": "cross-site"}
    answer = await wide.raw("OPTIONS", f"{BASE}/runsync", headers=preflight)
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]
    headers = {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"}
    job = await wide.raw("POST", f"{BASE}/runsync", json={"input": {"profile": "tiny"}}, headers=headers)
    assert job.code == 200
    assert job.headers["Access-Control-Allow-Origin"] == ORIGIN
    stream = await wide.raw("GET", f"{BASE}/stream/{json.loads(job.body)['id']}", headers={**headers, **EVENTS})
    assert stream.headers["Access-Control-Allow-Origin"] == ORIGIN
    stranger = {"Origin": "https://elsewhere.example"}
    for server in (wide, client):
        refused = await server.raw("POST", f"{BASE}/run", json={"input": {"profile": "tiny"}}, headers=stranger)
        assert refused.code == 403
        assert "Access-Control-Allow-Origin" not in refused.headers
    # Nothing of ComfyUI's own is opened by it.
    own = await wide.raw("POST", "/queue", json={"clear": True}, headers={**headers, "Host": "localhost"})
    assert own.code == 403
    disguised = await wide.raw("GET", "/userdata/flux-face%2Fv1%2Fx", headers=headers)
    assert disguised.code == 403


async def test_a_webhook_is_signed_and_comes_again_until_it_is_heard(wide: Client, outside: Peer) -> None:
    outside.answers[:] = [500]
    outside.received.clear()
    body = {"input": {"profile": "tiny"}, "webhook": f"{outside.url}/done?x=1"}
    job_id = (await wide.post("/run", json=body)).body["id"]
    await outside.wait_for(2)
    first, second = outside.received
    assert first.path == "/done?x=1"
    for message in (first, second):
        assert json.loads(message.body) == (await wide.get(f"/status/{job_id}")).body
        headers = {name.lower(): value for name, value in message.headers.items()}
        assert headers["webhook-id"] == job_id
        signed = f"{job_id}.{headers['webhook-timestamp']}.".encode() + message.body
        key = base64.b64decode(WEBHOOK_SECRET.removeprefix("whsec_"))
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{expected}"


async def test_bad_webhooks_are_refused_at_once(wide: Client, client: Client) -> None:
    for address, code in (("https://10.0.0.1/", "url_refused"), ("ftp://example.com/", "url_scheme")):
        answer = await wide.post("/run", json={"input": {"profile": "tiny"}, "webhook": address})
        assert (answer.code, answer.error["code"], answer.error["field"]) == (400, code, "webhook")
    answer = await client.post("/run", json={"input": {"profile": "tiny"}, "webhook": "https://example.com/"})
    assert answer.error["code"] == "webhook_off"


async def test_previews_and_attempts_in_the_stream(wide: Client) -> None:
    from flux_face.tests.routes.test_portraits import ONE_FACE

    job_input: dict[str, Any] = {
        "profile": "starter",
        "prompt": "portrait of a woman",
        "user_photo": as_base64(encode(ONE_FACE)),
        "preview": True,
        "num_steps": 4,
    }
    job_id = await wide.run(**job_input)
    raw = await wide.raw("GET", f"{BASE}/stream/{job_id}", headers=EVENTS)
    events = [
        (name.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
        for name, data in (block.split("\n", 1) for block in raw.body.decode().strip().split("\n\n"))
        if name.startswith("event: ")
    ]
    previews = [data["image"] for name, data in events if name == "preview"]
    assert previews
    kind, _, encoded = previews[0].partition(",")
    assert kind == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(encoded))).format == "JPEG"
    steps = [data for name, data in events if name == "status" and "value" in data]
    assert any(data["class_type"] == "SamplerCustomAdvanced" and data["attempt"] == 1 for data in steps)


async def test_no_previews_unless_asked_for(wide: Client) -> None:
    from flux_face.tests.routes.test_portraits import ONE_FACE

    photo = as_base64(encode(ONE_FACE))
    job_id = await wide.run(profile="starter", prompt="portrait of a man", user_photo=photo, num_steps=4)
    raw = await wide.raw("GET", f"{BASE}/stream/{job_id}", headers=EVENTS)
    assert b"event: preview" not in raw.body
    assert b"event: result" in raw.body


async def test_ready_when_warm(wide: Client) -> None:
    while not (ready := await wide.get("/ready")).body["ready"]:
        assert ready.code == 503
        assert ready.body["reasons"] == ["the warm-up has not ended yet"]
        await asyncio.sleep(0.1)
    assert ready.body["warm"] is True
    warm_ups = [
        job for job in (await wide.get("/jobs?limit=500", headers=OPS)).body["jobs"] if job["profile"] == "starter"
    ]
    assert warm_ups[-1]["status"] == "COMPLETED"
