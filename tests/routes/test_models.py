"""Models over HTTP, from a stand-in of the hub that they are downloaded from."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest

from flux_face.tests.catalogue.hub import Fault, Hub, Served
from flux_face.tests.comfy_server import Comfy
from flux_face.tests.routes.client import Answer, Client
from flux_face.tests.routes.conftest import ADMIN

OPS = {"Authorization": f"Bearer {ADMIN}"}
GHOST = "facefusion/models-3.0.0/ghost_1_256.onnx"


async def until_ended(client: Client) -> dict[str, Any]:
    while True:
        status = (await client.get("/models/download", headers=OPS)).body
        if status["state"] != "running":
            return status
        await asyncio.sleep(0.05)


async def start(client: Client, **body: Any) -> Answer:
    return await client.post("/models/download", json=body, headers=OPS)


async def one(client: Client, name: str) -> dict[str, Any]:
    models = (await client.get("/models")).body["models"]
    (found,) = (model for model in models if model["id"] == name)
    return dict(found)


async def test_the_list_tells_terms_and_what_is_here(wide: Client) -> None:
    listing = (await wide.get("/models")).body
    assert "flux1-schnell-gguf" in listing["sets"]
    model = await one(wide, "simswap-256")
    assert model["state"] == "missing"
    assert model["must_be_accepted"] is True
    assert model["licence"]["link"].startswith("https://")
    assert model["files"][0]["folder"] == "facefusion"


async def test_only_admins_download(wide: Client) -> None:
    for method, path in (
        ("POST", "/models/download"),
        ("POST", "/models/download/cancel"),
        ("GET", "/models/download"),
    ):
        answer = await wide.raw(method, f"/flux-face/v1{path}", json={"models": ["ghost-1"]})
        assert answer.code == 403


async def test_a_download_from_start_to_end(wide: Client, wide_server: Comfy, hub: Hub) -> None:
    content = b"network" * 10_000
    hub.files[GHOST] = Served(content)
    started = await start(wide, models=["ghost-1"])
    assert started.code == 202
    assert started.body["models"] == ["ghost-1"]
    ended = await until_ended(wide)
    assert ended["state"] == "completed", ended
    assert ended["files"] == [{"file": "facefusion/ghost_1_256.onnx", "received": 70_000, "total": 70_000}]
    path = wide_server.base / "models" / "facefusion" / "ghost_1_256.onnx"
    assert path.read_bytes() == content
    assert (await one(wide, "ghost-1"))["state"] == "found"


async def test_a_wrong_file_is_not_kept(wide: Client, wide_server: Comfy, hub: Hub) -> None:
    hub.files["facefusion/models-3.0.0/ghost_2_256.onnx"] = Served(b"x" * 1000, sha256=hashlib.sha256(b"y").hexdigest())
    await start(wide, models=["ghost-2"])
    ended = await until_ended(wide)
    assert ended["state"] == "failed"
    (error,) = ended["errors"]
    assert error["model"] == "ghost-2"
    assert error["remedy"]
    assert str(wide_server.base) not in str(ended)
    assert not (wide_server.base / "models" / "facefusion" / "ghost_2_256.onnx").exists()


async def test_licences_must_be_accepted(wide: Client, hub: Hub) -> None:
    before = len(hub.seen)
    await start(wide, models=["simswap-256"])
    ended = await until_ended(wide)
    assert ended["state"] == "failed"
    assert ended["errors"][0]["code"] == "licence_not_accepted"
    assert not [seen for seen in hub.seen[before:] if "simswap" in seen.path]


async def test_one_at_a_time_and_cancelled(wide: Client, hub: Hub) -> None:
    hub.files["facefusion/models-3.0.0/ghost_2_256.onnx"] = Served(b"x" * 1_000_000, cdn_faults=[Fault(drip=10)])
    assert (await start(wide, models=["ghost-2"])).code == 202
    busy = await start(wide, models=["ghost-1"])
    assert (busy.code, busy.error["code"]) == (409, "download_running")
    await wide.post("/models/download/cancel", headers=OPS)
    assert (await until_ended(wide))["state"] == "cancelled"


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"models": ["nothing-like-it"]}, "model_unknown", "models"),
        ({"models": []}, "field_type", "models"),
        ({}, "field_missing", "models"),
        ({"models": ["ghost-1"], "force": True}, "field_unknown", "force"),
        ({"models": [5]}, "field_type", "models.0"),
    ],
)
async def test_bad_downloads(wide: Client, body: dict[str, Any], code: str, field: str) -> None:
    answer = await start(wide, **body)
    assert answer.code in (400, 404)
    assert (answer.error["code"], answer.error["field"]) == (code, field)
