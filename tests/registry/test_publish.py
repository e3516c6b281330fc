"""What the Registry gets: comfy-cli validates and publishes the pack, to a stand-in, and the archive runs."""

from __future__ import annotations

import importlib
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from flux_face.devtools.pack import ROOT
from flux_face.tests.comfy_server import COMFYUI, Comfy
from flux_face.tests.conftest import STARTER_MODELS

from .conftest import Outside, program

# pytest brings tomli where Python has no tomllib yet.
tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

MOST_BYTES = 3_000_000
# Everything else is for developers or for servers.
TOP_LEVEL = {
    "CHANGELOG.md", "LICENSE", "README.ja.md", "README.md", "__init__.py", "extension.py", "pyproject.toml",
    "requirements.txt",
    "catalogue", "doctor", "locales", "nodes", "server_routes", "subgraphs", "web", "workflows",
}  # fmt: skip


def comfy_cli(outside: Outside, checkout: Path, home: Path, *arguments: str) -> str:
    """What comfy-cli prints; with a home directory in which tracking is off."""
    environment = {**os.environ, **outside.environment(home), "ENVIRONMENT": "dev", "COLUMNS": "200"}
    for command in (["tracking", "disable"], list(arguments)):
        done = subprocess.run(
            [program("comfy"), "--skip-prompt", *command],
            cwd=checkout,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_comfy_cli_finds_nothing_to_complain_of(outside: Outside, checkout: Path, tmp_path: Path) -> None:
    printed = comfy_cli(outside, checkout, tmp_path, "node", "validate")
    assert "All validation checks passed" in printed
    assert "warning" not in printed.lower()
    assert outside.requests == []


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `test_a_version_is_published` unpacks what was uploaded."""
    return tmp_path_factory.mktemp("archive") / "flux-face"


def test_a_version_is_published(outside: Outside, checkout: Path, tmp_path: Path, unpacked: Path) -> None:
    comfy_cli(outside, checkout, tmp_path, "node", "publish", "--token", "no-token")
    versions = f"/publishers/{PROJECT['tool']['comfy']['PublisherId']}/nodes/flux-face/versions"
    assert outside.requests == [f"POST http://localhost:8080{versions}", "PUT http://localhost/upload.zip"]
    assert outside.published is not None
    node, version = outside.published["node"], outside.published["node_version"]
    assert node["name"] == "Flux Face"
    assert node["repository"] == PROJECT["project"]["urls"]["Repository"]
    assert node["supported_comfyui_version"] == PROJECT["tool"]["comfy"]["requires-comfyui"]
    assert json.loads(node["license"]) == {"file": "LICENSE"}
    assert version["version"] == PROJECT["project"]["version"]
    assert version["dependencies"] == PROJECT["project"]["dependencies"]
    assert len(outside.archive) < MOST_BYTES
    with zipfile.ZipFile(io.BytesIO(outside.archive)) as archive:
        archive.extractall(unpacked)


def test_the_archive_has_what_comfyui_needs_and_nothing_else(checkout: Path, unpacked: Path) -> None:
    packed = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    wanted = {
        name
        for path in checkout.rglob("*")
        if path.is_file() and (name := path.relative_to(checkout).as_posix()).partition("/")[0] in TOP_LEVEL
    }
    assert wanted - packed == set()
    assert packed - wanted == set()
    for needed in ("web/docs", "web/lib/text.js", "locales/en/main.json", "workflows/starter.json", "workflows/api"):
        assert (unpacked / needed).exists(), needed


def test_comfyui_runs_the_archive(comfy: Comfy, unpacked: Path, tmp_path: Path) -> None:
    with Comfy.start(tmp_path, unpacked, COMFYUI, STARTER_MODELS) as server:
        assert "(IMPORT FAILED)" not in server.log()
        definitions = server.get("/object_info")
        profiles = server.get("/flux-face/v1/profiles")
        assert server.get("/extensions") == comfy.get("/extensions")
    ours = {name: info for name, info in comfy.get("/object_info").items() if _is_ours(info)}
    assert ours
    assert {name for name, info in definitions.items() if _is_ours(info)} == ours.keys()
    assert profiles == comfy.get("/flux-face/v1/profiles")


def test_icon_and_banner_are_files_of_the_repository() -> None:
    repository = PROJECT["project"]["urls"]["Repository"].removeprefix("https://github.com/")
    for name in ("Icon", "Banner"):
        address = PROJECT["tool"]["comfy"][name]
        prefix = f"https://raw.githubusercontent.com/{repository}/HEAD/"
        assert address.startswith(prefix)
        assert (ROOT / address.removeprefix(prefix)).is_file()


def _is_ours(info: dict[str, object]) -> bool:
    return info["python_module"] == "custom_nodes.flux-face"
