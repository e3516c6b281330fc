"""The close look at places that may show a face: windows of several sizes and turns, seen by two cascades."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from ..align import Matrix, crop_face, invert, transform_points
from ..types import FloatArray
from .cascade import WINDOW, CascadeName, Picture, find_windows

_CASCADES: tuple[CascadeName, ...] = ("frontalface_alt2", "frontalface_alt")

# Windows this near in place (of their side) and size (of their ratio's logarithm) are the same face.
_PLACE = 0.20
_SIZE = 0.30

# Windows are tried at these sizes relative to the proposed, and at these turns from it, degrees.
_SIZES = (0.75, 0.85, 0.95, 1.05, 1.17, 1.31)
_TURNS = (-10.0, 0.0, 10.0)
# Every turn and size is seen mirrored as well.
_VIEWS = len(_TURNS) * len(_SIZES) * 2
# A place where the first cascade finds less than this share of the views to be faces is none.
_LEAST_SHARE = 0.08
# The crop in which they are tried: the proposed window's side in it, and its own side, pixels.
_WINDOW_SIDE = 28
_CROP_SIDE = 50
# Brightness is clipped at this many times the face's own, whatever its tone: a bright background then leaves the
# face its share of the contrast.
_BRIGHTEST = 1.7
_QUANTUM = 1.0 / 255.0

# A face that fills a larger share of the picture is likelier: chance has fewer large windows to try.
_USUAL_SHARE = 0.1
_PER_DOUBLING = 0.05
_SIZE_BONUS = (-0.05, 0.1)


@dataclass(frozen=True)
class Candidate:
    """A place that may show a face.

    x, y: centre in pixels. size: side of the square window. angle: tilt of the face in degrees, positive where the
    viewer's right eye is lower. evidence: of a proposal, the number of its windows; after the vote, the share of the
    windows that are faces to both cascades, corrected for the size: below 0.25 chance, above 0.7 a face.
    """

    x: float
    y: float
    size: float
    angle: float
    evidence: float


def grouped(windows: list[Candidate], most: int) -> list[Candidate]:
    """Groups of windows around the peaks of their density, densest first, with their weighted means."""
    if not windows:
        return []
    x, y, log_size, angle, weight = np.array(
        [(w.x, w.y, math.log(w.size), w.angle, w.evidence) for w in windows], dtype=np.float64
    ).T
    size = np.exp(log_size)
    away = ((x[:, None] - x) / size) ** 2 + ((y[:, None] - y) / size) ** 2
    likeness = np.exp(-0.5 * (away / _PLACE**2 + ((log_size[:, None] - log_size) / _SIZE) ** 2)) * weight
    alive = np.ones(len(windows), dtype=bool)
    groups: list[Candidate] = []
    while alive.any() and len(groups) < most:
        density = (likeness * alive).sum(axis=1) * alive
        peak = int(density.argmax())
        share = likeness[peak] * alive
        share /= share.sum()
        cx, cy, side = float(x @ share), float(y @ share), math.exp(float(log_size @ share))
        groups.append(Candidate(cx, cy, side, float(angle @ share), float(density[peak])))
        inside = np.maximum(np.abs(x - cx), np.abs(y - cy)) < 0.5 * np.maximum(side, size)
        alive &= ~inside
        alive[peak] = False
    return groups


def vote(grey: FloatArray, proposals: list[Candidate], least: float) -> list[Candidate]:
    """The proposals with at least this evidence, at the place and with the tilt that the windows agree on."""
    shown = [_views(grey, proposal) for proposal in proposals]
    first = _passed("frontalface_alt2", shown)
    # The second cascade sees only what the first has not ruled out.
    kept = [i for i, hits in enumerate(first) if _share(hits) >= _LEAST_SHARE]
    second = _passed("frontalface_alt", [shown[i] for i in kept])
    result = []
    for i, others in zip(kept, second, strict=True):
        if not others:
            continue
        agreed = grouped([window for _, window in first[i] + others], 1)[0]
        shares = [_share([hit for hit in hits if _same(hit[1], agreed)]) for hits in (first[i], others)]
        doublings = math.log2(agreed.size / max(grey.shape) / _USUAL_SHARE)
        bonus = min(max(_PER_DOUBLING * doublings, _SIZE_BONUS[0]), _SIZE_BONUS[1])
        evidence = math.sqrt(shares[0] * shares[1]) + bonus
        if evidence >= least:
            result.append(Candidate(agreed.x, agreed.y, agreed.size, agreed.angle, evidence))
    return result


@dataclass(frozen=True, eq=False)
class _View:
    """A crop around a proposal at one size.

    matrix: frame to crop. shrink: crop pixels per pixel of `picture`. size: frame pixels per crop pixel.
    """

    picture: Picture
    matrix: Matrix
    shrink: float
    size: float
    angle: float
    mirrored: bool

    def window(self, column: int, row: int) -> Candidate:
        """A window of the picture as a place in the frame."""
        x, y = (self.shrink * (place + WINDOW / 2) - 0.5 for place in (column, row))
        if self.mirrored:
            x = _CROP_SIDE - 1 - x
        place = transform_points(np.array([[x, y]]), invert(self.matrix))[0]
        return Candidate(float(place[0]), float(place[1]), WINDOW * self.shrink * self.size, self.angle, 1.0)


def _passed(name: CascadeName, shown: list[list[_View]]) -> list[list[tuple[int, Candidate]]]:
    """Per proposal the windows that pass a cascade, each with the number of its view."""
    hits = find_windows(name, [view.picture for views in shown for view in views], 1)
    result: list[list[tuple[int, Candidate]]] = [[] for _ in shown]
    for index, column, row in hits.tolist():
        proposal, view = divmod(index, _VIEWS)
        result[proposal].append((view, shown[proposal][view].window(column, row)))
    return result


def _share(hits: list[tuple[int, Candidate]]) -> float:
    """The share of a proposal's views that have a window among these."""
    return len({view for view, _ in hits}) / _VIEWS


def _same(a: Candidate, b: Candidate) -> bool:
    return math.hypot(a.x - b.x, a.y - b.y) < 0.3 * b.size and abs(math.log(a.size / b.size)) < 0.4


def _views(grey: FloatArray, proposal: Candidate) -> list[_View]:
    """Pictures in which a face fills one window, for every turn, size and mirroring."""
    image = torch.from_numpy(np.ascontiguousarray(grey, dtype=np.float32))[..., None]
    scale = _WINDOW_SIDE / proposal.size
    views = []
    for turn in _TURNS:
        angle = proposal.angle + turn
        cos, sin = scale * math.cos(math.radians(angle)), scale * math.sin(math.radians(angle))
        linear = np.array([[cos, sin], [-sin, cos]])
        shift = (_CROP_SIDE - 1) / 2 - linear @ np.array([proposal.x, proposal.y])
        matrix = np.concatenate([linear, shift[:, None]], axis=1)
        crop = Image.fromarray(_toned(crop_face(image, matrix, (_CROP_SIDE, _CROP_SIDE))[..., 0].numpy()))
        for size in _SIZES:
            side = round(_CROP_SIDE * WINDOW / (size * _WINDOW_SIDE))
            level = np.asarray(crop.resize((side, side), Image.Resampling.BILINEAR))
            picture = (level * 255.0).round().clip(0, 255).astype(np.uint8)
            for mirrored in (False, True):
                seen = np.ascontiguousarray(picture[:, ::-1]) if mirrored else picture
                views.append(_View(seen, matrix, _CROP_SIDE / side, 1.0 / scale, angle, mirrored))
    return views


def _toned(crop: FloatArray) -> FloatArray:
    """Brightness relative to that of the middle, clipped, 0..1."""
    quarter = _CROP_SIDE // 4
    usual = float(np.median(crop[quarter:-quarter, quarter:-quarter])) + _QUANTUM
    toned: npt.NDArray[np.float32] = (np.minimum(crop / usual, _BRIGHTEST) / _BRIGHTEST).astype(np.float32)
    return toned
