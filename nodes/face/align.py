"""Alignment and pasting of faces: similarity transforms, crops and region-only blending, on any torch device.

Coordinates follow OpenCV's convention: a pixel's centre has integer coordinates, and a ``[2, 3]`` matrix maps
frame coordinates to crop coordinates. Everything stays float32 and nothing outside a face's region is written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
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
    p = np.asarray(points, dtype=np.float64)
    q = np.asarray(template, dtype=np.float64)
    zp = p[:, 0] + 1j * p[:, 1]
    zq = q[:, 0] + 1j * q[:, 1]
    centred = zp - zp.mean()
    spread = float(np.vdot(centred, centred).real)
    if spread < 1e-12:
        raise ValueError("landmarks coincide: no similarity transform is defined")
    a = complex(np.vdot(centred, zq - zq.mean())) / spread
    b = complex(zq.mean() - a * zp.mean())
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def invert(matrix: Matrix) -> Matrix:
    """The ``[2, 3]`` matrix of the inverse map."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.concatenate([linear, -linear @ matrix[:, 2:]], axis=1)


def compose(outer: Matrix, inner: Matrix) -> Matrix:
    """The map that applies `inner`, then `outer`."""
    return np.concatenate([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2:] + outer[:, 2:]], axis=1)


def transform_points(points: FloatArray | Matrix, matrix: Matrix) -> FloatArray:
    """Points ``[n, 2]`` through a ``[2, 3]`` matrix."""
    moved = np.asarray(points, dtype=np.float64) @ matrix[:, :2].T + matrix[:, 2]
    return moved.astype(np.float32)


def scale_of(matrix: Matrix) -> float:
    """Crop pixels per frame pixel."""
    return math.sqrt(abs(float(np.linalg.det(matrix[:, :2]))))


def covered(matrix: Matrix, crop: tuple[int, int], height: int, width: int) -> Region:
    """The frame's pixels that a crop of (height, width) can touch, clipped to the frame."""
    crop_h, crop_w = crop
    corners = np.array([[-1, -1], [crop_w, -1], [-1, crop_h], [crop_w, crop_h]], dtype=np.float64)
    frame = transform_points(corners, invert(matrix))
    low, high = np.floor(frame.min(axis=0)), np.ceil(frame.max(axis=0)) + 1
    x0, x1 = np.clip([low[0], high[0]], 0, width)
    y0, y1 = np.clip([low[1], high[1]], 0, height)
    return Region(int(x0), int(y0), int(x1), int(y1))


def _sample(image: Tensor, to_image: Matrix, size: tuple[int, int], border: Border) -> Tensor:
    """Bilinear samples of ``[H, W, C]`` at the image positions that `to_image` gives each output pixel."""
    height, width = image.shape[0], image.shape[1]
    rows, columns = size
    # affine_grid's x is 2 j / (columns - 1) - 1; written out, one-pixel sides need no special case.
    x = torch.arange(columns, dtype=torch.float64, device=image.device)
    y = torch.arange(rows, dtype=torch.float64, device=image.device)[:, None]
    m = to_image
    u = m[0, 0] * x + m[0, 1] * y + m[0, 2]
    v = m[1, 0] * x + m[1, 1] * y + m[1, 2]
    # align_corners=False maps -1..1 to the outer pixel edges: (u + 0.5) / width.
    grid = torch.stack([(2.0 * u + 1.0) / width - 1.0, (2.0 * v + 1.0) / height - 1.0], dim=-1)
    sampled = functional.grid_sample(
        image.permute(2, 0, 1)[None],
        grid[None].to(image.dtype),
        mode="bilinear",
        padding_mode=border,
        align_corners=False,
    )
    return sampled[0].permute(1, 2, 0)


def _shrunk(image: Tensor, factor: int) -> tuple[Tensor, Matrix]:
    """Box-filtered to 1/factor, and the matrix from the image's to the small image's coordinates.

    The last row and column are repeated so that every side divides evenly.
    """
    height, width = image.shape[0], image.shape[1]
    planes = image.permute(2, 0, 1)[None]
    pad_h, pad_w = -height % factor, -width % factor
    if pad_h or pad_w:
        planes = functional.pad(planes, (0, pad_w, 0, pad_h), mode="replicate")
    small = functional.avg_pool2d(planes, factor)[0].permute(1, 2, 0)
    shift = (1.0 / factor - 1.0) / 2.0
    return small, np.array([[1.0 / factor, 0.0, shift], [0.0, 1.0 / factor, shift]])


def crop_face(
    image: Tensor, matrix: Matrix, size: tuple[int, int], border: Border = "border", antialias: bool = True
) -> Tensor:
    """The aligned crop ``[h, w, C]`` of a frame ``[H, W, C]``.

    Reads only the part of the frame that the crop covers. With `antialias`, a reduction of two or more is
    box-filtered first; without it the result equals ``cv2.warpAffine`` with bilinear interpolation.
    """
    height, width, channels = image.shape
    region = covered(matrix, size, height, width)
    if region.empty:
        if border == "zeros":
            return image.new_zeros(*size, channels)
        region = Region(0, 0, width, height)
    part = image[region.y0 : region.y1, region.x0 : region.x1]
    moved = compose(matrix, np.array([[1.0, 0.0, region.x0], [0.0, 1.0, region.y0]]))
    factor = int(1.0 / scale_of(matrix) + _SLACK) if antialias else 1
    if factor >= 2:
        part, shrink = _shrunk(part, factor)
        moved = compose(moved, invert(shrink))
    return _sample(part, invert(moved), size, border)


def paste(frame: Tensor, touched: Tensor, patch: Patch) -> None:
    """Blends a patch into ``frame [H, W, C]`` in place and raises ``touched [H, W]`` to what it covered.

    Only the patch's region is read and written, and a pixel whose mask is zero keeps its exact value.
    """
    height, width = frame.shape[0], frame.shape[1]
    rows, columns = patch.mask.shape
    region = covered(patch.matrix, (rows, columns), height, width)
    if region.empty:
        return
    layer = torch.cat([patch.pixels, patch.mask[..., None]], dim=-1)
    to_crop = patch.matrix
    factor = int(scale_of(patch.matrix) + _SLACK)
    if factor >= 2:
        layer, shrink = _shrunk(layer, factor)
        to_crop = compose(shrink, to_crop)
        # Averaging has let some of the mask into the border again.
        layer[[0, -1], :, 3] = 0.0
        layer[:, [0, -1], 3] = 0.0
    to_crop = compose(to_crop, np.array([[1.0, 0.0, region.x0], [0.0, 1.0, region.y0]]))
    size = (region.y1 - region.y0, region.x1 - region.x0)
    # The mask is zero along the crop's border, so repeating the border leaves the outside untouched.
    warped = _sample(layer, to_crop, size, "border")
    colour, mask = warped[..., :3], warped[..., 3]
    rows_, columns_ = slice(region.y0, region.y1), slice(region.x0, region.x1)
    target = frame[rows_, columns_, :3]
    target += mask[..., None] * (colour - target)
    torch.maximum(touched[rows_, columns_], mask, out=touched[rows_, columns_])
