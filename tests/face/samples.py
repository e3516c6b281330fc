"""What several face tests look at: a photograph, faces placed in it, and sessions of small graphs."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from flux_face.nodes.face.align import ARCFACE_112_V2
from flux_face.nodes.face.runtime.ort_session import OrtSession
from flux_face.nodes.face.runtime.session import Session
from flux_face.nodes.face.types import Face

Bytes = npt.NDArray[np.uint8]


@lru_cache(maxsize=1)
def photo() -> Bytes:
    """insightface's picture of six people, RGB."""
    import insightface

    path = Path(insightface.__file__).parent / "data" / "images" / "t1.jpg"
    return np.asarray(Image.open(path).convert("RGB"))


def as_image(rgb: Bytes) -> torch.Tensor:
    """Float32 ``[H, W, 3]``, 0..1."""
    return torch.from_numpy(rgb.astype(np.float32) / 255.0)


def as_bgr(rgb: Bytes) -> Bytes:
    """As OpenCV wants it."""
    return np.ascontiguousarray(rgb[..., ::-1])


def face_at(x: float, y: float, size: float, tilt: float = 8.0) -> Face:
    """A face whose five points fit the template, turned by `tilt` degrees."""
    angle = np.radians(tilt)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    points = ((ARCFACE_112_V2 - 0.5) @ turn * size + (x, y)).astype(np.float32)
    half = size / 2
    return Face((x - half, y - half, x + half, y + half), 0.9, points)


def session(path: Path) -> Session:
    """A graph on the CPU."""
    return OrtSession(path, "cpu")


def split(count: int, most: int) -> list[int]:
    """The sizes of the batches that so many items make."""
    return [min(most, count - start) for start in range(0, count, most)]
