"""Who goes on which face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .engines import Placement
from .identity import Identity
from .types import Face

Assignment = Literal["first", "order", "similarity"]


@dataclass(frozen=True, eq=False)
class Pair:
    """A face and who it may become.

    Attributes:
        placement: both of them.
        number: the face's place in its image, from 1.
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
        for place, face in enumerate(found):
            if assignment == "first":
                chosen = range(1)
            elif assignment == "order":
                chosen = range(place, min(place + 1, len(identities)))
            else:
                chosen = range(len(identities))
            result += [Pair(Placement(image, face, identities[who]), place + 1, who + 1) for who in chosen]
    return result


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
