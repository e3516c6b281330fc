"""Identities as files: ``.safetensors`` of our own, and the face models that ReActor saves.

Both hold the fields of insightface's ``Face`` under its names: ``embedding [512]``, and of the photo's face ``bbox
[4]``, ``kps [5, 2]``, ``det_score``, ``gender`` (1 is male) and ``age``. Ours have a header that names the recogniser
and, where it was asked for, ``photo`` as uint8 ``[H, W, 3]``. ReActor's have no header, and landmarks that are not read
here. Nothing in such a file can be run.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import UserInputError
from .identity import Identity
from .types import Face

EXTENSION = ".safetensors"
# The network of insightface's pack buffalo_l, which ReActor runs.
REACTOR_RECOGNISER = "w600k_r50.onnx"

_FORMAT = "flux_face_identity"
_VERSION = "1"
_EMBEDDING = 512
# An embedding takes 2 kB and a photo some MB; far larger files are models that lie in the wrong folder.
_MAX_BYTES = 64_000_000
# Around a stored face this much of its box is kept on every side: what the engines' crops reach.
_MARGIN = 1.0

_MAX_NAME = 100
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def file_name(name: str, field: str = "name") -> str:
    """The file's name for an identity's name: one that every operating system takes, inside its folder.

    Raises:
        UserInputError: ``identity_name``.
    """
    name = name.strip().removesuffix(EXTENSION)
    problem = ""
    if not name or len(name) > _MAX_NAME:
        problem = f"a name has 1 to {_MAX_NAME} characters"
    elif _FORBIDDEN.search(name):
        problem = f'{name!r} has one of < > : " / \\ | ? * or a control character'
    elif name.startswith(".") or name.endswith((".", " ")):
        problem = f"{name!r} starts or ends with a dot"
    elif _RESERVED.fullmatch(name):
        problem = f"{name!r} is a device on Windows"
    if problem:
        raise UserInputError("identity_name", field, problem, "Use letters, digits, spaces, - and _, such as anna")
    return name + EXTENSION


def save_identity(identity: Identity, path: Path, *, keep_photo: bool) -> None:
    """Writes a file whole or not at all, replacing one that is there; the folder must exist.

    With `keep_photo` the face and its surroundings are stored as 8-bit pixels, which only engines without a
    recogniser need.

    Raises:
        UserInputError: ``identity_incomplete`` where nothing would be left to store.
    """
    tensors: dict[str, Tensor] = {}
    if identity.embedding is not None:
        tensors["embedding"] = torch.from_numpy(np.array(identity.embedding, dtype=np.float32))
    if keep_photo and identity.photo is not None and identity.face is not None:
        tensors |= _photo_tensors(identity.photo, identity.face)
    if not tensors:
        raise UserInputError(
            "identity_incomplete",
            "identity",
            "without its photo nothing of it would be stored",
            "Set keep_photo, or make the identity with the onnx engine",
        )
    from safetensors.torch import save

    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "recogniser": identity.recogniser,
        "photos": str(identity.photos),
    }
    _write(path, save(tensors, metadata=header))


def load_identity(path: Path, field: str = "file") -> Identity:
    """The identity in a file of ours or of ReActor's.

    Raises:
        UserInputError: ``identity_file``.
    """
    header, tensors = _read(path, field)
    if header.get("format") == _FORMAT and header.get("version") != _VERSION:
        raise _bad(path, field, f"its version is {header.get('version')}, not {_VERSION}", "Update the pack")
    ours = header.get("format") == _FORMAT
    embedding = tensors.get("embedding")
    if embedding is not None:
        embedding = embedding.reshape(-1).float()
        if len(embedding) != _EMBEDDING or not bool(embedding.isfinite().all()) or not bool(embedding.any()):
            raise _bad(path, field, f"its embedding is not {_EMBEDDING} numbers other than zero", _NO_IDENTITY)
    photo, face = _photo_of(path, field, tensors) if ours and "photo" in tensors else (None, None)
    if embedding is None and photo is None:
        raise _bad(path, field, "it holds neither an embedding nor a photo", _NO_IDENTITY)
    photos = header.get("photos", "1")
    return Identity(
        embedding=None if embedding is None else embedding.numpy(),
        recogniser="" if embedding is None else header.get("recogniser", "") if ours else REACTOR_RECOGNISER,
        photo=photo,
        face=face,
        photos=int(photos) if photos.isascii() and photos.isdigit() else 1,
    )


_NO_IDENTITY = "Choose a file that Save Face Identity or ReActor has saved"


def _photo_tensors(photo: Tensor, face: Face) -> dict[str, Tensor]:
    """The face with its surroundings, and where it lies in them."""
    height, width = photo.shape[:2]
    reach = _MARGIN * max(face.width, face.height)
    x0, y0 = (max(0, int(value - reach)) for value in face.box[:2])
    x1, y1 = min(width, int(face.box[2] + reach) + 1), min(height, int(face.box[3] + reach) + 1)
    pixels = (photo[y0:y1, x0:x1, :3].clamp(0, 1) * 255.0).round().to(torch.uint8)
    shift = torch.tensor([x0, y0], dtype=torch.float32)
    tensors = {
        "photo": pixels.contiguous(),
        "bbox": torch.tensor(face.box, dtype=torch.float32) - shift.repeat(2),
        "kps": torch.from_numpy(np.array(face.landmarks, dtype=np.float32)) - shift,
        "det_score": torch.tensor(face.score, dtype=torch.float32),
    }
    if face.sex is not None:
        tensors["gender"] = torch.tensor(int(face.sex == "male"))
    if face.age is not None:
        tensors["age"] = torch.tensor(float(face.age))
    return tensors


def _photo_of(path: Path, field: str, tensors: dict[str, Tensor]) -> tuple[Tensor, Face]:
    photo, box, points = tensors["photo"], tensors.get("bbox"), tensors.get("kps")
    score, sex, age = (tensors.get(name) for name in ("det_score", "gender", "age"))
    fits = photo.ndim == 3 and photo.shape[2] == 3 and photo.dtype == torch.uint8
    fits = fits and all(value is None or value.numel() == 1 for value in (score, sex, age))
    if not fits or box is None or points is None or box.numel() != 4 or points.numel() != 10:
        raise _bad(path, field, "its photo or the face in it is not as it should be", _NO_IDENTITY)
    x0, y0, x1, y1 = box.reshape(4).float().tolist()
    embedding = tensors.get("embedding")
    face = Face(
        box=(x0, y0, x1, y1),
        score=1.0 if score is None else float(score),
        landmarks=points.reshape(5, 2).float().numpy(),
        embedding=None if embedding is None else embedding.reshape(-1).float().numpy(),
        sex=None if sex is None else "male" if int(sex) == 1 else "female",
        age=None if age is None else float(age),
    )
    return photo.float() / 255.0, face


def _read(path: Path, field: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and tensors, through memory: a mapped file could not be replaced on Windows."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    if path.stat().st_size > _MAX_BYTES:
        raise _bad(path, field, f"it has more than {_MAX_BYTES:,} bytes", _NO_IDENTITY)
    data = path.read_bytes()
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise _bad(path, field, f"it cannot be read: {error}", _NO_IDENTITY) from error
    # load has checked the header, which begins with its length.
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__") or {}
    return header, tensors


def _write(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".identity-", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _bad(path: Path, field: str, problem: str, remedy: str) -> UserInputError:
    return UserInputError("identity_file", field, f"{path.name} is no identity: {problem}", remedy)
