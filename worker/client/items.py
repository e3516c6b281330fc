"""What is to be drawn: one job per photo of a folder, or per row of a CSV file.

Photos stay on disk until they are sent.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import ItemError, UsageError

PHOTO_FIELDS = ("user_photo", "target_image")
PHOTO_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
# Their text is never a number or a truth value.
_TEXT_FIELDS = frozenset({*PHOTO_FIELDS, "prompt", "profile", "output_format", "several_faces_in_photo"})
_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Item:
    """One job.

    Attributes:
        name: unique in its batch: the photo's file name, or ``row-00001``.
        fields: input fields but the photos.
        photos: files by input field.
        policy: RunPod's execution policy; empty for the target's own.
    """

    name: str
    fields: Mapping[str, Any]
    photos: Mapping[str, Path]
    policy: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Changes when the item does; the photos count by their paths."""
        photos = {name: str(path.resolve()) for name, path in self.photos.items()}
        text = json.dumps([self.name, dict(self.fields), photos, dict(self.policy)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def body_bytes(self) -> int:
        """Size of `body`, without reading the photos.

        Raises:
            ItemError: a photo is gone.
        """
        encoded = dict.fromkeys(self.photos, "")
        try:
            photos = sum((path.stat().st_size + 2) // 3 * 4 for path in self.photos.values())
        except OSError as error:
            raise _unreadable(error) from error
        return len(self._body(encoded)) + photos

    def body(self) -> bytes:
        """The JSON body of ``/run``, the same for the same photos. Blocks while it reads them.

        Raises:
            ItemError: a photo cannot be read.
        """
        try:
            return self._body(
                {name: base64.b64encode(path.read_bytes()).decode("ascii") for name, path in self.photos.items()}
            )
        except OSError as error:
            raise _unreadable(error) from error

    def _body(self, photos: Mapping[str, str]) -> bytes:
        body: dict[str, Any] = {"input": {**self.fields, **photos}}
        if self.policy:
            body["policy"] = dict(self.policy)
        return json.dumps(body).encode()


def parse_value(name: str, text: str) -> Any:
    """The value of an input field: text for the fields that are text, else JSON (a number, true, false), else text."""
    if name in _TEXT_FIELDS:
        return text
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except ValueError:
        return text


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """``name=value`` arguments to input fields; paths of photos are relative to the working directory.

    Raises:
        UsageError: one is not of that form.
    """
    fields: dict[str, Any] = {}
    for setting in settings:
        name, separator, text = setting.partition("=")
        if not separator or not _FIELD_NAME.fullmatch(name):
            raise UsageError(f"--set {setting!r} is not of the form name=value", "Write for example --set num_steps=4")
        fields[name] = str(Path(text).absolute()) if name in PHOTO_FIELDS else parse_value(name, text)
    return fields


def make_item(name: str, fields: Mapping[str, Any], base: Path, policy: Mapping[str, Any] | None = None) -> Item:
    """An item of input fields, of which the photos are paths relative to ``base``.

    Raises:
        UsageError: a photo is not there.
    """
    photos = {}
    for photo in PHOTO_FIELDS:
        if photo in fields:
            path = base / str(fields[photo])
            if not path.is_file():
                raise UsageError(f"{name}: {photo} is {str(path)!r}, which is not a file", "Correct the path")
            photos[photo] = path
    rest = {key: value for key, value in fields.items() if key not in photos}
    return Item(name, rest, photos, policy or {})


def items_of_folder(folder: Path, fields: Mapping[str, Any], policy: Mapping[str, Any]) -> list[Item]:
    """One item per photo in a folder (not in its subfolders), in the order of their names.

    Raises:
        UsageError: there is none.
    """
    photos = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in PHOTO_SUFFIXES and path.is_file() and not path.name.startswith(".")
    )
    if not photos:
        raise UsageError(f"{folder} has no photos", f"Put {', '.join(sorted(PHOTO_SUFFIXES))} files into it")
    return [make_item(path.name, {**fields, "user_photo": path.name}, folder, policy) for path in photos]


def items_of_csv(file: Path, fields: Mapping[str, Any], policy: Mapping[str, Any]) -> list[Item]:
    """One item per row. The header names input fields; an empty cell leaves its field to ``fields``, else out.

    Raises:
        UsageError: the file is not such a table.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            items = list(_rows(file, csv.reader(stream, strict=True), fields, policy))
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 text", "Save it as CSV UTF-8") from error
    except csv.Error as error:
        raise UsageError(f"{file} is not CSV: {error}", "Correct it") from error
    if not items:
        raise UsageError(f"{file} has no rows below its header", "Add one row per job")
    return items


def _rows(
    file: Path, rows: Iterator[list[str]], fields: Mapping[str, Any], policy: Mapping[str, Any]
) -> Iterator[Item]:
    header = [name.strip() for name in next(rows, [])]
    for name in header:
        if not _FIELD_NAME.fullmatch(name) or header.count(name) > 1:
            raise UsageError(
                f"{file}: the header has {name!r}, which is no field's name or is there twice",
                "Name one input field per column, e.g. user_photo,prompt,seed",
            )
    number = 0
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        number += 1
        if len(row) > len(header):
            raise UsageError(
                f"{file}: row {number} has {len(row)} cells and the header {len(header)}",
                "Put cells that hold commas in double quotes",
            )
        given = {name: parse_value(name, cell) for name, cell in zip(header, row, strict=False) if cell.strip()}
        yield make_item(f"row-{number:05}", {**fields, **given}, file.parent, policy)


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


def _unreadable(error: OSError) -> ItemError:
    return ItemError(
        "photo_unreadable", f"{error.filename} cannot be read ({error.strerror})", "Put it back and run again"
    )
