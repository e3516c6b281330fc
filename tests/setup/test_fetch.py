"""ComfyUI's source arrives whole and verified, or not at all."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from flux_face.devtools.comfyui import (
    COMFYUI_VERSION,
    Download,
    fetch,
    is_fetched,
    link_directory,
    make_base_directory,
    own_comfyui,
)
from flux_face.devtools.console import SetupError
from flux_face.devtools.workspace import Workspace
from flux_face.tests.comfy_server import COMFYUI

GOOD = {
    "source-1.0/setup.py": b"never unpacked",
    "source-1.0/vendor/ComfyUI/main.py": b"print('main')",
    "source-1.0/vendor/ComfyUI/comfy/model.py": b"",
}


def test_only_comfyui_is_unpacked(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    download, sha256 = _source(GOOD)
    fetch(workspace, download, sha256)
    comfyui = own_comfyui(workspace)
    assert (comfyui / "main.py").read_bytes() == b"print('main')"
    assert _names(comfyui) == {"main.py", "comfy", "comfy/model.py", "flux-face.stamp"}
    assert _names(workspace.state) == {"ComfyUI"} | {f"ComfyUI/{name}" for name in _names(comfyui)}


def test_another_file_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(SetupError, match=r"^source\.tar\.gz is not the file that was pinned .*\. Do not use it[^\n]*$"):
        fetch(workspace, _source(GOOD)[0])
    assert _names(workspace.state) == set()
    assert not is_fetched(workspace)


def test_a_failed_update_leaves_the_old_one(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    fetch(workspace, *_source(GOOD))
    before = _names(workspace.state)
    with pytest.raises(SetupError):
        fetch(workspace, _source(GOOD)[0], "0" * 64)
    assert _names(workspace.state) == before


def test_an_update_leaves_nothing_of_the_old_one(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    fetch(workspace, *_source(GOOD))
    fetch(workspace, *_source({"source-2.0/vendor/ComfyUI/main.py": b"new"}))
    assert _names(own_comfyui(workspace)) == {"main.py", "flux-face.stamp"}


@pytest.mark.parametrize(
    "name",
    [
        "source-1.0/vendor/ComfyUI/../../../../../escaped",
        "source-1.0/vendor/ComfyUI/..\\..\\escaped",
        "source-1.0/vendor/ComfyUI/C:escaped",
    ],
)
def test_unsafe_names_are_refused(tmp_path: Path, name: str) -> None:
    workspace = Workspace(tmp_path / "deep" / "down")
    with pytest.raises(SetupError, match="unsafe name"):
        fetch(workspace, *_source({**GOOD, name: b"escaped"}))
    assert {path.name for path in tmp_path.rglob("*")} == {"deep", "down", ".comfyui"}


def test_links_in_the_archive_are_not_made(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    fetch(workspace, *_source(GOOD, link="source-1.0/vendor/ComfyUI/passwords"))
    assert "passwords" not in _names(own_comfyui(workspace))


def test_the_pinned_version_is_the_one_the_tests_run() -> None:
    assert f'"{COMFYUI_VERSION}"' in (COMFYUI / "comfyui_version.py").read_text()


def test_base_directory_can_be_made_again(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    make_base_directory(workspace)
    kept = workspace.base / "models" / "mine.gguf"
    kept.touch()
    make_base_directory(workspace)
    assert kept.exists()
    assert (workspace.base / "custom_nodes" / "flux-face").samefile(tmp_path)


def test_a_stale_link_is_renewed(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    link = tmp_path / "link"
    link_directory(link, old)
    old.rmdir()
    link_directory(link, new)
    assert link.samefile(new)


def test_a_folder_in_the_way_is_kept(tmp_path: Path) -> None:
    (tmp_path / "link").mkdir()
    (tmp_path / "target").mkdir()
    with pytest.raises(SetupError, match="is in the way"):
        link_directory(tmp_path / "link", tmp_path / "target")
    assert not (tmp_path / "link").is_symlink()


def _source(files: Mapping[str, bytes], link: str | None = None) -> tuple[Download, str]:
    """A source distribution with these files: how to fetch it, and its hash."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        if link:
            member = tarfile.TarInfo(link)
            member.type = tarfile.SYMTYPE
            member.linkname = "/etc/passwd"
            tar.addfile(member)
    data = buffer.getvalue()

    def download(_workspace: Workspace, directory: Path) -> Path:
        archive = directory / "source.tar.gz"
        archive.write_bytes(data)
        return archive

    return download, hashlib.sha256(data).hexdigest()


def _names(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*")}
