"""The client as its users run it, and photos for it to send."""

from __future__ import annotations

import csv
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flux_face.tests.worker.client.standin import API_KEY, Endpoint

ROOT = Path(__file__).resolve().parents[3]
CLIENT = ROOT / "worker" / "client"
QUICK = ("--poll", "0.02", "--quiet")


def environment(endpoint: Endpoint | None = None) -> dict[str, str]:
    """The client's variables; RunPod's address is the stand-in's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RUNPOD_", "FLUX_FACE_"))}
    variables = {"RUNPOD_API_KEY": API_KEY, "FLUX_FACE_TOKEN": API_KEY}
    if endpoint is not None:
        variables["RUNPOD_ENDPOINT_BASE_URL"] = endpoint.url
    return {**kept, **variables}


def start(
    arguments: Sequence[object], endpoint: Endpoint | None = None, env: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """``python worker/client ARGUMENTS``."""
    return subprocess.Popen(
        [sys.executable, str(CLIENT), *map(str, arguments)],
        env={**environment(endpoint), **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(
    arguments: Sequence[object],
    endpoint: Endpoint | None = None,
    *,
    code: int = 0,
    env: Mapping[str, str] | None = None,
) -> tuple[str, str]:
    """Run it to its end, which must be that exit code; returns what it printed, and what it told the user."""
    process = start(arguments, endpoint, env)
    printed, told = process.communicate(timeout=240)
    assert process.returncode == code, told
    return printed, told


def png(number: int, padding: int = 0) -> bytes:
    """A PNG of one pixel whose colour is the number, with bytes beside the picture that cannot be packed."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixel = zlib.compress(b"\x00" + number.to_bytes(3, "big"))
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    extra = chunk(b"teSt", os.urandom(padding)) if padding else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")


def make_table(folder: Path, count: int) -> Path:
    """A CSV file of that many items, each with a photo of its own and its name as the prompt."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "items.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["user_photo", "prompt"])
        for number in range(1, count + 1):
            (folder / f"{number}.png").write_bytes(png(number))
            writer.writerow([f"{number}.png", f"item {number}"])
    return file


def report(out: Path) -> list[dict[str, Any]]:
    """The rows of report.json."""
    rows: list[dict[str, Any]] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return rows


def check_all_done(out: Path, count: int) -> None:
    """Every item of `make_table` has ended once, with the picture that is its own photo, and nothing else is there."""
    rows = report(out)
    assert [row["item"] for row in rows] == [f"row-{number:05}" for number in range(1, count + 1)]
    assert {row["state"] for row in rows} == {"done"}
    for number, row in enumerate(rows, start=1):
        assert row["files"] == [f"{number:05}-row-{number:05}_0.png"]
        assert (out / row["files"][0]).read_bytes() == png(number)
    assert len(list(out.glob("*.png"))) == count
    assert list(out.glob(".*")) == []
