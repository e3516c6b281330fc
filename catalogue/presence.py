"""Which of the manifest's files are there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .manifest import Model, ModelFile

# Where ComfyUI and nodes/face/model_folders.py also look; the first is where the downloader saves.
OTHER_NAMES = {"diffusion_models": ("unet",), "text_encoders": ("clip",)}
FACE_FOLDERS = ("insightface", "reswapper", "hyperswap", "facefusion", "facerestore_models", "facerestore", "facexlib")
MODEL_FOLDERS = frozenset({*FACE_FOLDERS, *OTHER_NAMES, "checkpoints", "loras", "vae"})


@dataclass(frozen=True)
class Presence:
    """One file of a model.

    Attributes:
        model: the model's id.
        file: what the manifest says of it.
        state: ``wrong_size`` also where it is another release under the same name.
        path: where it is, unless it is missing.
        size: its bytes, unless it is missing.
    """

    model: str
    file: ModelFile
    state: Literal["found", "missing", "wrong_size"]
    path: Path | None = None
    size: int | None = None


def folders_below(models_dir: Path) -> dict[str, list[Path]]:
    """The folders of a plain models directory, for those who have no ComfyUI to ask."""
    return {name: [models_dir / folder for folder in (name, *OTHER_NAMES.get(name, ()))] for name in MODEL_FOLDERS}


def look(models: Iterable[Model], folders: Mapping[str, Sequence[Path]]) -> tuple[Presence, ...]:
    """What is there of these models.

    A generator's file must lie where its profile names it. The face engine finds its files by name in any of its
    folders and their subfolders, so they count there too, and under their aliases.

    Args:
        folders: name of a model folder -> its directories, as ComfyUI's ``folder_paths.get_folder_paths`` gives them.
    """
    faces = _by_name(directory for name in FACE_FOLDERS for directory in folders.get(name, ()))
    return tuple(_look(model.id, file, folders, faces) for model in models for file in model.files)


def _by_name(directories: Iterable[Path]) -> dict[str, list[Path]]:
    found: defaultdict[str, list[Path]] = defaultdict(list)
    for directory in dict.fromkeys(directories):
        for path in sorted(directory.rglob("*")):
            found[path.name].append(path)
    return found


def _look(
    model: str, file: ModelFile, folders: Mapping[str, Sequence[Path]], faces: Mapping[str, list[Path]]
) -> Presence:
    places = [directory / file.name for directory in folders.get(file.folder, ())]
    if file.folder in FACE_FOLDERS:
        places += faces.get(Path(file.name).name, [])
    there = {path: path.stat().st_size for path in places if path.is_file()}
    for path, size in there.items():
        if file.size in (None, size):
            return Presence(model, file, "found", path, size)
    if file.folder in FACE_FOLDERS:
        # Another export of the same network: its size says nothing.
        for path in (path for alias in file.aliases for path in faces.get(alias, []) if path.is_file()):
            return Presence(model, file, "found", path, path.stat().st_size)
    for path, size in there.items():
        return Presence(model, file, "wrong_size", path, size)
    return Presence(model, file, "missing")
