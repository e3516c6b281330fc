"""Boosted cascades of Haar features, evaluated in numpy: windows of grey pictures that look like a frontal face.

The cascades are OpenCV's ``haarcascade_frontalface_alt2`` and ``haarcascade_frontalface_alt`` (Rainer Lienhart),
stored as arrays in ``data/`` with their licences. They were trained apart, so that what one takes for a face by
mistake the other seldom does. OpenCV 5 no longer evaluates such cascades and many ComfyUI installations have no
OpenCV 4, so the evaluation (Viola and Jones 2001; Lienhart, Kuranov and Pisarevsky 2003) is ours and the same
everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..types import FloatArray

Integers = npt.NDArray[np.integer[Any]]
Picture = npt.NDArray[np.uint8]
CascadeName = Literal["frontalface_alt2", "frontalface_alt"]

WINDOW = 20

# Above this many windows a stage is evaluated feature by feature.
_MANY = 2000

# Windows whose standard deviation is below this many of 255 grey levels are flat background.
_FLAT = 2.0


@dataclass(frozen=True, eq=False)
class _Stage:
    """One stage of trees with one or two nodes, each of up to three weighted rectangles.

    corners: x, y ``[trees, nodes, 3, 4, 2]`` of each rectangle's corners in the integral image.
    weights: ``[trees, nodes, 3]``. thresholds: ``[trees, nodes]``. leaves: ``[trees, nodes + 1]``.
    leaf_below: bool ``[trees]``, True where the first node ends in leaf 0 when its feature is below the threshold.
    """

    corners: Integers
    weights: FloatArray
    thresholds: FloatArray
    leaves: FloatArray
    leaf_below: npt.NDArray[np.bool_]
    threshold: float


@lru_cache(maxsize=2)
def _stages(name: CascadeName) -> tuple[_Stage, ...]:
    with np.load(Path(__file__).parent / "data" / f"{name}.npz", allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
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


def find_windows(name: CascadeName, pictures: Sequence[Picture], step: int) -> npt.NDArray[np.int64]:
    """The windows of `WINDOW` pixels that pass a cascade: picture, x and y of the corner, ``[windows, 3]``.

    step: pixels between neighbouring windows.
    """
    pictures = [p if min(p.shape) >= WINDOW else p[:0] for p in pictures]
    stack = _Stack(pictures)
    base, spread = stack.windows(step)
    for stage in _stages(name):
        if not len(base):
            break
        passed = _passes(stage, stack.integral, stack.stride, base, spread)
        base, spread = base[passed], spread[passed]
    return stack.places(base)


def pyramid(grey: FloatArray, smallest: float, largest: float, ratio: float) -> list[tuple[float, Picture]]:
    """The grey picture ``[H, W]``, 0..1, at the sizes at which faces of `smallest` to `largest` pixels fill a window.

    Each with the side, in pixels of the picture, of the square that one window then covers; each side is `ratio`
    times the one before.
    """
    height, width = grey.shape
    picture = Image.fromarray(np.ascontiguousarray(grey, dtype=np.float32))
    levels = []
    size = smallest
    while size <= min(largest, height, width):
        columns, rows = (max(WINDOW, round(side * WINDOW / size)) for side in (width, height))
        level = np.asarray(picture.resize((columns, rows), Image.Resampling.BILINEAR))
        levels.append((size, (level * 255.0).round().clip(0, 255).astype(np.uint8)))
        size *= ratio
    return levels


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
    # A stump's second leaf stands where a tree has its second node.
    other = np.where(below[:, 1], leaves[:, 1], leaves[:, 2]) if below.shape[1] == 2 else leaves[:, 1]
    votes = np.where(below[:, 0] == stage.leaf_below[:, None], leaves[:, 0], other)
    passed: npt.NDArray[np.bool_] = votes.sum(0) >= stage.threshold
    return passed


def _features_in_turn(stage: _Stage, offsets: Integers, integral: Integers, base: Integers) -> FloatArray:
    """Feature values ``[trees, nodes, windows]``, gathered corner by corner: many windows then read memory in order."""
    features = np.zeros((*offsets.shape[:2], len(base)), dtype=np.float32)
    for tree, node, rectangle in np.ndindex(*offsets.shape[:3]):
        weight = stage.weights[tree, node, rectangle]
        if weight != 0.0:
            a, b, c, d = (integral.take(base + offset) for offset in offsets[tree, node, rectangle])
            features[tree, node] += weight * (a - b - c + d)
    return features


class _Stack:
    """Pictures one below the other in one tall picture, so that one gather serves all."""

    def __init__(self, pictures: Sequence[Picture]) -> None:
        self.shapes = [picture.shape for picture in pictures]
        self.first_rows = np.cumsum([0] + [rows for rows, _ in self.shapes])
        wide = max((columns for _, columns in self.shapes), default=0)
        self.stride = wide + 1
        tall = np.zeros((int(self.first_rows[-1]), wide), dtype=np.uint8)
        for picture, first in zip(pictures, self.first_rows[:-1].tolist(), strict=True):
            tall[first : first + picture.shape[0], : picture.shape[1]] = picture
        # Flat integral images, one row and column larger. int32 may wrap on a large stack; differences of its
        # entries are right all the same.
        self.integral = self._table(tall, np.int32)
        self.squares = self._table(tall.astype(np.int64) ** 2, np.int64)

    def _table(self, values: Picture | npt.NDArray[np.int64], kind: type[np.int32] | type[np.int64]) -> Integers:
        table = np.zeros((values.shape[0] + 1, self.stride), dtype=kind)
        table[1:, 1:] = values.cumsum(0, dtype=kind).cumsum(1, dtype=kind)
        return table.reshape(-1)

    def windows(self, step: int) -> tuple[npt.NDArray[np.int64], FloatArray]:
        """Flat corner index of every window with some contrast, and its area times standard deviation."""
        bases = [np.zeros(0, dtype=np.int64)]
        for (rows, columns), first in zip(self.shapes, self.first_rows[:-1].tolist(), strict=True):
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
        variance = area * box(self.squares) - box(self.integral).astype(np.int64) ** 2
        contrasted = variance > (area * _FLAT) ** 2
        return base[contrasted], np.sqrt(variance[contrasted]).astype(np.float32)

    def places(self, base: Integers) -> npt.NDArray[np.int64]:
        """Picture, x and y of the windows with these flat indices, ``[windows, 3]``."""
        rows, columns = np.divmod(base, self.stride)
        picture = np.searchsorted(self.first_rows, rows, side="right") - 1
        return np.stack([picture, columns, rows - self.first_rows[picture]], axis=-1).astype(np.int64)
