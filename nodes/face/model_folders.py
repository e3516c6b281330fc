"""Where the face models of a ComfyUI installation lie.

The one module of the onnx engine that asks ComfyUI for folders.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import folder_paths

from ...catalogue.hints import where_to_get
from ..errors import UserInputError
from .contracts import ModelFile
from .insightface_pack import MANIFEST, is_pack

AUTOMATIC = "automatic"

# Folders of models/ in which this and other packs keep face models; what is missing is said to belong in the first.
_FOLDERS = ("insightface", "reswapper", "hyperswap", "facefusion", "facerestore_models", "facerestore", "facexlib")
_HOMES = {"restorer": "facerestore_models", "occluder": "facefusion", "parser": "facefusion"}

Row = TypeVar("Row", bound=ModelFile)


def _register() -> None:
    """Makes the folders known, beside those an extra_model_paths.yaml may already name."""
    for folder in _FOLDERS:
        folder_paths.add_model_folder_path(folder, str(Path(folder_paths.models_dir) / folder))


_register()


def present(rows: Sequence[ModelFile]) -> list[str]:
    """Files of these models as folder/name, in the order of the rows."""
    there = _files()
    return [file for row in rows for known in row.names for file in there if Path(file).name == known]


def packs() -> list[str]:
    """Newer packs of insightface, which are folders, as folder/name."""
    manifests = [file for file in _files() if Path(file).name == MANIFEST]
    return [Path(file).parent.as_posix() for file in manifests if is_pack(path_of(file).parent)]


def path_of(file: str) -> Path:
    """Where a file of `present` is."""
    folder, _, name = file.partition("/")
    return Path(folder_paths.get_full_path_or_raise(folder, name))


def pack_path(pack: str) -> Path:
    """Where a pack of `packs` is."""
    return path_of(f"{pack}/{MANIFEST}").parent


def resolve(kind: str, choice: str, rows: Sequence[Row]) -> tuple[Path, Row]:
    """The file of a choice, or for ``automatic`` the first known one that is there, and its row.

    Raises:
        UserInputError: ``model_missing``.
    """
    there = present(rows)
    if choice == AUTOMATIC and there:
        choice = there[0]
    name = Path(choice).name
    if choice not in there:
        raise _missing(kind, next((row for row in rows if name in row.names), rows[0]))
    return path_of(choice), next(row for row in rows if name in row.names)


def _files() -> list[str]:
    # Windows' separators would not survive in a workflow made elsewhere.
    return [
        f"{folder}/{name}".replace("\\", "/") for folder in _FOLDERS for name in folder_paths.get_filename_list(folder)
    ]


def _missing(kind: str, row: ModelFile) -> UserInputError:
    folder = _HOMES.get(kind, _FOLDERS[0])
    without = "" if kind in _HOMES else ", or choose the classic engine"
    return UserInputError(
        "model_missing",
        kind,
        f"no {kind} model is there: {row.name} is not in models/{folder} or its subfolders",
        f"Get it from {where_to_get(row.name)}, put it there and restart{without}",
    )
