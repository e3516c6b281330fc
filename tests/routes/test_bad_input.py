"""Bad requests: refused with a 4xx that names the field and the remedy; the next job works."""

from __future__ import annotations

import re
from typing import Any

import pytest
from PIL import Image

from flux_face.tests.routes.client import Client, as_base64, encode

PNG = encode(Image.new("RGB", (32, 32), (120, 90, 70)))
TWO_FRAMES = encode(Image.new("RGB", (8, 8)), save_all=True, append_images=[Image.new("RGB", (8, 8), (9, 9, 9))])

STARTER = {"profile": "starter", "prompt": "x", "user_photo": as_base64(PNG)}

BAD_INPUTS: list[tuple[dict[str, Any], int, str, str]] = [
    ({"profile": "photo"}, 400, "field_missing", "user_photo"),
    ({"profile": "photo", "user_photo": ""}, 400, "field_missing", "user_photo"),
    ({"profile": "photo", "user_photo": 5}, 400, "field_type", "user_photo"),
    ({"profile": "photo", "user_photo": "no base64!"}, 400, "photo_base64", "user_photo"),
    ({"profile": "photo", "user_photo": "https://example.com/a.png"}, 400, "photo_url", "user_photo"),
    ({"profile": "photo", "user_photo": as_base64(PNG[:-20])}, 400, "photo_corrupt", "user_photo"),
    ({"profile": "photo", "user_photo": as_base64(b"GIF89a" + PNG)}, 415, "photo_format", "user_photo"),
    ({"profile": "photo", "user_photo": as_base64(TWO_FRAMES)}, 400, "photo_animated", "user_photo"),
    ({"profile": "tiny", "width": 63}, 400, "value_out_of_range", "width"),
    ({"profile": "tiny", "width": 65}, 400, "value_step", "width"),
    ({"profile": "tiny", "height": 4096}, 400, "value_out_of_range", "height"),
    ({"profile": "tiny", "height": "64"}, 400, "field_type", "height"),
    ({"profile": "tiny", "height": 64.5}, 400, "field_type", "height"),
    ({"profile": "tiny", "batch_size": True}, 400, "field_type", "batch_size"),
    ({"profile": "tiny", "batch_size": 0}, 400, "value_out_of_range", "batch_size"),
    ({"profile": "tiny", "batch_size": 8, "width": 2048, "height": 2048}, 400, "job_too_large", "batch_size"),
    ({"profile": "tiny", "quality": 101}, 400, "value_out_of_range", "quality"),
    ({"profile": "tiny", "output_format": "gif"}, 400, "field_type", "output_format"),
    ({"profile": "tiny", "promt": "x"}, 400, "field_unknown", "promt"),
    ({"profile": "tiny", "prompt": "x"}, 400, "field_unused", "prompt"),
    ({"profile": "nowhere"}, 400, "profile_unknown", "profile"),
    ({"profile": "no-vae"}, 400, "model_missing", "profile"),
    ({"profile": "no-node"}, 400, "node_missing", "profile"),
    ({**STARTER, "num_steps": 0}, 400, "value_out_of_range", "num_steps"),
    ({**STARTER, "num_steps": 51}, 400, "value_out_of_range", "num_steps"),
    ({**STARTER, "seed": -1}, 400, "value_out_of_range", "seed"),
    ({**STARTER, "seed": 2**64}, 400, "value_out_of_range", "seed"),
    ({**STARTER, "max_attempts": 11}, 400, "value_out_of_range", "max_attempts"),
    ({"profile": "starter", "prompt": " ", "user_photo": as_base64(PNG)}, 400, "field_missing", "prompt"),
    ({"profile": "starter", "prompt": "\ud800", "user_photo": as_base64(PNG)}, 400, "prompt_text", "prompt"),
    ({"profile": "starter", "prompt": "x" * 2001, "user_photo": as_base64(PNG)}, 400, "prompt_too_long", "prompt"),
]


@pytest.mark.parametrize(
    ("job_input", "code", "error", "field"), BAD_INPUTS, ids=[f"{case[2]}-{case[3]}" for case in BAD_INPUTS]
)
@pytest.mark.parametrize("verb", ["run", "runsync"])
async def test_bad_input(
    client: Client, verb: str, job_input: dict[str, Any], code: int, error: str, field: str
) -> None:
    answer = await client.post(f"/{verb}", json={"input": job_input})
    assert answer.code == code, answer.body
    assert answer.error["code"] == error
    assert answer.error["field"] == field
    assert answer.error["message"].startswith(f"{field}: ")
    assert answer.error["remedy"]
    assert (await client.runsync(profile="tiny")).images()


async def test_missing_model_names_file_and_folder(client: Client) -> None:
    message = (await client.runsync(profile="no-vae")).error["message"]
    assert "models/vae/lost.safetensors" in message
    assert "no-vae" in message


async def test_missing_models_of_the_catalogue_are_told_with_place_size_and_licence(client: Client) -> None:
    error = (await client.runsync(**{**STARTER, "profile": "flux1-schnell-gguf"})).error
    assert "models/unet/flux1-schnell-Q4_K_S.gguf" in error["message"]
    source = r"flux1-schnell-Q4_K_S\.gguf: https://huggingface\.co/city96/\S+ \(6\.8 GB, licence: Apache-2\.0\)"
    assert re.search(source, error["remedy"])


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "body_not_json"),
        (b"{", "body_not_json"),
        (b"\xff\xfe", "body_not_json"),
        (b"[" * 100_000, "body_not_json"),
        (b'{"input": {"seed": ' + b"9" * 5000 + b"}}", "body_not_json"),
        (b"[]", "body_not_object"),
        (b"{}", "field_missing"),
        (b'{"input": null}', "field_type"),
        (b'{"input": {}, "webhooks": "https://example.com"}', "field_unknown"),
        (b'{"input": {"profile": "tiny"}, "webhook": "https://example.com"}', "webhook_off"),
        (b'{"input": {}, "policy": {"executionTimeout": 1, "x": 2}}', "field_unknown"),
    ],
)
async def test_bad_body(client: Client, data: bytes, code: str) -> None:
    answer = await client.post("/run", data=data, headers={"Content-Type": "application/json"})
    assert answer.code == 400
    assert answer.error["code"] == code


async def test_a_simple_form_is_refused(client: Client) -> None:
    answer = await client.post("/run", data={"input": "{}"})
    assert answer.code == 415


@pytest.mark.parametrize("wait", ["0", "999", "600001", "-5", "abc", "1e3"])
async def test_bad_wait(client: Client, wait: str) -> None:
    answer = await client.post(f"/runsync?wait={wait}", json={"input": {"profile": "tiny"}})
    assert answer.code == 400
    assert answer.error["field"] == "wait"


@pytest.mark.parametrize("verb", ["status", "stream"])
async def test_unknown_job(client: Client, verb: str) -> None:
    answer = await client.get(f"/{verb}/no-such-job")
    assert answer.code == 404
    assert answer.error["code"] == "job_not_found"
