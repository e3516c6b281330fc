"""The virtual environment: made by uv, or by pip where uv cannot be had."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .console import Command, SetupError, run_installer, say
from .workspace import Workspace

AGAIN = "Run the same command again: it goes on where it stopped."

_COMPILE = ("--universal", "--generate-hashes", "--no-emit-index-url", "--quiet")
_TRIED = ("--override", "overrides.txt", "--constraint", "constraints.txt", "--no-emit-package", "opencv-python")
_NO_CPU_RUNTIME = ("--override", "overrides-gpu.txt", "--no-emit-package", "onnxruntime")
# Name of an .in and a .lock file -> what uv is told about it. The images' Python is 3.12, or 3.11 on Debian 12.
LOCKS: dict[str, tuple[str, ...]] = {
    "installer": ("--python-version", "3.10"),
    "dev": ("--python-version", "3.10", *_TRIED),
    "docker-gpu": ("--python-version", "3.11", *_TRIED, *_NO_CPU_RUNTIME),
    "docker-cpu": ("--python-version", "3.11", *_TRIED),
}

# What installers print, and what it means to the user. The first that matches is told.
_CAUSES = (
    (
        ("hash mismatch", "do not match the hashes"),
        "A downloaded file is not the one that was pinned (hash mismatch, see above)",
        "Do not use it: check the package index or proxy this machine is set to.",
    ),
    (
        ("no space left", "os error 28", "errno 28", "disk quota"),
        "The disk is full",
        "Free some space. " + AGAIN,
    ),
    (
        (
            "failed to fetch",
            "error sending request",
            "dns error",
            "connection refused",
            "connect timeout",
            "newconnectionerror",
            "could not connect",
            "could not find a version",
            "timed out",
            "was not found in the package registry",
            "name resolution",
            "network is unreachable",
        ),
        "The package index cannot be reached, or lacks a package (see above)",
        "Check the network or the index and proxy settings. " + AGAIN,
    ),
)


def installer_error(output: str, what: str) -> SetupError:
    """The error for an installer that failed, by what it printed.

    Args:
        output: everything it printed.
        what: what was being installed, for causes that are not known.
    """
    lowered = output.lower()
    for signs, problem, remedy in _CAUSES:
        if any(sign in lowered for sign in signs):
            return SetupError(problem, remedy)
    return SetupError(f"{what} could not be installed (the installer's message is above)", AGAIN)


def is_installed(workspace: Workspace) -> bool:
    """Whether the environment was completed for the present lock file."""
    stamp = _stamp(workspace)
    return workspace.python.exists() and stamp.is_file() and stamp.read_text() == _lock_hash(workspace)


def find_uv(workspace: Workspace) -> Path | None:
    """uv from PATH, else one of our own; None where it cannot be installed, which is said.

    Raises:
        SetupError: this Python cannot make environments, or the uv that was offered is not the pinned one.
    """
    on_path = shutil.which("uv")
    if on_path and _works(on_path, "--version"):
        return Path(on_path)
    bootstrap = Workspace(workspace.state / "installer")
    uv = bootstrap.python.with_name("uv" + bootstrap.python.suffix)
    if _works(uv, "--version"):
        return uv
    say("      Installing uv, which installs the rest")
    shutil.rmtree(bootstrap.venv, ignore_errors=True)
    _make_venv(bootstrap.venv)
    lock = workspace.root / "requirements" / "installer.lock"
    code, output = run_installer([bootstrap.python, "-m", "pip", "install", "--require-hashes", "-r", lock])
    if code and "do not match the hashes" in output.lower():
        raise installer_error(output, "uv")
    if code:
        say("      uv cannot be installed; going on with pip, which takes longer")
        return None
    return uv


def make_environment(workspace: Workspace, uv: Path | None) -> None:
    """Make or keep ``.venv``; the packages come later.

    Args:
        uv: the program, or None to use Python's own tools.

    Raises:
        SetupError: this Python cannot make environments.
    """
    # An interrupted `python -m venv` leaves an interpreter without pip.
    if _works(workspace.python, *([] if uv else ["-m", "pip"]), "--version"):
        return
    if workspace.venv.exists():
        shutil.rmtree(workspace.venv)
    if uv is None:
        _make_venv(workspace.venv)
        return
    code, output = run_installer([uv, "venv", "--quiet", "--python", sys.executable, workspace.venv])
    if code:
        raise installer_error(output, "The virtual environment")


def install_packages(workspace: Workspace, uv: Path | None) -> None:
    """Install the lock file's packages into ``.venv`` and stamp it.

    Args:
        uv: the program, or None to use pip.

    Raises:
        SetupError: the installer failed.
    """
    _stamp(workspace).unlink(missing_ok=True)
    command: Command
    if uv is None:
        # --no-deps: the lock is complete, and its overrides are not pip's.
        command = [workspace.python, "-m", "pip", "install", "--no-deps", "--require-hashes", "-r", workspace.lock]
    else:
        command = [uv, "pip", "sync", "--python", workspace.python, "--require-hashes", workspace.lock]
    code, output = run_installer(command)
    if code:
        raise installer_error(output, "The packages")
    _stamp(workspace).write_text(_lock_hash(workspace))


def compile_locks(workspace: Workspace, names: Sequence[str] = ()) -> None:
    """Resolve ``requirements/*.in`` anew into the lock files.

    Args:
        workspace: where they are.
        names: of `LOCKS`; all if there are none.

    Raises:
        SetupError: uv is missing, a name is not known, or the requirements cannot be met.
    """
    unknown = sorted(set(names) - set(LOCKS))
    if unknown:
        raise SetupError(f"There is no lock {', '.join(unknown)}", f"Those there are: {', '.join(LOCKS)}.")
    uv = find_uv(workspace)
    if uv is None:
        raise SetupError("Only uv can make the lock files", "Install uv.")
    for name in names or LOCKS:
        command: Command = [uv, "pip", "compile", *_COMPILE, *LOCKS[name], f"{name}.in", "-o", f"{name}.lock"]
        code, output = run_installer(command, cwd=workspace.lock.parent)
        if code:
            raise installer_error(output, "The requirements")


def _make_venv(path: Path) -> None:
    code, _ = run_installer([sys.executable, "-m", "venv", path])
    if code:
        raise SetupError(
            f"{sys.executable} cannot make virtual environments",
            "Install uv, or Python's venv module (on Debian and Ubuntu: apt-get install python3-venv).",
        )


def _works(*command: str | Path) -> bool:
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


def _stamp(workspace: Workspace) -> Path:
    return workspace.venv / "flux-face.stamp"


def _lock_hash(workspace: Workspace) -> str:
    return hashlib.sha256(workspace.lock.read_bytes()).hexdigest()
