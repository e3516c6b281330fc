"""Where the face models of a ComfyUI installation lie, and the onnx engine made from them.

The one module of the face stage that asks ComfyUI for folders.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import folder_paths

from ..errors import UserInputError
from .contracts import DETECTORS, RECOGNISERS, SWAPPERS, ModelFile, SwapperContract
from .engines import FaceEngine
from .onnx_engine import OnnxEngine
from .ort_session import OrtSession
from .session import Device

AUTOMATIC = "automatic"

# Folders of models/ in which face models are customarily kept, the usual one first.
_FOLDERS = ("insightface", "reswapper", "hyperswap", "facexlib")


def _register() -> None:
    """Makes the folders known, beside those an extra_model_paths.yaml may already name."""
    for folder in _FOLDERS:
        folder_paths.add_model_folder_path(folder, str(Path(folder_paths.models_dir) / folder))


_register()


def detector_files() -> list[str]:
    """SCRFD files of this installation, as folder/name."""
    return _present(DETECTORS)


def recogniser_files() -> list[str]:
    """ArcFace files of this installation."""
    return _present(RECOGNISERS)


def swapper_files() -> list[str]:
    """Swapper files of this installation."""
    return _present(SWAPPERS)


def load_onnx_engine(
    device: Device, detector: str, recogniser: str, swapper: str, *, required: bool
) -> tuple[FaceEngine | None, str]:
    """The onnx engine of these files, and a report; None where something is missing and it is not `required`.

    Raises:
        UserInputError: ``model_missing``, ``onnxruntime_missing``, ``provider_inactive`` or ``onnx_contract``.
    """
    if importlib.util.find_spec("onnxruntime") is None and not required:
        return None, "classic: the package onnxruntime is not installed"
    try:
        paths = (
            _resolve("detector", detector, DETECTORS),
            _resolve("recogniser", recogniser, RECOGNISERS),
            _resolve("swapper", swapper, SWAPPERS),
        )
    except UserInputError as error:
        if required or error.code != "model_missing":
            raise
        return None, f"classic: {error.problem}"
    engine = _engine(*paths, device)
    names = ", ".join(path.name for path in paths)
    return engine, f"onnx on {engine.provider}: {names}" + "".join(f"; {note}" for note in engine.notes)


# One engine is kept: its three sessions are what costs memory.
@lru_cache(maxsize=1)
def _engine(detector: Path, recogniser: Path, swapper: Path, device: Device) -> OnnxEngine:
    contract = next(row for row in SWAPPERS if row.name == swapper.name)
    sessions = [OrtSession(path, device) for path in (detector, recogniser, swapper)]
    return OnnxEngine(sessions[0], sessions[1], sessions[2], contract)


def _present(models: Sequence[ModelFile]) -> list[str]:
    known = {model.name for model in models}
    return [
        f"{folder}/{name}"
        for folder in _FOLDERS
        for name in folder_paths.get_filename_list(folder)
        if Path(name).name in known
    ]


def _resolve(kind: str, choice: str, models: Sequence[ModelFile] | Sequence[SwapperContract]) -> Path:
    """The file of a choice, or the first known one that is there."""
    present = _present(models)
    if choice == AUTOMATIC:
        ranked = [name for model in models for name in present if Path(name).name == model.name]
        if not ranked:
            raise _missing(kind, models[0])
        choice = ranked[0]
    elif choice not in present:
        known = next((model for model in models if model.name == Path(choice).name), models[0])
        raise _missing(kind, known)
    folder, _, name = choice.partition("/")
    return Path(folder_paths.get_full_path_or_raise(folder, name))


def _missing(kind: str, model: ModelFile) -> UserInputError:
    return UserInputError(
        "model_missing",
        kind,
        f"no {kind} model is there: {model.name} is not in models/{_FOLDERS[0]} or its subfolders",
        f"Get it from {model.publisher} (licence: {model.licence}), put it there and restart, "
        "or choose the classic engine",
    )
