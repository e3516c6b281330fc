"""Sets the workspace up, one step after the other; what is done already is passed over without a word or a look-up."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from . import comfyui, packages
from .console import SetupError, say
from .workspace import ENVIRONMENT_BYTES, Workspace, check_disk, tree_bytes

STEPS = 5


def ensure_packages(workspace: Workspace) -> None:
    """The virtual environment with the lock file's packages.

    Raises:
        SetupError: a step failed.
    """
    if packages.is_installed(workspace):
        return
    check_disk(workspace.root, ENVIRONMENT_BYTES, "The virtual environment", present=tree_bytes(workspace.venv))
    _announce(1, "Preparing the virtual environment .venv")
    uv = packages.find_uv(workspace)
    packages.make_environment(workspace, uv)
    _announce(2, "Installing packages (about 7 GB: PyTorch with CUDA, ComfyUI's and the tests')")
    packages.install_packages(workspace, uv)


def ensure_all(workspace: Workspace) -> Path:
    """Packages, ComfyUI, base directory with the example photo, starter models; returns ComfyUI's folder.

    Raises:
        SetupError: a step failed.
    """
    given = comfyui.given_comfyui()
    ensure_packages(workspace)
    if given is None and not comfyui.is_fetched(workspace):
        _announce(3, f"Fetching ComfyUI {comfyui.COMFYUI_VERSION}")
        comfyui.fetch(workspace)
    if not (workspace.base / "custom_nodes").is_dir():
        _announce(4, "Making ComfyUI's base directory .comfyui/base")
    comfyui.make_base_directory(workspace)
    _place_example_photo(workspace)
    _prepare_starter_models(workspace)
    return given or comfyui.own_comfyui(workspace)


def pack_command(workspace: Workspace, module: str, *arguments: str | Path) -> list[str | Path]:
    """The command that runs one of the pack's modules in the virtual environment."""
    return [workspace.python, workspace.root / "devtools" / "pack.py", module, *arguments]


def _place_example_photo(workspace: Workspace) -> None:
    """Give the example workflows the photograph they name: one in the public domain (NASA) that scikit-image ships."""
    target = workspace.base / "input" / "example.png"
    if not target.exists():
        packages_folder = "Lib" if os.name == "nt" else "lib/python*"
        shipped = workspace.venv.glob(f"{packages_folder}/site-packages/skimage/data/astronaut.png")
        shutil.copyfile(next(shipped), target)


def _prepare_starter_models(workspace: Workspace) -> None:
    models = workspace.base / "models"
    if not any(models.iterdir()):
        _announce(5, "Preparing the starter models")
    # Every time, for it looks itself at what is missing or older; quietly, for it lists its files.
    command = pack_command(workspace, "starter.prepare", "--models-dir", models)
    answer = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if answer.returncode:
        say(answer.stdout)
        raise SetupError("The starter models could not be prepared (see above)", packages.AGAIN)


def _announce(step: int, text: str) -> None:
    say(f"[{step}/{STEPS}] {text} …")
