"""One person from several photos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..errors import UserInputError
from .align import ARCFACE_112_V2, crop_face, similarity_matrix
from .engines import FaceEngine, no_progress
from .identity import Identity, cosine, unit
from .swap import SeveralFaces, photo_identity
from .types import Face, FloatArray

Combine = Literal["mean", "median"]
Outliers = Literal["keep", "leave out"]

# The side at which photos' faces are compared for detail: a small or blurred face has little of it there.
_DETAIL_SIDE = 256


@dataclass(frozen=True)
class PhotoReport:
    """What became of one photo.

    Attributes:
        used: whether it is part of the identity.
        similarity: cosine of its embedding to the others' combined one, -1..1; None for a single photo and where no
            recogniser ran.
        detail: sharpness of its face at a fixed size; the photo with the most is kept.
    """

    used: bool
    similarity: float | None
    detail: float


@dataclass(frozen=True)
class IdentityReport:
    """How an identity was made.

    Attributes:
        best: place of the photo that was kept, from 0.
        outliers: places of the photos below the limit, from 0, used or not.
        note: empty, or what could not be done.
    """

    photos: tuple[PhotoReport, ...]
    best: int
    outliers: tuple[int, ...]
    note: str = ""

    def to_json(self) -> dict[str, object]:
        """The report as plain values, photos counted from 1."""
        return {
            "best_photo": self.best + 1,
            "outliers": [index + 1 for index in self.outliers],
            "photos": [
                {
                    "used": item.used,
                    "similarity": None if item.similarity is None else round(item.similarity, 4),
                    "detail": round(item.detail, 5),
                }
                for item in self.photos
            ],
            "note": self.note,
        }


def build_identity(
    engine: FaceEngine,
    photos: Sequence[Tensor],
    *,
    combine: Combine = "mean",
    outliers: Outliers = "keep",
    lowest_similarity: float = 0.3,
    several: SeveralFaces = "error",
    on_progress: Callable[[], None] = no_progress,
) -> tuple[Identity, IdentityReport]:
    """The person that photos ``[H, W, C]`` of any sizes show, one face each.

    Embeddings are combined as unit vectors, so that no photo weighs more than another, and given the mean length of
    those that went in. The photo whose face has the most detail is kept for engines that need a picture. A photo is
    an outlier where the cosine of its embedding to the combined one of the others is below `lowest_similarity`.

    Raises:
        UserInputError: ``photo_no_face`` or ``photo_several_faces``, naming the photo; ``photos_disagree`` where
            outliers are to be left out and no two photos are alike.
    """
    found = []
    for number, photo in enumerate(photos, 1):
        on_progress()
        found.append(photo_identity(engine, photo[None], several, _field(number, len(photos))))
    details = [_detail(item) for item in found]
    vectors = [item.embedding for item in found if item.embedding is not None]
    if len(vectors) < len(found):
        return _of_one_photo(engine, found, details)
    used = list(range(len(found)))
    if outliers == "leave out":
        used = _agreeing(vectors, combine, lowest_similarity)
    alike = _similarities(vectors, used, combine)
    best = max(used, key=lambda index: details[index])
    reports = tuple(
        PhotoReport(index in used, value, detail)
        for index, (value, detail) in enumerate(zip(alike, details, strict=True))
    )
    below = tuple(i for i, value in enumerate(alike) if value is not None and value < lowest_similarity)
    combined = _combined([vectors[index] for index in used], combine)
    identity = replace(found[best], embedding=combined, photos=len(used))
    return identity, IdentityReport(reports, best, below)


def _field(number: int, count: int) -> str:
    return "photos" if count == 1 else f"photo {number} of {count}"


def _of_one_photo(
    engine: FaceEngine, found: Sequence[Identity], details: Sequence[float]
) -> tuple[Identity, IdentityReport]:
    """The best photo of an engine that makes no embeddings."""
    best = max(range(len(found)), key=lambda index: details[index])
    note = f"the {engine.name} engine works with one photo: {best + 1} was taken, the others were not compared with it"
    reports = tuple(PhotoReport(index == best, None, detail) for index, detail in enumerate(details))
    return found[best], IdentityReport(reports, best, (), note if len(found) > 1 else "")


def _combined(vectors: Sequence[FloatArray], combine: Combine) -> FloatArray:
    if len(vectors) == 1:
        return vectors[0]
    units = np.stack([unit(vector) for vector in vectors])
    middle: FloatArray = units.mean(axis=0) if combine == "mean" else np.median(units, axis=0)
    length = float(np.mean([np.linalg.norm(vector) for vector in vectors]))
    return (length * unit(middle)).astype(np.float32)


def _similarities(vectors: Sequence[FloatArray], used: Sequence[int], combine: Combine) -> list[float | None]:
    """Of every vector to the used ones but itself, which would flatter it."""
    result: list[float | None] = []
    for index, vector in enumerate(vectors):
        others = [vectors[other] for other in used if other != index]
        result.append(cosine(vector, _combined(others, combine)) if others else None)
    return result


def _agreeing(vectors: Sequence[FloatArray], combine: Combine, lowest: float) -> list[int]:
    """Leaves out the photo least like the others until all are alike: one stranger lowers everybody's similarity."""
    used = list(range(len(vectors)))
    while len(used) > 1:
        alike = _similarities(vectors, used, combine)
        similarity, worst = min((value, index) for index in used if (value := alike[index]) is not None)
        if similarity >= lowest:
            break
        if len(used) == 2:
            raise UserInputError(
                "photos_disagree",
                "photos",
                f"no two of the {len(vectors)} photos are alike by at least {lowest:g}",
                "Use photos of one person, or lower outlier_limit",
            )
        used.remove(worst)
    return used


def _detail(identity: Identity) -> float:
    """Spread of the Laplacian of the face at a fixed size, in units of the face's own contrast."""
    assert identity.photo is not None, "it was made from a photo"
    assert identity.face is not None, "it was made from a photo"
    grey = _aligned(identity.photo, identity.face).mean(-1)
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
    edges = functional.conv2d(grey[None, None], kernel[None, None])
    return float(edges.std() / grey.std().clamp(min=1e-3))


def _aligned(photo: Tensor, face: Face) -> Tensor:
    matrix = similarity_matrix(face.landmarks, ARCFACE_112_V2 * _DETAIL_SIDE)
    return crop_face(photo, matrix, (_DETAIL_SIDE, _DETAIL_SIDE))
