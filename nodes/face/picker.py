"""What the web page's face picker shows: faces, and who may go on them, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional

from .identity import Identity
from .select import Standing
from .swap_report import ImageReport
from .types import Face, FaceSet, numbers_of

PORTRAIT = 64
"""Side of a person's picture in pixels."""

View = dict[str, Any]
"""An image's ``width``, ``height`` and ``faces``; each has at least ``number``, ``box``, ``score``, ``sex`` and
``age``."""


def selection_view(
    faces: FaceSet, chosen: FaceSet, standings: Sequence[Sequence[Standing]], people: Sequence[Identity]
) -> list[View]:
    """Of each image all faces, with what the rule makes of them: ``kept``, ``fits``, ``similarity`` and ``person``, the
    name of whom a face is most like.
    """
    views = []
    for found, kept, own in zip(faces.faces, chosen.faces, standings, strict=True):
        numbers = numbers_of(kept)
        shown = [
            {
                **_face(face, number),
                "kept": number in numbers,
                "fits": standing.fits,
                "similarity": _rounded(standing.similarity),
                "person": "" if standing.person is None else people[standing.person].name,
            }
            for face, number, standing in zip(found, numbers_of(found), own, strict=True)
        ]
        views.append(_view(faces, shown))
    return views


def swap_view(faces: FaceSet, reports: Sequence[ImageReport]) -> list[View]:
    """Of each image all faces, with what the swap made of them: ``person``, from 1, and ``similarity`` to that person,
    both None for faces that stayed.
    """
    views = []
    for found, report in zip(faces.faces, reports, strict=True):
        swapped = dict(zip(report.numbers, zip(report.identities, report.similarity, strict=True), strict=True))
        shown = []
        for face, number in zip(found, numbers_of(found), strict=True):
            person, similarity = swapped.get(number, (None, None))
            shown.append({**_face(face, number), "person": person, "similarity": _rounded(similarity)})
        views.append(_view(faces, shown))
    return views


def portrait(identity: Identity) -> Tensor | None:
    """The person's face as a small square ``[PORTRAIT, PORTRAIT, 3]``; None where no photo is known."""
    if identity.photo is None or identity.face is None:
        return None
    x0, y0, x1, y1 = _square(identity.face, *identity.photo.shape[:2])
    part = identity.photo[y0:y1, x0:x1, :3].movedim(-1, 0)[None].float()
    small = functional.interpolate(part, (PORTRAIT, PORTRAIT), mode="bilinear", antialias=True)
    return small[0].movedim(0, -1).clamp(0, 1)


def _square(face: Face, height: int, width: int) -> tuple[int, int, int, int]:
    """Around the face, x0, y0, x1, y1, inside a picture of this size."""
    side = max(1, min(round(1.3 * max(abs(face.width), abs(face.height))), height, width))
    corners = []
    for low, high, length in ((face.box[0], face.box[2], width), (face.box[1], face.box[3], height)):
        corners.append(min(max(round((low + high - side) / 2), 0), length - side))
    x, y = corners
    return x, y, x + side, y + side


def _view(faces: FaceSet, shown: list[dict[str, Any]]) -> View:
    return {"width": faces.width, "height": faces.height, "faces": shown}


def _face(face: Face, number: int) -> dict[str, Any]:
    # A detector may give a box whose sides are swapped.
    (x0, x1), (y0, y1) = sorted(face.box[::2]), sorted(face.box[1::2])
    return {
        "number": number,
        "box": [round(float(value), 1) for value in (x0, y0, x1, y1)],
        "score": _rounded(face.score),
        "sex": face.sex,
        "age": None if face.age is None else round(float(face.age)),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)
