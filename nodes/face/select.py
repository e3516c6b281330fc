"""Choosing faces: by number, place, size, score, sex, age or likeness to a person."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from torch import Tensor

from ..errors import UserInputError
from .identity import Identity, cosine
from .notation import is_none, lists_per_image
from .recogniser import space_of
from .types import Face, FaceSet, Sex, numbers_of

Order = Literal[
    "largest",
    "smallest",
    "left to right",
    "right to left",
    "top to bottom",
    "bottom to top",
    "nearest the centre",
    "best score",
    "youngest",
    "oldest",
    "most alike",
]
ORDERS: tuple[Order, ...] = get_args(Order)

_Ranges = list[tuple[int, int]]

_NUMBERS = re.compile(r"(\d{1,6})(?:\s*-\s*(\d{1,6}))?")


@dataclass(frozen=True, eq=False)
class SelectionRule:
    """Which faces of each image are meant, and in which order; a face must meet all of it.

    Attributes:
        numbers: such as ``1,3-4``: the faces' numbers in their image, as the overlay draws them; empty for all,
            ``none`` for none; with ``;`` between them a list for each image.
        sex: None for either.
        min_age, max_age: in years, both included.
        min_size: least width and height of the box in pixels.
        min_share: the same as a share of the image's shorter side, 0..1.
        min_score: of the detector, 0..1.
        people: whom a face must be like; empty for anybody.
        min_similarity: least cosine of a face's embedding to that of one of `people`, -1..1.
        order: which face comes first.
        at_most: faces kept in each image, the first ones of the order; 0 for all.
    """

    numbers: str = ""
    sex: Sex | None = None
    min_age: float = 0.0
    max_age: float = math.inf
    min_size: float = 0.0
    min_share: float = 0.0
    min_score: float = 0.0
    people: tuple[Identity, ...] = ()
    min_similarity: float = 0.4
    order: Order = "largest"
    at_most: int = 0


def select_faces(faces: FaceSet, rule: SelectionRule) -> FaceSet:
    """The faces that meet the rule, in its order and with the numbers they had; an image may be left with none.

    Raises:
        UserInputError: ``selection_rule`` for a rule that cannot be meant, ``attributes_missing`` and
            ``embedding_missing`` where the faces lack what it asks about, ``identity_incomplete`` where a person does.
    """
    _check(faces, rule)
    wanted = _parsed(rule.numbers, len(faces.faces))
    key = _keys(faces, rule)[rule.order]
    chosen = []
    for found, ranges in zip(faces.faces, wanted, strict=True):
        kept = [
            replace(face, number=number)
            for face, number in zip(found, numbers_of(found), strict=True)
            if _numbered(number, ranges) and _meets(face, faces, rule)
        ]
        kept.sort(key=key)
        chosen.append(tuple(kept[: rule.at_most or None]))
    return replace(faces, faces=tuple(chosen))


@dataclass(frozen=True)
class Standing:
    """How one face does under a rule.

    Attributes:
        fits: whether nothing but `numbers` keeps it from being chosen.
        person: place, from 0, of the one of the rule's people that it is most like; None where the rule has none.
        similarity: to that person, -1..1.
    """

    fits: bool
    person: int | None = None
    similarity: float | None = None


def standings(faces: FaceSet, chosen: FaceSet, rule: SelectionRule) -> list[list[Standing]]:
    """How every face does under the rule by which ``select_faces`` has chosen."""
    wanted = _parsed(rule.numbers, len(faces.faces))
    return [
        [
            _standing(face, faces, rule, left_out=_numbered(number, ranges) and number not in numbers_of(kept))
            for face, number in zip(found, numbers_of(found), strict=True)
        ]
        for found, kept, ranges in zip(faces.faces, chosen.faces, wanted, strict=True)
    ]


def check_faces(images: Tensor, faces: FaceSet) -> None:
    """Faces must be those of the images ``[B, H, W, C]`` they are used with.

    Raises:
        UserInputError: ``faces_mismatch``.
    """
    count, height, width = images.shape[:3]
    if (len(faces.faces), faces.height, faces.width) != (count, height, width):
        raise UserInputError(
            "faces_mismatch",
            "faces",
            f"they are of {len(faces.faces)} images of {faces.width}x{faces.height} pixels, the images are {count} of "
            f"{width}x{height}",
            "Connect faces and images from the same place",
        )


def _parsed(numbers: str, count: int) -> list[_Ranges | None]:
    """For each image first and last of every range; None for all faces."""
    lists = lists_per_image(numbers, count, "selection_rule", "numbers")
    return [(([] if is_none(entries) else _ranges(entries)) if entries else None) for entries in lists]


def _ranges(entries: list[str]) -> _Ranges:
    ranges = []
    for part in entries:
        match = _NUMBERS.fullmatch(part)
        if match is None:
            raise _bad_rule("numbers", f"{part!r} is no number of a face", "Write numbers and ranges, such as 1,3-4")
        first = int(match[1])
        last = int(match[2] or first)
        if not 1 <= first <= last:
            raise _bad_rule("numbers", f"there are no faces {part}", "Faces are counted from 1, ranges go upwards")
        ranges.append((first, last))
    return ranges


def _numbered(number: int, wanted: _Ranges | None) -> bool:
    return wanted is None or any(first <= number <= last for first, last in wanted)


def _standing(face: Face, faces: FaceSet, rule: SelectionRule, *, left_out: bool) -> Standing:
    fits = not left_out and _meets(face, faces, rule)
    if not rule.people:
        return Standing(fits)
    alike = _likenesses(face, rule.people)
    person = int(np.argmax(alike))
    return Standing(fits, person, alike[person])


def _meets(face: Face, faces: FaceSet, rule: SelectionRule) -> bool:
    # A detector may give a box whose sides are swapped.
    size = max(min(face.width, face.height), 0.0)
    if size < max(rule.min_size, rule.min_share * min(faces.height, faces.width)) or face.score < rule.min_score:
        return False
    if rule.sex is not None and face.sex != rule.sex:
        return False
    if _limits_age(rule) and not rule.min_age <= _age(face) <= rule.max_age:
        return False
    return not rule.people or _likeness(face, rule.people) >= rule.min_similarity


def _keys(faces: FaceSet, rule: SelectionRule) -> dict[Order, Callable[[Face], float]]:
    """What each order sorts by, ascending."""

    def off_centre(face: Face) -> float:
        x, y = _centre(face)
        return math.hypot(x - faces.width / 2, y - faces.height / 2)

    return {
        "largest": lambda face: -face.width * face.height,
        "smallest": lambda face: face.width * face.height,
        "left to right": lambda face: _centre(face)[0],
        "right to left": lambda face: -_centre(face)[0],
        "top to bottom": lambda face: _centre(face)[1],
        "bottom to top": lambda face: -_centre(face)[1],
        "nearest the centre": off_centre,
        "best score": lambda face: -face.score,
        "youngest": _age,
        "oldest": lambda face: -_age(face),
        "most alike": lambda face: -_likeness(face, rule.people),
    }


def _centre(face: Face) -> tuple[float, float]:
    x0, y0, x1, y1 = face.box
    return (x0 + x1) / 2, (y0 + y1) / 2


def _age(face: Face) -> float:
    assert face.age is not None, "checked in _check"
    return face.age


def _likeness(face: Face, people: tuple[Identity, ...]) -> float:
    """To the person that the face is most like."""
    return max(_likenesses(face, people))


def _likenesses(face: Face, people: tuple[Identity, ...]) -> list[float]:
    assert face.embedding is not None, "checked in _check"
    return [cosine(face.embedding, np.asarray(person.embedding)) for person in people]


def _limits_age(rule: SelectionRule) -> bool:
    return rule.min_age > 0 or rule.max_age < math.inf


def _check(faces: FaceSet, rule: SelectionRule) -> None:
    """What the rule asks about must be known of every face and person."""
    everyone = [face for found in faces.faces for face in found]
    if rule.min_age > rule.max_age:
        raise _bad_rule(
            "max_age", f"{rule.max_age:g} is below min_age, {rule.min_age:g}", "Raise max_age or lower min_age"
        )
    if rule.order == "most alike" and not rule.people:
        raise _bad_rule("order", "most alike needs somebody to be like", "Connect identity, or choose another order")
    if rule.sex is not None and any(face.sex is None for face in everyone):
        raise _no_attributes("sex")
    by_age = "order" if rule.order in ("youngest", "oldest") else "min_age" if rule.min_age > 0 else "max_age"
    if (_limits_age(rule) or by_age == "order") and any(face.age is None for face in everyone):
        raise _no_attributes(by_age)
    if rule.people and any(face.embedding is None for face in everyone):
        raise UserInputError(
            "embedding_missing",
            "faces",
            f"{faces.engine} has made no embeddings of these faces, which likeness is measured by",
            "Find the faces with the onnx engine; after Swap Face, find them again with Detect Faces",
        )
    for person in rule.people if everyone else ():
        if person.embedding is None or space_of(person.recogniser) != space_of(faces.recogniser):
            raise UserInputError(
                "identity_incomplete",
                "identity",
                f"it holds no embedding of {faces.recogniser}",
                "Make the identity with the engine that found the faces",
            )


def _bad_rule(field: str, problem: str, remedy: str) -> UserInputError:
    return UserInputError("selection_rule", field, problem, remedy)


def _no_attributes(field: str) -> UserInputError:
    return UserInputError(
        "attributes_missing",
        field,
        "nothing has read age and sex in these faces",
        "Switch attributes on in Load Face Engine and find the faces with its engine",
    )
