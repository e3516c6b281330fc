"""Folders, tables and ``--set`` to items."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flux_face.tests.worker.client.process import png
from flux_face.worker.client.errors import ItemError, UsageError
from flux_face.worker.client.items import items_of_csv, items_of_folder, make_item, parse_settings, parse_value


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("num_steps", "4", 4),
        ("seed", "18446744073709551615", 2**64 - 1),
        ("strength", "0.5", 0.5),
        ("include_generated", "true", True),
        ("prompt", "4", "4"),
        ("profile", "true", "true"),
        ("tag", "a = b", "a = b"),
        ("size", "[1, 2]", [1, 2]),
        ("tag", "NaN", "NaN"),
    ],
)
def test_values(name: str, text: str, value: Any) -> None:
    parsed = parse_value(name, text)
    assert parsed == value
    assert type(parsed) is type(value)
    assert parse_settings([f"{name}={text}"]) == {name: value}


def test_a_photo_for_all_is_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("photos/a.png", "target.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png(1))
    monkeypatch.chdir(tmp_path)
    (item,) = items_of_folder(Path("photos"), parse_settings(["target_image=target.png"]), {})
    assert item.photos["target_image"] == tmp_path / "target.png"


@pytest.mark.parametrize("setting", ["prompt", "=4", "a b=4", ""])
def test_a_setting_that_is_none(setting: str) -> None:
    with pytest.raises(UsageError, match="name=value"):
        parse_settings([setting])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "no rows"),
        ("prompt\n", "no rows"),
        ("prompt,prompt\na,b\n", "'prompt', which is no field's name or is there twice"),
        ("prompt,\na,b\n", "'', which is no field's name"),
        ("user photo\na\n", "'user photo'"),
        ("prompt\na,b\n", "row 1 has 2 cells and the header 1"),
        ('prompt\n"a\n', "is not CSV"),
        ("user_photo\nnowhere.png\n", "nowhere.png', which is not a file"),
    ],
)
def test_a_table_that_is_none(tmp_path: Path, content: str, problem: str) -> None:
    table = tmp_path / "t.csv"
    table.write_text(content)
    with pytest.raises(UsageError) as caught:
        items_of_csv(table, {}, {})
    assert problem in str(caught.value)


def test_a_table_that_is_not_utf8(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_bytes("prompt\nä\n".encode("cp1252"))
    with pytest.raises(UsageError, match="UTF-8"):
        items_of_csv(table, {}, {})


def test_empty_rows_are_passed_over_and_short_rows_completed(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("prompt,seed\na\n\n,\nb,2\n")
    items = items_of_csv(table, {"seed": 1}, {})
    assert [(item.name, dict(item.fields)) for item in items] == [
        ("row-00001", {"prompt": "a", "seed": 1}),
        ("row-00002", {"prompt": "b", "seed": 2}),
    ]


def test_a_folder_without_photos(tmp_path: Path) -> None:
    (tmp_path / ".hidden.png").write_bytes(png(1))
    (tmp_path / "sub.png").mkdir()
    with pytest.raises(UsageError, match="no photos"):
        items_of_folder(tmp_path, {}, {})


@pytest.mark.parametrize("size", [0, 1, 2, 3, 1000])
def test_the_size_is_known_without_reading_the_photo(tmp_path: Path, size: int) -> None:
    (tmp_path / "p").write_bytes(bytes(size))
    item = make_item("i", {"user_photo": "p", "prompt": "ä ☺", "target_image": "p"}, tmp_path, {"ttl": 1})
    assert item.body_bytes() == len(item.body())
    content = json.loads(item.body())
    assert content["policy"] == {"ttl": 1}
    assert content["input"]["prompt"] == "ä ☺"


def test_a_photo_that_is_gone_when_it_is_sent(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b"x")
    item = make_item("i", {"user_photo": "p"}, tmp_path)
    (tmp_path / "p").unlink()
    for act in (item.body_bytes, item.body):
        with pytest.raises(ItemError, match=r"\[photo_unreadable\]"):
            act()


def test_the_digest_follows_every_part(tmp_path: Path) -> None:
    for name in ("p", "q"):
        (tmp_path / name).write_bytes(b"x")
    base = make_item("i", {"user_photo": "p", "seed": 1}, tmp_path)
    others = [
        make_item("j", {"user_photo": "p", "seed": 1}, tmp_path),
        make_item("i", {"user_photo": "q", "seed": 1}, tmp_path),
        make_item("i", {"user_photo": "p", "seed": 2}, tmp_path),
        make_item("i", {"user_photo": "p", "seed": 1}, tmp_path, {"ttl": 1}),
    ]
    assert len({item.digest for item in (base, *others)}) == 5
    assert make_item("i", {"seed": 1, "user_photo": "p"}, tmp_path).digest == base.digest
