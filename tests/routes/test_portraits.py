"""The whole graph through the API, with real photographs and the starter models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import insightface
import numpy as np
import pytest
import skimage
from PIL import Image

from flux_face.tests.comfy_server import Comfy
from flux_face.tests.routes.client import Client, as_base64, encode

ONE_FACE = Image.open(Path(skimage.__file__).parent / "data" / "astronaut.png").convert("RGB").crop((96, 0, 352, 256))
OTHER_FACE = Image.open(Path(insightface.__file__).parent / "data" / "images" / "Tom_Hanks_54745.png").convert("RGB")
SEVERAL_FACES = Image.open(Path(insightface.__file__).parent / "data" / "images" / "t1.jpg").convert("RGB")
NO_FACE = Image.open(Path(skimage.__file__).parent / "data" / "coffee.png").convert("RGB").resize((256, 170))


def swap_input(photo: bytes) -> dict[str, Any]:
    return {"user_photo": as_base64(photo), "target_image": as_base64(encode(OTHER_FACE))}


async def swap(client: Client, photo: bytes) -> Any:
    return await client.post("/faceswap", json={"input": swap_input(photo)})


def sixteen_bit_grey(image: Image.Image) -> bytes:
    return encode(Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257))


def turned(image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(image.transpose(Image.Transpose.ROTATE_90), exif=exif)


async def test_faceswap_changes_the_face_and_nothing_else(client: Client) -> None:
    answer = await swap(client, encode(ONE_FACE))
    (swapped,) = answer.images()
    target = np.asarray(OTHER_FACE)
    assert swapped.shape == target.shape
    changed = (swapped != target).any(axis=-1)
    assert 0.02 < changed.mean() < 0.8
    assert not changed[:2].any()
    output = answer.body["output"]
    assert len(output["qa"]) == 1
    assert output["swap"]["images"]


async def test_a_turned_photo_gives_the_same_picture(client: Client) -> None:
    upright = await swap(client, encode(ONE_FACE))
    rotated = await swap(client, turned(ONE_FACE))
    assert np.array_equal(upright.images()[0], rotated.images()[0])


@pytest.mark.parametrize(
    "photo",
    [
        encode(ONE_FACE.convert("RGBA")),
        encode(ONE_FACE.convert("L")),
        sixteen_bit_grey(ONE_FACE),
        encode(ONE_FACE.quantize(64)),
        encode(ONE_FACE.convert("CMYK"), "JPEG"),
    ],
    ids=["alpha", "grey", "16-bit", "palette", "cmyk"],
)
async def test_unusual_photos_work(client: Client, photo: bytes) -> None:
    assert (await swap(client, photo)).images()


@pytest.mark.parametrize(
    ("photo", "word"), [(NO_FACE, "no face"), (SEVERAL_FACES, "faces")], ids=["no-face", "several-faces"]
)
async def test_photos_without_one_face_fail_their_job(client: Client, photo: Image.Image, word: str) -> None:
    answer = await swap(client, encode(photo))
    assert answer.code == 200
    assert answer.body["status"] == "FAILED"
    assert re.match(r"\[\w+\] user_photo: ", answer.body["error"])
    assert word in answer.body["error"]
    assert (await swap(client, encode(ONE_FACE))).images(), "the next job works"


async def test_the_largest_of_several_faces_on_request(client: Client) -> None:
    body = {"input": {**swap_input(encode(SEVERAL_FACES)), "several_faces_in_photo": "largest"}}
    assert (await client.post("/faceswap", json=body)).images()


async def test_portraits_from_the_starter_models(client: Client, api_server: Comfy) -> None:
    request: dict[str, Any] = {
        "profile": "starter",
        "prompt": "portrait of a woman with brown hair",
        "user_photo": as_base64(encode(ONE_FACE)),
        "num_steps": 2,
        "batch_size": 2,
        "seed": 11,
        "max_attempts": 2,
        "include_generated": True,
    }
    first = await client.runsync(**request)
    pictures, generated = first.images(), first.images("generated")
    assert [picture.shape for picture in pictures] == [(256, 256, 3)] * 2
    assert [picture.shape for picture in generated] == [(256, 256, 3)] * 2
    output = first.body["output"]
    assert len(output["qa"]) == len(output["seeds"]) == 2
    assert all(isinstance(verdict["passed"], bool) for verdict in output["qa"])
    assert set(output["seeds"]) <= {11, 12}
    assert [item["seed"] for item in output["retry"]["items"]] == output["seeds"]
    assert output["swap"]["images"]

    second = await client.runsync(**request)
    assert all(np.array_equal(one, other) for one, other in zip(pictures, second.images(), strict=True))
    assert not list((api_server.base / "temp").rglob("*.png")), "neither previews nor thumbnails"


async def test_another_seed_gives_another_picture(client: Client) -> None:
    request = {
        "profile": "starter",
        "prompt": "portrait of a man",
        "user_photo": as_base64(encode(ONE_FACE)),
        "num_steps": 1,
        "max_attempts": 1,
        "output_format": "webp",
    }
    pictures = [(await client.runsync(**request, seed=seed)).images()[0] for seed in (1, 2)]
    assert not np.array_equal(pictures[0], pictures[1])
