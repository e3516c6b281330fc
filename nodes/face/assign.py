"""Who goes on which face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import UserInputError
from .engines import Placement
from .identity import Identity
from .notation import NONE, is_none, lists_per_image
from .types import Face, numbers_of

Assignment = Literal["first", "order", "similarity"]

ByHand = Mapping[int, int]
"""For one image: number of a face to the place of a person, from 0."""

_FIELD = "by_hand"


@dataclass(frozen=True, eq=False)
class Pair:
    """A face and who it may become.

    Attributes:
        placement: both of them.
        number: the face's number in its image, from 1.
        identity: the identity's place, from 1.
    """

    placement: Placement
    number: int
    identity: int


def pairs_of(faces: Sequence[Sequence[Face]], identities: Sequence[Identity], assignment: Assignment) -> list[Pair]:
    """The pairs that an assignment makes of each image's faces; for ``similarity`` all that are possible, of which
    ``most_alike`` chooses.
    """
    result = []
    for image, found in enumerate(faces):
        for place, (face, number) in enumerate(zip(found, numbers_of(found), strict=True)):
            if assignment == "first":
                chosen = range(1)
            elif assignment == "order":
                chosen = range(place, min(place + 1, len(identities)))
            else:
                chosen = range(len(identities))
            result += [Pair(Placement(image, face, identities[who]), number, who + 1) for who in chosen]
    return result


def pairs_by_hand(
    faces: Sequence[Sequence[Face]], identities: Sequence[Identity], by_hand: Sequence[ByHand]
) -> list[Pair]:
    """The pairs that are named for each image, in the order of its faces; a face that an image lacks is left out."""
    return [
        Pair(Placement(image, face, identities[named[number]]), number, named[number] + 1)
        for image, (found, named) in enumerate(zip(faces, by_hand, strict=True))
        for face, number in zip(found, numbers_of(found), strict=True)
        if number in named
    ]


def parse_by_hand(text: str, identities: Sequence[Identity], count: int) -> list[ByHand] | None:
    """Who goes on which face of each of `count` images; None for an empty text, which leaves it to the assignment.

    ``1:2, 3:Anna`` puts the second person on face 1 and Anna on face 3 of every image; with ``;`` between them there is
    a list for each image. Faces that are not named, and those of an image whose list is ``none``, stay as they are.

    Raises:
        UserInputError: ``by_hand``.
    """
    if not text.strip():
        return None
    return [_named(entries, identities) for entries in lists_per_image(text, count, _FIELD, _FIELD)]


def most_alike(pairs: Sequence[Pair], similarities: Sequence[float], lowest: float) -> list[int]:
    """Places of the pairs that join each image's faces and identities one to one with the largest sum of
    similarities, without those below `lowest`.

    `pairs` are all possible ones, as ``pairs_of`` lists them.
    """
    from scipy.optimize import linear_sum_assignment

    kept = []
    for image in dict.fromkeys(pair.placement.image for pair in pairs):
        places = np.array([place for place, pair in enumerate(pairs) if pair.placement.image == image])
        places = places.reshape(-1, max(pair.identity for pair in pairs))
        table = np.array(similarities)[places]
        chosen = zip(*linear_sum_assignment(table, maximize=True), strict=True)
        kept += [int(places[face, who]) for face, who in chosen if table[face, who] >= lowest]
    return kept


def _named(entries: list[str], identities: Sequence[Identity]) -> ByHand:
    if not entries:
        raise _error("an image has an empty list", f"Write {NONE} for an image whose faces stay")
    if is_none(entries):
        return {}
    named: dict[int, int] = {}
    for entry in entries:
        number, colon, person = (part.strip() for part in entry.partition(":"))
        if not (colon and person and number.isdecimal() and int(number) > 0):
            raise _error(f"{entry!r} is no face with a person", "Write pairs such as 1:2 or 1:Anna, counted from 1")
        if int(number) in named:
            raise _error(f"face {int(number)} is named twice", "Name every face of an image once")
        named[int(number)] = _place(person, identities)
    return named


def _place(person: str, identities: Sequence[Identity]) -> int:
    """Of a person, from 0, who is given by number or by name."""
    if person.isdecimal():
        if 1 <= int(person) <= len(identities):
            return int(person) - 1
        problem = f"there is no person {int(person)}"
    else:
        places = [place for place, known in enumerate(identities) if known.name.casefold() == person.casefold()]
        if len(places) == 1:
            return places[0]
        problem = f"{len(places)} people are called {person}" if places else f"nobody is called {person}"
    listed = ", ".join(f"{place} {known.name}".strip() for place, known in enumerate(identities, 1))
    raise _error(problem, f"These people are connected: {listed}")


def _error(problem: str, remedy: str) -> UserInputError:
    return UserInputError("by_hand", _FIELD, problem, remedy)
