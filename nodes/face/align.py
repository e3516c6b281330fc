"""Alignment and pasting of faces: similarity transforms, crops and region-only blending, on any torch device.

Coordinates follow OpenCV's convention: a pixel's centre has integer coordinates, and a ``[2, 3]`` matrix maps
frame coordinates to crop coordinates. Everything stays float32 and nothing outside a face's region is written.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from .types import FloatArray

Matrix = npt.NDArray[np.float64]
# Rounding must not turn a reduction by 8 into one by 7.
_SLACK = 1e-6
# On a CPU patches are pasted in bands of so many pixels: the pieces of larger ones would leave the cache between two
# operations, those of smaller ones cost more in calls.
_BAND = 1 << 14
# Each band is sampled in two strips, side by side: torch gives no more of so few pixels a thread.
_STRIPS = 2
# Where no more is to be pasted, waking other threads takes longer than they save.
_FEW = 1 << 16
# Operations on fewer values stay in one thread.
_GRAIN = 1 << 15
# Fewer rows at once would cost more in calls.
_ROWS = 8

Border = Literal["zeros", "border"]

# Five-point templates as fractions of the crop: left eye, right eye, nose, left and right mouth corner.
# arcface_112_v2 is the published ArcFace template (deepinsight/insightface, python-package/insightface/utils/
# face_align.py) divided by 112; arcface_128 is the same shifted by 8 pixels in a crop of 128.
_ARCFACE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]],
    dtype=np.float64,
)
ARCFACE_112_V2: Matrix = _ARCFACE / 112.0
ARCFACE_128: Matrix = (_ARCFACE + np.array([8.0, 0.0])) / 128.0


@dataclass(frozen=True, eq=False)
class Patch:
    """A finished face, ready to be pasted.

    Attributes:
        pixels: float32 ``[h, w, 3]``, RGB 0..1.
        mask: float32 ``[h, w]``, 0..1; zero along the border.
        matrix: ``[2, 3]``, frame to crop.
    """

    pixels: Tensor
    mask: Tensor
    matrix: Matrix


@dataclass(frozen=True)
class Region:
    """A rectangle of whole pixels: columns x0 to x1 and rows y0 to y1, ends excluded."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def empty(self) -> bool:
        """True where nothing lies inside."""
        return self.x1 <= self.x0 or self.y1 <= self.y0


def similarity_matrix(points: FloatArray | Matrix, template: FloatArray | Matrix) -> Matrix:
    """Least-squares rotation, uniform scale and shift from `points` to `template`, both ``[n, 2]``.

    The plane as complex numbers: ``q = a p + b`` with ``a = <p, q> / <p, p>`` about the centroids. Equals Umeyama's
    solution (1991, eq. 40-42) wherever that has no reflection.

    Raises:
        ValueError: all points coincide.
    """
    # For so few points Python's own numbers are faster than arrays.
    p, q = ([complex(x, y) for x, y in some.tolist()] for some in (points, template))
    p_mean, q_mean = sum(p) / len(p), sum(q) / len(q)
    centred = [z - p_mean for z in p]
    spread = sum(z.real * z.real + z.imag * z.imag for z in centred)
    if spread < 1e-12:
        raise ValueError("landmarks coincide: no similarity transform is defined")
    a = sum(z.conjugate() * (w - q_mean) for z, w in zip(centred, q, strict=True)) / spread
    b = q_mean - a * p_mean
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def invert(matrix: Matrix) -> Matrix:
    """The ``[2, 3]`` matrix of the inverse map."""
    (a, b, c), (d, e, f) = matrix.tolist()
    det = a * e - b * d
    return np.array([[e / det, -b / det, (b * f - e * c) / det], [-d / det, a / det, (d * c - a * f) / det]])


def compose(outer: Matrix, inner: Matrix) -> Matrix:
    """The map that applies `inner`, then `outer`."""
    return np.concatenate([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2:] + outer[:, 2:]], axis=1)


def transform_points(points: FloatArray | Matrix, matrix: Matrix) -> FloatArray:
    """Points ``[n, 2]`` through a ``[2, 3]`` matrix."""
    moved = np.asarray(points, dtype=np.float64) @ matrix[:, :2].T + matrix[:, 2]
    return moved.astype(np.float32)


def scale_of(matrix: Matrix) -> float:
    """Crop pixels per frame pixel."""
    (a, b, _), (d, e, _) = matrix.tolist()
    return math.sqrt(abs(a * e - b * d))


def covered(matrix: Matrix, crop: tuple[int, int], height: int, width: int) -> Region:
    """The frame's pixels that a crop of (height, width) can touch, clipped to the frame."""
    return _reached(matrix, Region(0, 0, crop[1], crop[0]), height, width)


def _reached(matrix: Matrix, part: Region, height: int, width: int) -> Region:
    """The frame's pixels that part of a crop can touch, clipped to the frame."""
    corners = [(x, y) for x in (part.x0 - 1, part.x1) for y in (part.y0 - 1, part.y1)]
    (left, right), (top, bottom) = (
        (min(places), max(places))
        for places in ([a * x + b * y + c for x, y in corners] for a, b, c in invert(matrix).tolist())
    )
    x0, x1 = (min(max(place, 0), width) for place in (math.floor(left), math.ceil(right) + 1))
    y0, y1 = (min(max(place, 0), height) for place in (math.floor(top), math.ceil(bottom) + 1))
    return Region(x0, y0, x1, y1)


def _axes(to_planes: Sequence[Matrix], size: tuple[int, int], planes: Tensor) -> tuple[Tensor, Tensor]:
    """Where output pixels lie in ``[.., C, H, W]``, as ``grid_sample`` counts: column parts ``[n, 2, 1, w]`` and row
    parts ``[n, 2, h, 1]``, to be added.
    """
    height, width = planes.shape[-2:]
    # align_corners=False maps -1..1 to the outer pixel edges: u becomes (2 u + 1) / width - 1. That the parts are
    # rounded to float32 before they are added moves a sample of 8192 pixels by less than a thousandth of a pixel.
    scale = np.array([[2.0 / width], [2.0 / height]])
    maps = np.array(to_planes) * scale
    x = maps[:, :, :1] * np.arange(size[1], dtype=np.float64)
    y = maps[:, :, 1:2] * np.arange(size[0], dtype=np.float64) + (maps[:, :, 2:] + (scale / 2.0 - 1.0))
    columns, rows = (torch.from_numpy(part.astype(np.float32)).to(planes.device) for part in (x, y))
    return columns[:, :, None], rows[..., None]


def _sample(planes: Tensor, x: Tensor, y: Tensor, border: Border) -> Tensor:
    """Bilinear samples ``[n, C, h, w]`` of ``[n, C, H, W]`` at ``_axes``."""
    # Added plane by plane: on a CPU four times as fast as into pairs, and sampled no slower.
    grid = (x + y).permute(0, 2, 3, 1)
    return functional.grid_sample(planes, grid, mode="bilinear", padding_mode=border, align_corners=False)


def _shrunk(planes: Tensor, factor: int) -> tuple[Tensor, Matrix]:
    """``[C, H, W]`` box-filtered to 1/factor, and the matrix from its coordinates to the small picture's.

    The last row and column are repeated so that every side divides evenly.
    """
    height, width = planes.shape[1], planes.shape[2]
    batch = planes[None]
    pad_h, pad_w = -height % factor, -width % factor
    if pad_h or pad_w:
        batch = functional.pad(batch, (0, pad_w, 0, pad_h), mode="replicate")
    small = functional.avg_pool2d(batch, factor)[0]
    shift = (1.0 / factor - 1.0) / 2.0
    return small, np.array([[1.0 / factor, 0.0, shift], [0.0, 1.0 / factor, shift]])


def crop_faces(
    images: Tensor,
    index: Sequence[int],
    matrices: Sequence[Matrix],
    size: tuple[int, int],
    border: Border = "border",
    antialias: bool = True,
) -> Tensor:
    """Aligned crops ``[n, h, w, C]`` of images ``[B, H, W, C]``: crop i is cut from image ``index[i]``.

    With `antialias`, a reduction of two or more is box-filtered first; without it the result equals
    ``cv2.warpAffine`` with bilinear interpolation. Only what the crops cover is read, and of that a copy is made only
    of what is box-filtered. The crops' planes are contiguous, as networks take them.
    """
    planes = images.permute(0, 3, 1, 2)
    factors = [int(1.0 / scale_of(matrix) + _SLACK) if antialias else 1 for matrix in matrices]
    parts = []
    for run in _runs(index, factors):
        first = index[run[0]]
        if factors[run[0]] >= 2:
            source, moved = _reduced(planes[first], matrices[run[0]], size, factors[run[0]])
            parts.append(_sample(source[None], *_axes([invert(moved)], size, source), border))
            continue
        same = index[run[-1]] == first
        source = planes[first].expand(len(run), -1, -1, -1) if same else planes[first : first + len(run)]
        parts.append(_sample(source, *_axes([invert(matrices[item]) for item in run], size, source), border))
    crops = parts[0] if len(parts) == 1 else torch.cat([planes.new_empty(0, images.shape[-1], *size), *parts])
    return crops.permute(0, 2, 3, 1)


def crop_face(
    image: Tensor, matrix: Matrix, size: tuple[int, int], border: Border = "border", antialias: bool = True
) -> Tensor:
    """The aligned crop ``[h, w, C]`` of one image ``[H, W, C]``; see ``crop_faces``."""
    return crop_faces(image[None], [0], [matrix], size, border, antialias)[0]


def _runs(index: Sequence[int], factors: Sequence[int]) -> Iterator[range]:
    """Crops that one call can sample without copying images: all of one image, or one each of neighbouring images."""
    start = 0
    while start < len(index):
        end = start + 1
        if factors[start] < 2 and end < len(index):
            step = index[end] - index[start]
            while end < len(index) and factors[end] < 2 and step in (0, 1) and index[end] - index[end - 1] == step:
                end += 1
        yield range(start, end)
        start = end


def _reduced(planes: Tensor, matrix: Matrix, size: tuple[int, int], factor: int) -> tuple[Tensor, Matrix]:
    """What a crop covers of ``[C, H, W]``, box-filtered to 1/factor, and the matrix from there to the crop."""
    height, width = planes.shape[1], planes.shape[2]
    region = covered(matrix, size, height, width)
    # A crop wholly outside still needs the image's nearest pixels.
    x0, y0 = min(region.x0, width - 1), min(region.y0, height - 1)
    x1, y1 = max(region.x1, x0 + 1), max(region.y1, y0 + 1)
    small, shrink = _shrunk(planes[:, y0:y1, x0:x1], factor)
    moved = compose(matrix, np.array([[1.0, 0.0, x0], [0.0, 1.0, y0]]))
    return small, compose(moved, invert(shrink))


def paste(frame: Tensor, touched: Tensor, patch: Patch) -> None:
    """Blends a patch into ``frame [H, W, C]`` in place and raises ``touched [H, W]`` to what it covered.

    Only what the mask reaches is read and written, and a pixel whose mask is zero keeps its exact value. Where
    patches overlap, the later one lies on top.
    """
    layer, to_layer = _layer(patch)
    support = _support(layer[3])
    region = _reached(to_layer, support, *touched.shape)
    if support.empty or region.empty:
        return
    height, strips = _plan(region, frame.device)
    # To whole strips: beyond what it reaches the mask is zero.
    region = replace(region, y1=min(region.y1 + -(region.y1 - region.y0) % strips, touched.shape[0]))
    moved = compose(to_layer, np.array([[1.0, 0.0, region.x0], [0.0, 1.0, region.y0]]))
    x, y = _axes([moved], (region.y1 - region.y0, region.x1 - region.x0), layer)
    for band in _bands(to_layer, support, region, height):
        rows, columns, width = slice(band.y0, band.y1), slice(band.x0, band.x1), band.x1 - band.x0
        count = 1 if (band.y1 - band.y0) % strips else strips
        at_x = x[..., band.x0 - region.x0 : band.x1 - region.x0]
        at_y = y[0, :, band.y0 - region.y0 : band.y1 - region.y0].view(2, count, -1, 1).transpose(0, 1)
        # The mask is zero along the crop's border, so repeating the border leaves the outside untouched.
        sampled = _sample(layer.expand(count, -1, -1, -1), at_x, at_y, "border")
        target = frame[rows, columns, :3].view(count, -1, width, 3).permute(0, 3, 1, 2)
        reached = touched[rows, columns].view(count, -1, width)
        target.copy_(target.contiguous().lerp_(sampled[:, :3], sampled[:, 3:]))
        torch.maximum(reached, sampled[:, 3], out=reached)


def _layer(patch: Patch) -> tuple[Tensor, Matrix]:
    """A patch's colours and mask ``[4, h, w]`` at about the frame's scale, and the matrix from frame to layer."""
    layer = torch.stack([*patch.pixels.unbind(-1), patch.mask])
    factor = int(scale_of(patch.matrix) + _SLACK)
    if factor < 2:
        return layer, patch.matrix
    small, shrink = _shrunk(layer, factor)
    # Averaging has let some of the mask into the border, which must be zero.
    small = functional.pad(small[None], (1, 1, 1, 1), mode="replicate")[0]
    small[3, [0, -1]] = 0.0
    small[3, :, [0, -1]] = 0.0
    return small, compose(np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]), compose(shrink, patch.matrix))


def _support(mask: Tensor) -> Region:
    """The smallest rectangle of ``[h, w]`` that holds all that is not zero."""
    used = (torch.cat([mask.amax(dim=1), mask.amax(dim=0)]) > 0).tolist()
    rows, columns = used[: mask.shape[0]], used[mask.shape[0] :]
    if True not in rows:
        return Region(0, 0, 0, 0)
    x1, y1 = (len(line) - line[::-1].index(True) for line in (columns, rows))
    return Region(columns.index(True), rows.index(True), x1, y1)


def _plan(region: Region, device: torch.device) -> tuple[int, int]:
    """How many rows are pasted at once, and in how many strips; all at once on a GPU, where calls are few."""
    width, height = region.x1 - region.x0, region.y1 - region.y0
    if device.type != "cpu":
        return height, 1
    if width * height <= _FEW:
        return max(_ROWS, (_GRAIN - 1) // (3 * width)), 1
    return max(_ROWS, _BAND // width // _STRIPS * _STRIPS), _STRIPS


def _bands(matrix: Matrix, support: Region, region: Region, height: int) -> Iterator[Region]:
    """`region` in horizontal bands of so many rows, each as wide as `support` needs there."""
    lines = list(zip(matrix.tolist(), (support.x0 - 1, support.y0 - 1), (support.x1, support.y1), strict=True))
    for top in range(region.y0, region.y1, height):
        end = min(top + height, region.y1)
        low, high = region.x0, region.x1
        for (a, b, c), first, last in lines:
            if abs(a) < _SLACK:
                continue
            # first <= a x + b y + c <= last bounds x for each y, linearly, so a band's bounds are those of its ends.
            bounds = [(edge - b * y - c) / a for edge in (first, last) for y in (top, end - 1)]
            low, high = max(low, math.floor(min(bounds))), min(high, math.ceil(max(bounds)) + 1)
        if low < high:
            yield Region(low, top, high, end)
