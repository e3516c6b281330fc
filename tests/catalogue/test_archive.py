"""Members of an archive are placed all or none, and nothing else is."""

from __future__ import annotations

import hashlib
import io
import random
import zipfile
from typing import Any

import pytest

from flux_face.catalogue.errors import DownloadError, ModelError
from flux_face.tests.catalogue.conftest import Shop
from flux_face.tests.catalogue.hub import Served

ONE = random.Random(1).randbytes(50_000)
TWO = random.Random(2).randbytes(60_000)
CONTENT = {"one.onnx": ONE, "two.onnx": TWO, "readme.txt": b"hello"}


def make_zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def member(name: str, content: bytes, **changes: Any) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    return {"member": name, "name": f"models/pack/{name}", "size": len(content), "sha256": digest} | changes


def offer(shop: Shop, content: bytes, *members: dict[str, Any]) -> Served:
    rows = members or (member("one.onnx", ONE), member("two.onnx", TWO))
    return shop.elsewhere("pack", content, folder="insightface", name="models/pack.zip", members=rows)


def failure(shop: Shop) -> ModelError:
    with pytest.raises(DownloadError) as raised:
        shop.download()
    (error,) = raised.value.errors
    return error


def test_members_are_taken_out_and_the_archive_goes(shop: Shop) -> None:
    offer(shop, make_zip(CONTENT))
    (outcome,) = shop.download()
    assert shop.names() == {"insightface/models/pack/one.onnx", "insightface/models/pack/two.onnx"}
    assert [path.read_bytes() for path in outcome.files] == [ONE, TWO]
    seen = len(shop.hub.seen)
    assert shop.download()[0].state == "kept"
    assert len(shop.hub.seen) == seen


def test_a_missing_member_brings_the_archive_again(shop: Shop) -> None:
    offer(shop, make_zip(CONTENT))
    first, second = shop.download()[0].files
    second.unlink()
    assert shop.download()[0].state == "downloaded"
    assert (first.read_bytes(), second.read_bytes()) == (ONE, TWO)


def test_another_file_in_a_members_place_stays(shop: Shop) -> None:
    offer(shop, make_zip(CONTENT))
    shop.download()[0].files[0].write_bytes(TWO)
    assert failure(shop).code == "wrong_file_there"
    assert shop.download(replace=True)[0].files[0].read_bytes() == ONE


def test_names_in_the_archive_lead_nowhere(shop: Shop) -> None:
    evil = {"../../../evil.onnx": b"1", "/tmp/evil.onnx": b"2", "..\\evil.onnx": b"3"}
    offer(shop, make_zip({**evil, **CONTENT}))
    shop.download()
    assert [path for path in shop.models_dir.parent.rglob("*") if "evil" in path.name] == []


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ((member("one.onnx", ONE), member("two.onnx", TWO, sha256="0" * 64)), "checksum_mismatch"),
        ((member("one.onnx", ONE), member("two.onnx", TWO, size=len(TWO) + 1)), "checksum_mismatch"),
        # As a bomb: it unpacks to more than it should.
        ((member("one.onnx", ONE), member("two.onnx", TWO, size=len(TWO) - 1)), "bad_archive"),
        ((member("one.onnx", ONE), member("three.onnx", TWO)), "bad_archive"),
    ],
)
def test_nothing_is_placed_where_one_member_is_wrong(shop: Shop, members: Any, code: str) -> None:
    offer(shop, make_zip(CONTENT), *members)
    assert failure(shop).code == code
    assert not any("one.onnx" in name or "two.onnx" in name for name in shop.names())


def test_a_file_that_is_no_archive(shop: Shop) -> None:
    offer(shop, b"no archive" * 1000)
    assert failure(shop).code == "bad_archive"
    assert shop.names() == set()


def test_a_damaged_member(shop: Shop) -> None:
    content = bytearray(make_zip(CONTENT))
    content[20_000:20_100] = bytes(100)
    offer(shop, bytes(content))
    assert failure(shop).code == "bad_archive"
    assert shop.names() == set()


def test_the_members_need_room_too(shop: Shop) -> None:
    content = make_zip(CONTENT)
    offer(shop, content)
    needed = len(content) + len(ONE) + len(TWO)
    with pytest.raises(DownloadError, match="disk_full"):
        shop.download(free_bytes=lambda _: needed - 1)
    shop.download(free_bytes=lambda _: needed)
