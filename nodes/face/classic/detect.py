"""Faces of a picture: one cascade proposes places in a coarse search, two cascades vote on each place closely."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..types import FloatArray
from .cascade import WINDOW, find_windows, pyramid
from .vote import Candidate, grouped, vote

# The picture is searched at this longest side, upright and turned by these degrees; the cascade bears some 15 more.
LONGEST = 320
TURNS = (0.0, -22.0, 22.0)
# Searched only where those show no face.
FURTHER_TURNS = (-40.0, 40.0)
# Smaller faces are sought upright at this longest side. The smallest face is 20 of its pixels.
FINE = 640
_RATIO = 1.15
_STEP = 2

# The search sees logarithms of the grey values plus this: dark skin then has the contrast that light skin has.
_DARK = 0.05
# A picture with more proposals than this is mere texture; the densest are voted on.
_MOST = 24
# Evidence below this is chance; what lies between this and a face's is left to the eyes.
MIN_EVIDENCE = 0.25
# Below this a find beside a face may be a part of it, such as hair.
_WEAK = 0.5


def find_candidates(grey: FloatArray, min_evidence: float = MIN_EVIDENCE) -> list[Candidate]:
    """Faces of a grey picture ``[H, W]``, 0..1, largest first; tilts beyond 35 degrees only where no other is found."""
    longest = max(grey.shape)
    proposals = _search(grey, LONGEST, TURNS, math.inf)
    if longest > LONGEST:
        proposals += _search(grey, FINE, TURNS[:1], 2.0 * WINDOW)
    found = vote(grey, grouped(proposals, _MOST), min_evidence)
    if not found:
        found = vote(grey, grouped(_search(grey, LONGEST, FURTHER_TURNS, math.inf), _MOST), min_evidence)
    return sorted(_without_overlaps(found), key=lambda c: -c.size)


def _search(grey: FloatArray, longest: int, turns: Sequence[float], largest: float) -> list[Candidate]:
    """The windows that pass the first cascade, in pixels of the picture.

    longest: side to which the picture is reduced. largest: side of the largest window, pixels of the reduced picture.
    """
    height, width = grey.shape
    shrink = min(1.0, longest / max(height, width))
    columns, rows = max(1, round(width * shrink)), max(1, round(height * shrink))
    small = np.asarray(_picture(grey).resize((columns, rows), Image.Resampling.BOX))
    even = (np.log(np.clip(small, 0.0, 1.0) + _DARK) - math.log(_DARK)) / math.log(1.0 / _DARK + 1.0)
    picture, fill = _picture(even), float(even.mean())
    found = []
    for angle in turns:
        turned = picture.rotate(angle, Image.Resampling.BILINEAR, fillcolor=fill) if angle else picture
        levels = pyramid(np.asarray(turned), float(WINDOW), largest, _RATIO)
        hits = find_windows("frontalface_alt2", [level for _, level in levels], _STEP)
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        for level, column, row in hits.tolist():
            side = levels[level][0]
            dx, dy = ((place / WINDOW + 0.5) * side for place in (column, row))
            dx, dy = dx - columns / 2, dy - rows / 2
            x, y = columns / 2 + dx * cos - dy * sin, rows / 2 + dx * sin + dy * cos
            found.append(Candidate(x / shrink, y / shrink, side / shrink, angle, 1.0))
    return found


def _picture(grey: FloatArray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(grey, dtype=np.float32))


def _without_overlaps(candidates: list[Candidate]) -> list[Candidate]:
    """The likeliest of candidates that share a place; a weak one must stand clear of the others altogether."""
    kept: list[Candidate] = []
    for c in sorted(candidates, key=lambda c: (-c.evidence, -c.size)):
        weak = c.evidence < _WEAK
        if all(
            math.hypot(c.x - k.x, c.y - k.y) > 0.5 * (c.size + k.size if weak else max(c.size, k.size)) for k in kept
        ):
            kept.append(c)
    return kept
