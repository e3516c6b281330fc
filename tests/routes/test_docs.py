"""docs/api.md: its tables are what the code says, and its examples work."""

from __future__ import annotations

import ast
import base64
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from flux_face.server_routes.request_models import Body, JobInput, Policy
from flux_face.server_routes.routing import STATUS_CODES
from flux_face.server_routes.settings import PREFIX, VARIABLES, Limits
from flux_face.server_routes.webhooks import signed_headers
from flux_face.tests.comfy_server import Comfy
from flux_face.tests.routes.client import BASE, Client
from flux_face.tests.routes.conftest import ROOT
from flux_face.tests.routes.test_portraits import ONE_FACE

PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
SERVED = "http://127.0.0.1:8188"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def rows(heads: str) -> Iterator[list[str]]:
    """Cells of every row below each table with these heads."""
    for found in re.findall(rf"^\| {re.escape(heads)} \|\n\|[ |-]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE):
        for line in found.splitlines():
            yield [cell.strip() for cell in line.strip("|").split("|")]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_every_variable_is_in_the_table_with_its_default() -> None:
    table = {names(variable)[0]: default for variable, default, meaning in rows("Variable | Default | Meaning")}
    limits = {f"{PREFIX}{name.upper()}": str(value) for name, value in vars(Limits()).items()}
    assert {name: table.get(name) for name in limits} == limits
    storage = re.findall(r'"(BUCKET_\w+)"', (ROOT / "server_routes" / "storage.py").read_text(encoding="utf-8"))
    assert set(table) == {*limits, *(f"{PREFIX}{name}" for name in VARIABLES), *storage}


def codes_in(path: Path) -> tuple[set[str], set[str]]:
    """The codes of the errors that a module raises, and those that it writes into texts."""
    raised: set[str] = set()
    written: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "UserInputError":
            raised |= {str(first.value) for first in node.args[:1] if isinstance(first, ast.Constant)}
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            written |= set(re.findall(r"^\[(\w+)\] ", node.value))
    return raised, written


def test_every_error_is_in_a_table_with_its_status() -> None:
    routes = {path.name: codes_in(path) for path in (ROOT / "server_routes").glob("*.py")}
    restarted, _ = routes.pop("recovery.py")
    refused = set(STATUS_CODES).union(*(raised for raised, _ in routes.values()))
    refused |= codes_in(ROOT / "nodes" / "job" / "photo.py")[0]
    written = restarted.union(*(texts for _, texts in routes.values())) - {"code"}  # the form itself, in `schemas`
    told = [
        (code, int(status)) for cell, status, *_ in rows("Code | Status | Meaning | What to do") for code in names(cell)
    ]
    assert len(dict(told)) == len(told)
    assert dict(told) == {code: STATUS_CODES.get(code, 400) for code in refused}
    ended = {code for cell, *_ in rows("Code | Meaning | What to do") for code in names(cell)}
    assert ended >= written | codes_in(ROOT / "nodes" / "face" / "swap.py")[0] - {"identity_missing"}


def test_every_field_is_in_a_table() -> None:
    told = {name for field, *_ in rows("Field | Type | Default | Meaning") for name in names(field)}
    assert told == (set(JobInput.model_fields) | set(Policy.model_fields) | set(Body.model_fields)) - {
        "input",
        "policy",
    }


def test_every_route_is_in_the_table(api_server: Comfy) -> None:
    document = api_server.get(f"{BASE}/openapi.json")
    told = {route for cell, _ in rows("Route | What it does") for route in names(cell)}
    served = {
        f"{method.upper()} {path.removeprefix(BASE)}" for path, item in document["paths"].items() for method in item
    }
    assert told == served


def test_the_example_of_a_request_is_one() -> None:
    request, _ = blocks("json")
    Body.model_validate(json.loads(request))


async def test_the_example_of_an_error_is_one(client: Client) -> None:
    _, error = blocks("json")
    request = {"profile": "starter", "user_photo": "eA==", "prompt": "x", "num_steps": 90}
    assert (await client.runsync(**request)).body == json.loads(error)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the examples run: with a photo."""
    ONE_FACE.save(tmp_path / "me.jpg", quality=95)
    return tmp_path


def run(command: list[str], folder: Path, **env: str) -> str:
    direct = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(command, cwd=folder, env={**direct, **env}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def picture_size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def test_the_python_example(api_server: Comfy, folder: Path) -> None:
    (folder / "example.py").write_text(blocks("python")[0].replace(SERVED, api_server.url))
    run([sys.executable, "example.py"], folder)
    assert picture_size(folder / "portrait.png") == (256, 256)


@pytest.mark.skipif(shutil.which("curl") is None or shutil.which("sh") is None, reason="needs curl and sh")
def test_the_curl_examples(api_server: Comfy, folder: Path) -> None:
    portrait, swap, stream = (block.replace(SERVED, api_server.url) for block in blocks("sh"))
    run(["sh", "-c", portrait], folder)
    assert picture_size(folder / "portrait.png") == (256, 256)
    swapped = json.loads(run(["sh", "-c", swap], folder))
    assert swapped["status"] == "COMPLETED", swapped
    events = run(["sh", "-c", stream], folder, JOB_ID=swapped["id"])
    assert events.startswith("event: result\ndata: ")


def test_the_check_of_a_signature(tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text(blocks("python")[1])
    is_genuine = runpy.run_path(str(tmp_path / "example.py"))["is_genuine"]

    def signed(*secrets: str, age: int = 0) -> dict[str, str]:
        return signed_headers(secrets, "8b7c-1", int(time.time()) - age, b"{}")

    other = "whsec_" + base64.b64encode(bytes(32)).decode()
    assert is_genuine(SECRET, signed(SECRET), b"{}")
    assert is_genuine(SECRET, signed(other, SECRET), b"{}"), "while secrets are changed"
    assert not is_genuine(SECRET, signed(SECRET), b"{ }")
    assert not is_genuine(SECRET, signed(SECRET, age=600), b"{}")
    assert not is_genuine(SECRET, {**signed(SECRET), "webhook-id": "8b7c-2"}, b"{}")
    assert not is_genuine(SECRET, signed(other), b"{}")
