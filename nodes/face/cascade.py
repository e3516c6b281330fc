"""A boosted cascade of Haar features, evaluated in numpy: windows of a grey picture that look like a frontal face.

The cascade is OpenCV's ``haarcascade_frontalface_alt2`` (Rainer Lienhart), stored as arrays in ``data/`` with its
licence. OpenCV 5 no longer evaluates such cascades and many ComfyUI installations have no OpenCV 4, so the
evaluation (Viola and Jones 2001; Lienhart, Kuranov and Pisarevsky 2003) is ours and the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from .types import FloatArray

Integers = npt.NDArray[np.integer[npt.NBitBase]]

WINDOW = 20
STEP = 1.1

# Above this many windows a stage is evaluated feature by feature.
_MANY = 2000

# Windows whose standard deviation is below this many of 255 grey levels are flat background.
_FLAT = 2.0


@dataclass(frozen=True, eq=False)
class _Stage:
    """One stage: per tree two nodes of up to three weighted rectangles.

    corners: x, y ``[trees, 2, 3, 4, 2]`` of each rectangle's corners in the integral image.
    weights: ``[trees, 2, 3]``. thresholds: ``[trees, 2]``. leaves: ``[trees, 3]``.
    leaf_below: bool ``[trees]``, True where the first node ends in leaf 0 when its feature is below the threshold.
    """

    corners: Integers
    weights: FloatArray
    thresholds: FloatArray
    leaves: FloatArray
    leaf_below: npt.NDArray[np.bool_]
    threshold: float


@dataclass(frozen=True)
class Hit:
    """A window that passed every stage.

    x, y, size: the square window in pixels of the picture. level: which size of the pyramid it was found at.
    """

    x: float
    y: float
    size: float
    level: int


@lru_cache(maxsize=1)
def _stages() -> tuple[_Stage, ...]:
    with np.load(Path(__file__).parent / "data" / "frontalface_alt2.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    boxes = arrays["rectangles"].astype(np.int64)
    left, top = boxes[..., 0], boxes[..., 1]
    right, bottom = left + boxes[..., 2], top + boxes[..., 3]
    corners = np.stack(
        [np.stack(pair, -1) for pair in ((left, top), (right, top), (left, bottom), (right, bottom))], -2
    )
    stages = []
    start = 0
    for size, threshold in zip(arrays["stage_sizes"].tolist(), arrays["stage_thresholds"].tolist(), strict=True):
        part = slice(start, start + size)
        stages.append(
            _Stage(
                corners=corners[part],
                weights=arrays["weights"][part],
                thresholds=arrays["thresholds"][part],
                leaves=arrays["leaves"][part],
                leaf_below=arrays["children"][part, 0, 0] <= 0,
                threshold=threshold,
            )
        )
        start += size
    return tuple(stages)


def find_windows(grey: FloatArray, smallest: float, largest: float) -> list[Hit]:
    """All windows of a grey picture ``[H, W]``, 0..1, that pass the cascade.

    smallest, largest: bounds of the window's side in pixels.
    """
    canvas = _Canvas(grey, max(float(WINDOW), smallest), largest)
    if not canvas.levels:
        return []
    integral, squares = canvas.integrals()
    base, spread = canvas.windows(integral, squares)
    for stage in _stages():
        passed = _passes(stage, integral, canvas.stride, base, spread)
        base, spread = base[passed], spread[passed]
        if not len(base):
            return []
    return canvas.hits(base)


def _passes(
    stage: _Stage, integral: Integers, stride: int, base: Integers, spread: FloatArray
) -> npt.NDArray[np.bool_]:
    """Which windows, by the flat index of their corner, pass a stage. spread: their area times deviation."""
    offsets = stage.corners[..., 1] * stride + stage.corners[..., 0]
    if len(base) > _MANY:
        features = _features_in_turn(stage, offsets, integral, base)
    else:
        values = integral[base[:, None] + offsets.reshape(-1)].reshape(len(base), *offsets.shape)
        sums = values[..., 0] - values[..., 1] - values[..., 2] + values[..., 3]
        features = (sums * stage.weights).sum(-1).transpose(1, 2, 0)
    below = features < stage.thresholds[..., None] * spread
    leaves = stage.leaves[..., None]
    second = np.where(below[:, 1], leaves[:, 1], leaves[:, 2])
    votes = np.where(below[:, 0] == stage.leaf_below[:, None], leaves[:, 0], second)
    passed: npt.NDArray[np.bool_] = votes.sum(0) >= stage.threshold
    return passed


def _features_in_turn(stage: _Stage, offsets: Integers, integral: Integers, base: Integers) -> FloatArray:
    """Feature values ``[trees, 2, windows]``, gathered corner by corner: many windows then read memory in order."""
    features = np.zeros((*offsets.shape[:2], len(base)), dtype=np.float32)
    for tree, node, rectangle in np.ndindex(*offsets.shape[:3]):
        weight = stage.weights[tree, node, rectangle]
        if weight != 0.0:
            a, b, c, d = (integral.take(base + offset) for offset in offsets[tree, node, rectangle])
            features[tree, node] += weight * (a - b - c + d)
    return features


class _Canvas:
    """The picture at every size of the pyramid, stacked in one tall picture so that one gather serves all."""

    def __init__(self, grey: FloatArray, smallest: float, largest: float) -> None:
        height, width = grey.shape
        picture = Image.fromarray(np.ascontiguousarray(grey, dtype=np.float32))
        self.levels: list[tuple[int, float, int, int]] = []  # first row, window side in the picture, height, width
        pictures = []
        size, row = smallest, 0
        while size <= min(largest, height, width):
            shrink = WINDOW / size
            columns, rows = max(WINDOW, round(width * shrink)), max(WINDOW, round(height * shrink))
            level = np.asarray(picture.resize((columns, rows), Image.Resampling.BILINEAR))
            pictures.append((level * 255.0).round().clip(0, 255).astype(np.uint8))
            self.levels.append((row, size, rows, columns))
            row += rows
            size *= STEP
        wide = max((level[3] for level in self.levels), default=0)
        self.stride = wide + 1
        self.picture = np.zeros((row, wide), dtype=np.uint8)
        for level, (first, _, rows, columns) in zip(pictures, self.levels, strict=True):
            self.picture[first : first + rows, :columns] = level

    def integrals(self) -> tuple[Integers, Integers]:
        """Flat integral images of the values and of their squares, one row and column larger than the canvas."""
        tables = []
        for values, kind in ((self.picture, np.int32), (self.picture.astype(np.int64) ** 2, np.int64)):
            table = np.zeros((values.shape[0] + 1, self.stride), dtype=kind)
            # int32 may wrap on a large canvas; differences of its entries are right all the same.
            table[1:, 1:] = values.cumsum(0, dtype=kind).cumsum(1, dtype=kind)
            tables.append(table.reshape(-1))
        return tables[0], tables[1]

    def windows(self, integral: Integers, squares: Integers) -> tuple[Integers, FloatArray]:
        """Flat corner index of every window with some contrast, and its area times standard deviation."""
        bases = []
        for index, (first, _, rows, columns) in enumerate(self.levels):
            # As OpenCV: every other place while windows are small against the picture.
            step = 2 if STEP**index < 2.0 else 1
            y = np.arange(first, first + rows - WINDOW + 1, step)
            x = np.arange(0, columns - WINDOW + 1, step)
            bases.append((y[:, None] * self.stride + x).reshape(-1))
        base = np.concatenate(bases)
        # The window without its outermost pixels normalises the contrast, as in training.
        side = WINDOW - 2
        corner = base + self.stride + 1

        def box(table: Integers) -> Integers:
            below = corner + side * self.stride
            inside: Integers = table.take(below + side) - table.take(below) - table.take(corner + side)
            return inside + table.take(corner)

        area = side * side
        variance = area * box(squares) - box(integral).astype(np.int64) ** 2
        contrasted = variance > (area * _FLAT) ** 2
        return base[contrasted], np.sqrt(variance[contrasted]).astype(np.float32)

    def hits(self, base: Integers) -> list[Hit]:
        """The windows of these flat indices in pixels of the picture."""
        found = []
        first_rows = np.array([level[0] for level in self.levels])
        for index in base.tolist():
            row, column = divmod(index, self.stride)
            level = int(np.searchsorted(first_rows, row, side="right")) - 1
            first, size, _, _ = self.levels[level]
            scale = size / WINDOW
            found.append(Hit(column * scale, (row - first) * scale, size, level))
        return found
