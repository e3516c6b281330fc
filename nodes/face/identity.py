"""Who a face is: what is put in, and what faces are compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from .types import Face, FloatArray


@dataclass(frozen=True, eq=False)
class Identity:
    """A person, from one or several photos.

    Attributes:
        embedding: float32 ``[512]``, the recogniser's output before normalisation (mean or median over the photos);
            None where no recogniser ran.
        recogniser: file name of the network that made the embedding, else empty. Embeddings of different networks
            cannot be compared.
        photo: float32 ``[H, W, 3]``, RGB 0..1, the best photo; None where only the embedding is known.
        face: the face in `photo`.
        photos: how many photos it was made from.
        name: what its user calls the person; may be empty.
    """

    embedding: FloatArray | None = None
    recogniser: str = ""
    photo: Tensor | None = None
    face: Face | None = None
    photos: int = 1
    name: str = ""


def unit(vector: FloatArray) -> FloatArray:
    """The vector divided by its length."""
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def cosine(a: FloatArray, b: FloatArray) -> float:
    """How alike two embeddings are, -1..1."""
    return float(unit(a) @ unit(b))
