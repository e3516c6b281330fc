"""A batch over our own routes in a real ComfyUI."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from PIL import Image

from flux_face.tests.comfy_server import Comfy, StartComfy
from flux_face.tests.routes.conftest import PROFILES
from flux_face.tests.worker.client.process import QUICK, report, run
from flux_face.tests.worker.client.standin import API_KEY, AnswerLoser

COUNT = 8
TOKEN = f"{API_KEY}-of-ours"


@pytest.fixture
def server(start_comfy: StartComfy, tmp_path: Path) -> Comfy:
    """It hands photos back as they are, wants a token, and takes three jobs at a time: the client sees real 429s."""
    profiles = tmp_path / "profiles"
    profiles.mkdir()
    (profiles / "photo.json").write_text(json.dumps(PROFILES["photo"]))
    return start_comfy(
        env={
            "FLUX_FACE_PROFILES_DIR": str(profiles),
            "FLUX_FACE_API_TOKENS": f"tests:{TOKEN}",
            "FLUX_FACE_MAX_QUEUE": "3",
        }
    )


def test_a_folder_through_the_routes(server: Comfy, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(COUNT):
        Image.new("RGB", (16, 16), (number, 20, 30)).save(photos / f"{number:02}.png")
    (photos / "bad.png").write_bytes(b"no picture")
    wrong = {"FLUX_FACE_TOKEN": "another-token-of-somebody"}
    token = {"FLUX_FACE_TOKEN": TOKEN}
    target = ["--server", server.url, *QUICK]
    arguments = ["batch", photos, "--out", tmp_path / "out", *target, "--set", "profile=photo"]
    _, told = run([*arguments, "--in-flight", "6"], code=1, env=token)
    assert f"{COUNT} done, 1 failed" in told
    *rows, bad = report(tmp_path / "out")
    for number, row in enumerate(rows):
        assert row["state"] == "done", row
        (file,) = row["files"]
        pixels = np.asarray(Image.open(tmp_path / "out" / file))
        assert pixels.shape == (16, 16, 3)
        assert (pixels == (number, 20, 30)).all()
        assert row["attempts"] == 1
        assert len(row["seeds"]) == 1
    assert bad["state"] == "failed"
    assert bad["error"].startswith(f"[refused] server:{server.url} refused the job: [photo_format] user_photo: ")

    submit = ["submit", "--server", server.url, "--photo", photos / "03.png", "--set", "profile=photo", "--wait"]
    printed, _ = run([*submit, "--out", tmp_path / "one"], env=token)
    (file,) = json.loads(printed)["files"]
    assert (np.asarray(Image.open(tmp_path / "one" / file)) == (3, 20, 30)).all()

    _, told = run(arguments, code=1, env=wrong)
    assert f"{COUNT} done, 1 failed" in told, "a batch that has ended asks nobody"
    _, told = run(submit, code=1, env=wrong)
    assert "does not accept our key ([unauthorised] Authorization: the bearer token is missing or wrong" in told


async def test_a_submission_whose_answer_was_lost_is_one_job(server: Comfy, tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), (1, 2, 3)).save(tmp_path / "photo.png")
    table = tmp_path / "items.csv"
    table.write_text("user_photo,profile,images_as\n" + "photo.png,photo,url\n" * COUNT)
    with AnswerLoser(server.url) as loser:
        target = ["--server", loser.server_url, "--in-flight", "2", *QUICK]
        arguments = ["batch", table, "--out", tmp_path / "out", *target]
        await asyncio.to_thread(run, arguments, env={"FLUX_FACE_TOKEN": TOKEN})
        assert loser.lost >= COUNT
    rows = report(tmp_path / "out")
    assert [row["state"] for row in rows] == ["done"] * COUNT
    assert all((np.asarray(Image.open(tmp_path / "out" / row["files"][0])) == (1, 2, 3)).all() for row in rows)
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session:
        jobs = (await (await session.get(f"{server.url}/flux-face/v1/jobs")).json())["jobs"]
    assert sorted(job["id"] for job in jobs) == sorted(row["job_id"] for row in rows)
