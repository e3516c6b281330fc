"""Where the commands keep things, and the disk they need."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .console import SetupError

# .venv holds 7 GB, almost all of it torch's CUDA build; an installer unpacks in a second place before it moves.
ENVIRONMENT_BYTES = 12 * 10**9


@dataclass(frozen=True)
class Workspace:
    """A checkout of the pack and what dev.py puts into it (all of it git-ignored).

    Attributes:
        root: the checkout.
    """

    root: Path

    @property
    def venv(self) -> Path:
        """The virtual environment."""
        return self.root / ".venv"

    @property
    def python(self) -> Path:
        """The virtual environment's interpreter."""
        return self.venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def state(self) -> Path:
        """Everything else that dev.py makes."""
        return self.root / ".comfyui"

    @property
    def base(self) -> Path:
        """ComfyUI's base directory: models, input, output, custom nodes."""
        return self.state / "base"

    @property
    def lock(self) -> Path:
        """The pinned packages of the virtual environment."""
        return self.root / "requirements" / "dev.lock"


def free_bytes(directory: Path) -> int:
    """Free disk space for files in ``directory``."""
    return shutil.disk_usage(directory).free


def check_disk(
    directory: Path, needed: int, purpose: str, *, present: int = 0, free: Callable[[Path], int] = free_bytes
) -> None:
    """Refuse to start what the disk cannot hold.

    Args:
        directory: where the files will be.
        needed: bytes they take in all.
        purpose: what they are, for the message.
        present: bytes of them that are there already.
        free: how to measure.

    Raises:
        SetupError: too little is free.
    """
    missing = max(needed - present, 0)
    available = free(directory)
    if available < missing:
        raise SetupError(
            f"{purpose} needs {missing / 1e9:.1f} GB of disk; {directory} has {available / 1e9:.1f} GB free",
            "Free some space, or move this folder to a larger disk.",
        )


def tree_bytes(directory: Path) -> int:
    """Bytes of all files below ``directory``; 0 where there is none."""
    return sum(path.lstat().st_size for path in directory.rglob("*"))
