"""What the doctor looks at: everything that differs between a laptop, a container and a running ComfyUI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Subject:
    """An installation.

    Attributes:
        comfyui: ComfyUI's source tree; None where it is not known.
        models_dirs: models folders in ComfyUI's layout.
        model_folders: name of a model folder -> its directories, where ComfyUI can be asked; instead of models_dirs.
        model_types: sets of the catalogue, single models, or ``starter``; one that is missing is a failure.
        gpu: whether jobs are to run on a GPU, so that its absence is a failure.
        writable: directories that must take files; of one that is not there yet, the next one above it is looked at.
        ports: TCP ports that must be free on this machine.
        host: the address they will be bound to.
    """

    comfyui: Path | None = None
    models_dirs: tuple[Path, ...] = ()
    model_folders: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    model_types: tuple[str, ...] = ()
    gpu: bool = False
    writable: tuple[Path, ...] = ()
    ports: tuple[int, ...] = ()
    host: str = "127.0.0.1"
