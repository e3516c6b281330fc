"""How pictures get in and out: forms, addresses, whole graphs; files, links, storage."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import aiohttp
import numpy as np
import pytest
from PIL import Image

from flux_face.tests.comfy_server import Comfy
from flux_face.tests.routes.client import BASE, Client, RawAnswer, as_base64, encode
from flux_face.tests.routes.conftest import BUCKET
from flux_face.tests.routes.peers import Peer
from flux_face.tests.routes.test_portraits import ONE_FACE, OTHER_FACE

RED, GREEN = (250, 0, 0), (0, 250, 0)


def plain(colour: tuple[int, int, int], size: tuple[int, int] = (8, 8)) -> bytes:
    return encode(Image.new("RGB", size, colour))


def form(files: dict[str, bytes] | None = None, **fields: object) -> aiohttp.FormData:
    data = aiohttp.FormData(default_to_multipart=True)
    for name, value in fields.items():
        data.add_field(name, value if isinstance(value, str) else json.dumps(value))
    for name, content in (files or {}).items():
        data.add_field(name, content, filename="me.png", content_type="image/png")
    return data


def pixels(answer: RawAnswer) -> Any:
    return np.asarray(Image.open(io.BytesIO(answer.body)))


def raw_graph() -> dict[str, Any]:
    """As a client of worker-comfyui has it: pictures in by LoadImage, out by SaveImage."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": "me.png"}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}},
        "4": {"class_type": "MaskToImage", "inputs": {"mask": ["1", 1]}},
        "5": {"class_type": "PreviewImage", "inputs": {"images": ["4", 0]}},
    }


async def test_a_form_with_raw_files(client: Client) -> None:
    data = form({"user_photo": plain(RED), "target_image": plain(GREEN)}, input={"profile": "two"})
    answer = await client.post("/runsync", data=data)
    assert [tuple(image[0, 0]) for image in answer.images()] == [RED, GREEN]


async def test_a_form_carries_the_policy_too(client: Client) -> None:
    data = form({"user_photo": plain(RED)}, input={"profile": "photo"}, policy={"executionTimeout": 1})
    answer = await client.post("/run", data=data)
    assert (answer.code, answer.error["field"]) == (400, "policy.executionTimeout")


@pytest.mark.parametrize(
    ("files", "fields", "code", "field"),
    [
        ({"me": plain(RED)}, {"input": {"profile": "photo"}}, "field_unknown", "me"),
        ({"user_photo": plain(RED)}, {"input": "{"}, "body_not_json", "input"),
        ({"user_photo": b"GIF89a"}, {"input": {"profile": "photo"}}, "photo_format", "user_photo"),
        ({"user_photo": plain(RED)}, {"input": {"profile": "tiny"}}, "field_unused", "user_photo"),
        (
            {"user_photo": plain(RED)},
            {"input": {"profile": "photo", "user_photo": "eA=="}},
            "field_twice",
            "user_photo",
        ),
        ({"user_photo": plain(RED)}, {}, "field_missing", "prompt"),
        ({"user_photo": plain(RED)}, {"inputs": "{}"}, "field_unknown", "inputs"),
    ],
)
async def test_bad_forms(
    client: Client, files: dict[str, bytes], fields: dict[str, Any], code: str, field: str
) -> None:
    answer = await client.post("/run", data=form(files, **fields))
    assert answer.code in (400, 415)
    assert (answer.error["code"], answer.error["field"]) == (code, field)


@pytest.mark.parametrize(
    "content", [b"", b"--x\r\n", b"--x\r\nContent-Disposition: form-data\r\n\r\n\r\n--x--\r\n", b"\0"]
)
async def test_malformed_forms(client: Client, content: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = await client.post("/run", data=content, headers=headers)
    assert answer.code == 400
    assert (await client.post("/run", data=content, headers={"Content-Type": "multipart/form-data"})).code == 400


async def test_one_picture_as_the_answer(client: Client) -> None:
    for kind in ("image/png", "image/webp;q=0.9, */*;q=0.1", "image/*"):
        answer = await client.raw(
            "POST", f"{BASE}/runsync", json={"input": {"profile": "tiny"}}, headers={"Accept": kind}
        )
        assert answer.headers["Content-Type"] == "image/png", "the format is the request's output_format"
        assert pixels(answer).shape == (64, 64, 3)
        assert answer.headers["Flux-Face-Job"]


async def test_two_pictures_are_no_answer(client: Client) -> None:
    body = {"input": {"profile": "tiny", "batch_size": 2}}
    answer = await client.post("/runsync", json=body, headers={"Accept": "image/png"})
    assert answer.code == 406
    assert answer.error["field"] == "Accept"


async def test_pictures_as_addresses_of_this_server(client: Client) -> None:
    answer = await client.runsync(profile="tiny", batch_size=2, images_as="url", output_format="webp")
    items = answer.body["output"]["images"]
    assert [item["type"] for item in items] == ["url", "url"]
    for item in items:
        picture = await client.raw("GET", item["data"])
        assert picture.headers["Content-Type"] == "image/webp"
        assert pixels(picture).shape == (64, 64, 3)
    lost = await client.get(f"/image/{answer.body['id']}/other.png")
    assert (lost.code, lost.error["code"]) == (404, "image_not_found")


async def test_pictures_in_storage(wide: Client, bucket_url: str) -> None:
    answer = await wide.runsync(profile="tiny", batch_size=2, images_as="s3")
    items = answer.body["output"]["images"]
    assert [item["type"] for item in items] == ["s3_url", "s3_url"]
    for item in items:
        assert item["data"].startswith(f"{bucket_url}/{BUCKET}/{answer.body['id']}/{item['filename']}?")
        async with wide.session.get(item["data"], headers={"Authorization": ""}) as stored:
            assert Image.open(io.BytesIO(await stored.read())).size == (64, 64)


async def test_no_storage_is_said_at_once(client: Client) -> None:
    answer = await client.runsync(profile="tiny", images_as="s3")
    assert (answer.code, answer.error["code"]) == (400, "storage_missing")


async def test_a_photo_is_fetched(wide: Client, outside: Peer) -> None:
    outside.files["/me.png"] = plain(RED)
    answer = await wide.runsync(profile="photo", user_photo=f"{outside.url}/me.png")
    assert tuple(answer.images()[0][0, 0]) == RED


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("https://127.0.0.1/me.png", "url_refused"),
        ("https://localhost/me.png", "url_refused"),
        ("https://169.254.169.254/latest/meta-data", "url_refused"),
        ("https://[::1]/me.png", "url_refused"),
        ("http://example.com/me.png", "url_scheme"),
        ("{peer}/missing.png", "url_status"),
        ("{peer}/page.html", "photo_format"),
    ],
)
async def test_addresses_that_give_no_photo(wide: Client, outside: Peer, address: str, code: str) -> None:
    outside.files["/page.html"] = b"<html>"
    answer = await wide.runsync(profile="photo", user_photo=address.format(peer=outside.url))
    assert answer.code in (400, 415)
    assert (answer.error["code"], answer.error["field"]) == (code, "user_photo")


async def test_verdict_only(client: Client) -> None:
    """The QA route judges a picture and returns none."""
    target = as_base64(encode(OTHER_FACE))
    alone = await client.post("/qa", json={"input": {"target_image": target}})
    assert alone.code == 200, alone.body
    assert alone.body["status"] == "COMPLETED", alone.body
    assert len(alone.body["output"]["qa"]) == 1
    assert "images" not in alone.body["output"]
    assert "error" not in alone.body
    photo = as_base64(encode(ONE_FACE))
    compared = await client.post("/qa", json={"input": {"target_image": target, "user_photo": photo}})
    assert compared.body["output"]["profile"] == "qa-photo"
    assert (await client.post("/qa", json={"input": {}})).error["field"] == "target_image"


async def test_the_originals_address_and_names(client: Client) -> None:
    body = {"input": {"source_image": as_base64(encode(ONE_FACE)), "target_image": as_base64(encode(OTHER_FACE))}}
    old = await client.raw("POST", "/api/runpod", json=body)
    assert old.code == 200
    output = json.loads(old.body)["output"]
    assert output["image"] == output["images"][0]["data"]
    assert Image.open(io.BytesIO(base64.b64decode(output["image"]))).size == OTHER_FACE.size
    bad = await client.raw("POST", "/api/runpod", json={"input": {"target_image": "x"}})
    assert json.loads(bad.body)["error"]["field"] == "user_photo"


async def test_a_whole_graph(wide: Client, wide_server: Comfy) -> None:
    photo = Image.new("RGBA", (8, 8), (*RED, 255))
    photo.putpixel((0, 0), (*RED, 0))
    images = [{"name": "me.png", "image": as_base64(encode(photo))}]
    answer = await wide.runsync(workflow=raw_graph(), images=images)
    inverted, mask = answer.images()
    assert (inverted == [5, 255, 255]).all(), "colours below alpha are kept, as LoadImage does"
    assert mask[0, 0, 0] == 255
    assert mask[1, 1, 0] == 0
    assert answer.body["output"]["profile"] == "workflow"
    for folder in ("output", "input", "temp"):
        assert not list((wide_server.base / folder).rglob("*.png"))


@pytest.mark.parametrize(
    ("changed", "code", "field"),
    [
        ({"images": []}, "graph_invalid", "workflow"),
        ({"images": [{"name": "other.png", "image": "eA=="}]}, "workflow_invalid", "workflow"),
        ({"images": [{"name": "me.png", "image": "eA=="}]}, "photo_format", "images.me.png"),
        ({"workflow": {"nodes": []}}, "workflow_invalid", "workflow"),
        (
            {
                "workflow": {
                    **raw_graph(),
                    "6": {"class_type": "FluxFaceLoadPhoto", "inputs": {"photo": "job:1/user_photo"}},
                }
            },
            "workflow_invalid",
            "workflow",
        ),
        (
            {"workflow": {"1": {"class_type": "LoadImage", "inputs": {"image": "me.png"}}}},
            "workflow_invalid",
            "workflow",
        ),
        ({"profile": "tiny"}, "field_unused", "profile"),
        ({"prompt": "x"}, "field_unused", "prompt"),
    ],
)
async def test_bad_graphs(wide: Client, changed: dict[str, Any], code: str, field: str) -> None:
    job_input = {"workflow": raw_graph(), "images": [{"name": "me.png", "image": as_base64(plain(RED))}], **changed}
    answer = await wide.runsync(**job_input)
    assert answer.code in (400, 415)
    assert (answer.error["code"], answer.error["field"]) == (code, field)


async def test_graphs_are_off_unless_the_operator_allows_them(client: Client) -> None:
    answer = await client.runsync(workflow=raw_graph())
    assert (answer.code, answer.error["code"]) == (400, "workflow_off")
