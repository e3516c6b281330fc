"""Where identities lie in a ComfyUI installation: ours are read and written, ReActor's are read."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ..errors import UserInputError
from .identity_file import EXTENSION, file_name

OURS = "flux_face_identities"
# Folder keys and what stands before their files' names in lists.
_REACTOR = "reactor/"
_PREFIXES = {OURS: "", "reactor_faces": _REACTOR, "insightface": "insightface/"}
_DEFAULTS = {OURS: ("flux_face", "identities"), "reactor_faces": ("reactor", "faces"), "insightface": ("insightface",)}


def _register() -> None:
    """Makes the folders known, beside those an extra_model_paths.yaml may already name."""
    for key, parts in _DEFAULTS.items():
        folder_paths.add_model_folder_path(key, str(Path(folder_paths.models_dir).joinpath(*parts)))


_register()


def identity_files() -> list[str]:
    """Files that may be identities, ours first."""
    return [
        prefix + name.replace("\\", "/")
        for key, prefix in _PREFIXES.items()
        for name in folder_paths.get_filename_list(key)
        if name.endswith(EXTENSION)
    ]


def identity_path(choice: str) -> Path:
    """The file of a name from ``identity_files``, or of a face model as ReActor's own nodes name it, without a folder.

    Raises:
        UserInputError: ``identity_file_missing``.
    """
    there = identity_files()
    for name in (choice, _REACTOR + choice):
        for key, prefix in reversed(_PREFIXES.items()):
            if name in there and name.startswith(prefix):
                found = folder_paths.get_full_path(key, name.removeprefix(prefix))
                if found:
                    return Path(found)
    raise UserInputError(
        "identity_file_missing", "file", f"there is no identity {choice!r}", "Save one with Save Face Identity"
    )


def new_identity_path(name: str, *, overwrite: bool) -> Path:
    """Where an identity of this name is to be written; makes the folder.

    Raises:
        UserInputError: ``identity_name``, or ``identity_exists`` unless it may be overwritten.
    """
    folder = Path(folder_paths.get_folder_paths(OURS)[0])
    path = folder / file_name(name)
    if path.exists() and not overwrite:
        raise UserInputError(
            "identity_exists",
            "name",
            f"there is already an identity {path.name}",
            "Choose another name, or set overwrite",
        )
    folder.mkdir(parents=True, exist_ok=True)
    return path
