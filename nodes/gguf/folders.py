"""The model folders ``unet_gguf`` and ``clip_gguf``, shared with other packs."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ...catalogue.hints import where_to_get
from ..errors import UserInputError

UNET_FOLDER = "unet_gguf"
CLIP_FOLDER = "clip_gguf"
_SOURCES = {UNET_FOLDER: "diffusion_models", CLIP_FOLDER: "text_encoders"}


def register() -> None:
    """Adds the folders to ComfyUI's list, keeping what other packs registered under the same names."""
    for name, source in _SOURCES.items():
        paths, _ = folder_paths.folder_names_and_paths.get(name, ([], set()))
        ours = folder_paths.get_folder_paths(source)
        merged = [*paths, *(path for path in ours if path not in paths)]
        folder_paths.folder_names_and_paths[name] = (merged, {".gguf"})


def unet_files() -> list[str]:
    """Names of diffusion models as GGUF."""
    register()
    return list(folder_paths.get_filename_list(UNET_FOLDER))


def clip_files() -> list[str]:
    """Names of text encoders, GGUF and others."""
    register()
    return sorted({*folder_paths.get_filename_list(CLIP_FOLDER), *folder_paths.get_filename_list("text_encoders")})


def unet_path(name: str) -> Path:
    """The file of a name from ``unet_files``.

    Raises:
        UserInputError: ``model_missing``.
    """
    return _path(name, "unet_name", (UNET_FOLDER,))


def clip_path(name: str, field: str) -> Path:
    """The file of a name from ``clip_files``.

    Raises:
        UserInputError: ``model_missing``.
    """
    return _path(name, field, (CLIP_FOLDER, "text_encoders"))


def gguf_path(name: str, field: str) -> Path:
    """The file of a GGUF name from either folder.

    Raises:
        UserInputError: ``model_missing``.
    """
    return _path(name, field, (UNET_FOLDER, CLIP_FOLDER))


def _path(name: str, field: str, folders: tuple[str, ...]) -> Path:
    register()
    for folder in folders:
        found = folder_paths.get_full_path(folder, name)
        if found is not None:
            return Path(found)
    places = ", ".join(str(path) for path in folder_paths.get_folder_paths(folders[0]))
    found_at = where_to_get(name)
    source = f"Get it from {found_at}. " if found_at else ""
    raise UserInputError("model_missing", field, f"there is no file {name!r}", f"{source}Put it into one of: {places}")
