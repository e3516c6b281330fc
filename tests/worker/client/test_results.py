"""What a job's output may and may not do to the output folder."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from flux_face.tests.worker.client.process import png
from flux_face.tests.worker.client.standin import Endpoint
from flux_face.worker.client.backoff import Backoff
from flux_face.worker.client.errors import ItemError
from flux_face.worker.client.results import ResultStore, file_stem, write_whole
from flux_face.worker.client.targets import Target

JPEG = b"\xff\xd8\xff\xe0 jpeg"
WEBP = b"RIFF\x04\x00\x00\x00WEBP"


def inline(data: bytes, **more: Any) -> dict[str, Any]:
    return {"filename": "x.png", "type": "base64", "data": base64.b64encode(data).decode(), **more}


def link(url: str) -> dict[str, Any]:
    return {"filename": "x.png", "type": "s3_url", "data": url}


ELSEWHERE = Target("server:http://127.0.0.1:9", "http://127.0.0.1:9/flux-face/v1", "token")


def kept(path: str) -> dict[str, Any]:
    return {"filename": "x.png", "type": "url", "data": path}


def save(folder: Path, output: object, target: Target = ELSEWHERE, *, wanted: bool = True) -> dict[str, Any]:
    async def saved() -> dict[str, Any]:
        async with ResultStore(folder, 1_000_000, Backoff(first_s=0.001)) as store:
            return await store.save(output, "00001-a", target, wanted=wanted)

    return asyncio.run(saved())


def test_pictures_of_every_kind(tmp_path: Path) -> None:
    data_uri = {**inline(WEBP), "data": "data:image/webp;base64," + inline(WEBP)["data"]}
    output = {"images": [inline(png(1)), inline(JPEG), data_uri], "generated": [inline(png(2))], "seeds": [1, 2, 3]}
    result = save(tmp_path / "new" / "out", output)
    assert result == {
        "files": ["00001-a_0.png", "00001-a_1.jpg", "00001-a_2.webp", "00001-a_generated_0.png"],
        "seeds": [1, 2, 3],
        "qa": [],
    }
    written = {path.name: path.read_bytes() for path in (tmp_path / "new" / "out").iterdir()}
    assert written == dict(zip(result["files"], [png(1), JPEG, WEBP, png(2)], strict=True))


@pytest.mark.parametrize("name", ["../../evil.png", "/etc/evil.png", "a\\..\\evil.png", "\0", "C:evil", ".", ""])
def test_the_outputs_file_names_are_not_used(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "a" / "out"
    save(folder, {"images": [inline(png(1), filename=name)]})
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [folder / "00001-a_0.png"]


@pytest.mark.parametrize(
    "name", ["../x.png", "/x", "a/b.png", "a\\b", "..", ".hidden", "nul.png", "a\nb.png", "é" * 300, "x" * 300, ""]
)
def test_items_names_are_harmless_in_file_names(name: str) -> None:
    stem = file_stem(7, name)
    assert stem.startswith("00007-")
    assert len(stem) <= 86
    assert not set(stem) - set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


@pytest.mark.parametrize(
    ("output", "code"),
    [
        (None, "no_pictures"),
        ("text", "no_pictures"),
        ({}, "no_pictures"),
        ({"images": []}, "no_pictures"),
        ({"images": "many"}, "result_shape"),
        ({"images": {"0": inline(png(1))}}, "result_shape"),
        ({"images": [inline(png(1))] * 65}, "result_shape"),
        ({"images": [None]}, "result_shape"),
        ({"images": [{"type": "base64", "data": 5}]}, "result_shape"),
        ({"images": [{"type": "path", "data": "/etc/passwd"}]}, "result_shape"),
        ({"images": [{"type": "base64", "data": "no base64!"}]}, "result_shape"),
        ({"images": [inline(b"<script>")]}, "result_shape"),
        ({"images": [inline(png(1, padding=1_000_000))]}, "picture_too_large"),
        ({"images": [link("file:///etc/passwd")]}, "result_link"),
        ({"images": [link("http://")]}, "result_link"),
        ({"images": [link("/etc/passwd")]}, "result_link"),
        ({"images": [kept("/flux-face/v1/../../etc/passwd")]}, "result_link"),
        ({"images": [kept("/flux-face/v12/x.png")]}, "result_link"),
        ({"images": [kept("//elsewhere.example/flux-face/v1/x.png")]}, "result_link"),
        ({"images": [kept("http://127.0.0.1:99/flux-face/v1/x.png")]}, "result_link"),
        ({"images": [kept("file:///flux-face/v1/x.png")]}, "result_link"),
    ],
)
def test_an_output_that_cannot_be_used(tmp_path: Path, output: object, code: str) -> None:
    with pytest.raises(ItemError) as caught:
        save(tmp_path, output)
    assert caught.value.code == code
    assert list(tmp_path.iterdir()) == []


def test_links_are_downloaded_without_the_targets_token(tmp_path: Path) -> None:
    with Endpoint() as endpoint:
        endpoint.files["a.png"] = png(1)
        result = save(tmp_path, {"images": [link(f"{endpoint.server_url}/bucket/a.png?signature=s")]})
    assert (tmp_path / result["files"][0]).read_bytes() == png(1)
    assert "Authorization" not in endpoint.file_headers[0]


def test_pictures_that_a_server_of_ours_keeps_are_fetched_with_its_token(tmp_path: Path) -> None:
    with Endpoint() as endpoint:
        endpoint.files["a.png"] = png(1)
        target = Target("server", f"{endpoint.server_url}/flux-face/v1", "token-of-ours")
        result = save(tmp_path, {"images": [kept("/flux-face/v1/image/job/a.png")]}, target)
    assert (tmp_path / result["files"][0]).read_bytes() == png(1)
    assert endpoint.file_headers[0]["Authorization"] == "Bearer token-of-ours"


def test_no_picture_where_none_was_wanted(tmp_path: Path) -> None:
    assert save(tmp_path, {"qa": [{"passed": True}]}, wanted=False)["qa"] == [{"passed": True}]
    assert list(tmp_path.iterdir()) == []


def test_a_link_that_leads_nowhere_is_tried_a_few_times_and_not_shown(tmp_path: Path) -> None:
    with Endpoint() as endpoint:
        with pytest.raises(ItemError) as caught:
            save(tmp_path, {"images": [link(f"{endpoint.server_url}/bucket/gone.png?signature=secret")]})
        assert len(endpoint.file_headers) == 4
    assert caught.value.code == "download_failed"
    assert "127.0.0.1 did not hand over a picture (HTTP 403)" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_download_is_bounded_and_must_be_a_picture(tmp_path: Path) -> None:
    with Endpoint() as endpoint:
        endpoint.files.update({"large.png": png(1, padding=1_000_000), "page.png": b"<html>"})
        for name, code in (("large.png", "picture_too_large"), ("page.png", "result_shape")):
            with pytest.raises(ItemError) as caught:
                save(tmp_path, {"images": [link(f"{endpoint.server_url}/bucket/{name}")]})
            assert caught.value.code == code
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    target = tmp_path / "a.png"
    write_whole(target, b"old")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OSError, match=r"folder\.png"):
        write_whole(tmp_path / "folder.png", b"new")
    write_whole(target, b"new")
    assert target.read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "folder.png"]
