"""Faces of a picture by the cascade: several passes vote, overlapping windows are one face."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .cascade import find_windows
from .types import FloatArray

# The picture is searched at this longest side; the smallest face is 20 pixels of it.
LONGEST = 320
# Turned copies are searched only where the upright picture shows no face; the cascade itself bears some 15 degrees.
TURNS = (-20.0, 20.0, -36.0, 36.0)

# Windows this near in place (of their side) and size (of their ratio's logarithm) are the same face.
_PLACE = 0.20
_SIZE = 0.30
# Pyramid levels that a clear face is found at, in each of the two passes.
_LEVELS = 5.0
_MIN_SCORE = 0.45
# Turned copies are more pictures in which chance may find something.
_TURNED_PENALTY = 0.2


@dataclass(frozen=True)
class Candidate:
    """A face as the cascade sees it.

    x, y: centre in pixels. size: side of the square window. angle: degrees the picture was turned by when found,
    which is the tilt of the face, positive where the viewer's right eye is lower. score: 0..1.
    """

    x: float
    y: float
    size: float
    angle: float
    score: float


@dataclass(frozen=True)
class _Vote:
    x: float
    y: float
    size: float
    level: tuple[int, int]


def find_candidates(grey: FloatArray, min_score: float = _MIN_SCORE) -> list[Candidate]:
    """Faces of a grey picture ``[H, W]``, 0..1, largest first; turned ones only where no upright one is found."""
    height, width = grey.shape
    shrink = min(1.0, LONGEST / max(height, width))
    small = _resized(grey, shrink)
    for angles in ((0.0,), TURNS[:2], TURNS[2:]):
        least = min_score + (_TURNED_PENALTY if angles[0] else 0.0)
        found = [c for angle in angles for c in _search(small, angle, least)]
        if found:
            kept = _without_overlaps(found)
            scaled = [Candidate(c.x / shrink, c.y / shrink, c.size / shrink, c.angle, c.score) for c in kept]
            return sorted(scaled, key=lambda c: -c.size)
    return []


def _resized(grey: FloatArray, scale: float) -> FloatArray:
    if scale == 1.0:
        return grey
    height, width = grey.shape
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(np.ascontiguousarray(grey, dtype=np.float32))
    return np.asarray(picture.resize(size, Image.Resampling.BOX), dtype=np.float32)


def _search(grey: FloatArray, angle: float, min_score: float) -> list[Candidate]:
    """Faces of the picture turned back by `angle` degrees, in the picture's own pixels."""
    height, width = grey.shape
    if angle:
        picture = Image.fromarray(np.ascontiguousarray(grey, dtype=np.float32))
        fill = float(grey.mean())
        turned = picture.rotate(angle, Image.Resampling.BILINEAR, fillcolor=fill)
        grey = np.asarray(turned, dtype=np.float32)
    votes = []
    for mirrored in (False, True):
        view = np.ascontiguousarray(grey[:, ::-1]) if mirrored else grey
        for hit in find_windows(view, 0.0, float(max(height, width))):
            x = hit.x + hit.size / 2
            votes.append(
                _Vote(width - x if mirrored else x, hit.y + hit.size / 2, hit.size, (int(mirrored), hit.level))
            )
    candidates = []
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    for x, y, size, score in _grouped(votes):
        if score >= min_score:
            dx, dy = x - width / 2, y - height / 2
            candidates.append(
                Candidate(width / 2 + dx * cos - dy * sin, height / 2 + dx * sin + dy * cos, size, angle, score)
            )
    return candidates


def _grouped(votes: list[_Vote]) -> list[tuple[float, float, float, float]]:
    """Centre, size and score of every group of windows around a peak of their density, densest first."""
    if not votes:
        return []
    x = np.array([v.x for v in votes])
    y = np.array([v.y for v in votes])
    log_size = np.log([v.size for v in votes])
    size = np.exp(log_size)
    away = ((x[:, None] - x) / size) ** 2 + ((y[:, None] - y) / size) ** 2
    likeness = np.exp(-0.5 * (away / _PLACE**2 + ((log_size[:, None] - log_size) / _SIZE) ** 2))
    alive = np.ones(len(votes), dtype=bool)
    groups = []
    while alive.any():
        density = (likeness * alive).sum(axis=1) * alive
        peak = int(density.argmax())
        weight = likeness[peak] * alive
        members = np.flatnonzero(alive & (likeness[peak] > 0.1))
        total = weight.sum()
        cx, cy = float((x * weight).sum() / total), float((y * weight).sum() / total)
        side = float(np.exp((log_size * weight).sum() / total))
        levels = len({votes[i].level for i in members})
        groups.append((cx, cy, side, min(1.0, levels / (2 * _LEVELS))))
        inside = np.maximum(np.abs(x - cx), np.abs(y - cy)) < 0.5 * np.maximum(side, size)
        alive &= ~inside
        alive[peak] = False
    return groups


def _without_overlaps(candidates: list[Candidate]) -> list[Candidate]:
    """The best-scored of candidates that share a place."""
    kept: list[Candidate] = []
    for c in sorted(candidates, key=lambda c: (-c.score, -c.size)):
        if all(math.hypot(c.x - k.x, c.y - k.y) > 0.5 * max(c.size, k.size) for k in kept):
            kept.append(c)
    return kept
