"""The values that cross rooms: one face, and the faces of a batch of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

Sex = Literal["female", "male"]


@dataclass(frozen=True, eq=False)
class Face:
    """One face in one image.

    Attributes:
        box: x0, y0, x1, y1 in pixels of its image.
        score: the detector's confidence, 0..1.
        landmarks: float32 ``[5, 2]``, xy in pixels: left eye, right eye, nose tip, left and right mouth corner,
            where left and right are the viewer's.
        embedding: float32 ``[512]``, the recogniser's output before normalisation; None where no recogniser ran.
        sex, age: what the attribute model reads in the face, age in years; None where none ran.
        contour: float32 ``[106, 2]``, xy in pixels, insightface's 106 points; None where no such model ran.
        number: its place, from 1, among all faces of its image, which it keeps when it is chosen from them; None where
            nobody has chosen yet.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: FloatArray
    embedding: FloatArray | None = None
    sex: Sex | None = None
    age: float | None = None
    contour: FloatArray | None = None
    number: int | None = None

    @property
    def width(self) -> float:
        """Box width in pixels."""
        return self.box[2] - self.box[0]

    @property
    def height(self) -> float:
        """Box height in pixels."""
        return self.box[3] - self.box[1]


@dataclass(frozen=True, eq=False)
class FaceSet:
    """The faces of a batch of images: largest first within each image, unless somebody chose another order.

    Attributes:
        faces: one tuple per image of the batch; empty where no face was found.
        height: image height in pixels.
        width: image width in pixels.
        engine: what found them, e.g. ``classic`` or ``onnx (CUDAExecutionProvider)``.
        recogniser: file name of the network that made the embeddings; empty where none ran.
    """

    faces: tuple[tuple[Face, ...], ...]
    height: int
    width: int
    engine: str
    recogniser: str = ""


def numbers_of(found: Sequence[Face]) -> list[int]:
    """The numbers of an image's faces, as *Detect Faces* draws them."""
    return [place if face.number is None else face.number for place, face in enumerate(found, 1)]
