"""Where to look for skin: sampling points of the zones of a face, in a frame fixed by its landmarks.

The face frame has its origin between the eyes. Its x axis runs along the eyes with one eye distance as its unit,
its y axis runs to the middle of the mouth with that distance as its unit. So the eyes are at (-0.5, 0) and (0.5, 0),
the mouth at (0, 1), the chin near (0, 1.7) and the hairline near (0, -0.8), whatever the head's size and tilt.
Zones are fixed lattices of points in that frame: measuring a face costs the same at every resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch

from ..face.types import Face

# Ellipses as centre x, centre y, radius x, radius y in the face frame.
_FACE = (0.0, 0.42, 0.92, 1.14)
# Eyes, nose and mouth without what hair may hang over.
_INNER = (0.0, 0.45, 0.80, 0.86)
_EYES = ((-0.5, 0.0, 0.36, 0.20), (0.5, 0.0, 0.36, 0.20))
_BROWS = ((-0.5, -0.30, 0.44, 0.16), (0.5, -0.30, 0.44, 0.16))
_NOSTRILS = (0.0, 0.64, 0.28, 0.12)
_MOUTH = (0.0, 1.02, 0.56, 0.26)
_LIPS = (0.0, 1.02, 0.30, 0.14)
_NECK = (0.0, 2.10, 0.42, 0.28)
_EYEBALLS = ((-0.5, 0.0, 0.30, 0.15), (0.5, 0.0, 0.30, 0.15))

# A profile brings the eyes together on the picture; the face is then still about this wide, in eye-mouth distances.
_LEAST_WIDTH = 0.75
_LEAST_FRACTION_OF_BOX = 0.1


@dataclass(frozen=True)
class Zones:
    """Points in the face frame, float32 ``[P, 2]`` each."""

    skin: torch.Tensor
    eyes: torch.Tensor
    lips: torch.Tensor
    neck: torch.Tensor


@cache
def zones() -> Zones:
    """The zones: face skin without eyes, brows, nostrils and mouth; the eyes; the lips; the neck below the chin."""
    lattice = _lattice(-1.0, 1.0, -0.8, 1.7, step=0.045)
    skin = _inside(lattice, _FACE)
    for hole in (*_EYES, *_BROWS, _NOSTRILS, _MOUTH):
        skin &= ~_inside(lattice, hole)
    eyes = _lattice(-0.8, 0.8, -0.15, 0.15, step=0.025)
    lips = _lattice(-0.3, 0.3, 0.88, 1.16, step=0.03)
    neck = _lattice(-0.5, 0.5, 1.8, 2.4, step=0.05)
    return Zones(
        skin=lattice[skin],
        eyes=eyes[_inside(eyes, _EYEBALLS[0]) | _inside(eyes, _EYEBALLS[1])],
        lips=lips[_inside(lips, _LIPS)],
        neck=neck[_inside(neck, _NECK)],
    )


@cache
def outlines() -> tuple[torch.Tensor, ...]:
    """Closed curves around the zones, for pictures: float32 ``[49, 2]`` each in the face frame."""
    angle = torch.linspace(0.0, 2.0 * torch.pi, 49)
    circle = torch.stack((angle.cos(), angle.sin()), dim=-1)
    return tuple(
        circle * torch.tensor([rx, ry]) + torch.tensor([cx, cy]) for cx, cy, rx, ry in (_FACE, *_EYES, _MOUTH, _NECK)
    )


@cache
def detail_lattice(size: int) -> torch.Tensor:
    """A square lattice over the inner face for measures of detail, float32 ``[size * size, 2]``, row by row."""
    x = torch.linspace(-0.95, 0.95, size)
    y = torch.linspace(-0.55, 1.35, size)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)


@dataclass(frozen=True)
class Frames:
    """The face frames of F faces.

    origin: float32 ``[F, 2]`` in pixels. axes: float32 ``[F, 2, 2]``, rows are the x and y axes in pixels.
    """

    origin: torch.Tensor
    axes: torch.Tensor

    def to_pixels(self, points: torch.Tensor) -> torch.Tensor:
        """Points ``[P, 2]`` of the face frame in pixels of each face's image, ``[F, P, 2]``."""
        return self.origin[:, None] + points.to(self.origin) @ self.axes


def face_frames(faces: Sequence[Face]) -> Frames:
    """The frames of some faces; one whose landmarks cannot be true (crossed, coincident, NaN) is framed by its box."""
    origins, axes = zip(*(_face_frame(face) for face in faces), strict=True)
    return Frames(torch.stack(origins), torch.stack(axes))


def _face_frame(face: Face) -> tuple[torch.Tensor, torch.Tensor]:
    left, right, _, mouth_left, mouth_right = torch.from_numpy(face.landmarks).float()
    middle, mouth = (left + right) / 2, (mouth_left + mouth_right) / 2
    along, down = right - left, mouth - middle
    width, height = along.norm(), down.norm()
    turn = along[0] * down[1] - along[1] * down[0]
    # NaN compares false, so it takes the box as well.
    plausible = (
        width > _LEAST_FRACTION_OF_BOX * face.width
        and height > _LEAST_FRACTION_OF_BOX * face.height
        and turn > 0.3 * width * height
    )
    if not plausible:
        x0, y0, _, _ = face.box
        unit = 0.42 * min(face.width, face.height)
        return torch.tensor([x0 + face.width / 2, y0 + 0.40 * face.height]), torch.eye(2) * unit
    return middle, torch.stack((along / width * torch.maximum(width, _LEAST_WIDTH * height), down))


def face_mask(
    faces: Sequence[Face], height: int, width: int, softness: float = 0.0, *, inner: bool = False
) -> torch.Tensor:
    """The ovals of some faces of one image, ``[H, W]``: 1 inside, 0 outside.

    Args:
        faces: may be none.
        height, width: of the image in pixels.
        softness: share of the oval's radius over which its edge fades.
        inner: only eyes, nose and mouth and what lies between, without the forehead and the sides.
    """
    mask = torch.zeros(height, width)
    if not faces:
        return mask
    frames = face_frames(faces)
    cx, cy, rx, ry = _INNER if inner else _FACE
    for origin, axes in zip(frames.origin, frames.axes, strict=True):
        corners = torch.tensor([[cx + i * rx, cy + j * ry] for i in (-1.5, 1.5) for j in (-1.5, 1.5)]) @ axes + origin
        (x0, y0), (x1, y1) = corners.amin(0).floor().int().tolist(), corners.amax(0).ceil().int().tolist()
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1 + 1, width), min(y1 + 1, height)
        if x0 >= x1 or y0 >= y1:
            continue
        # Pixel centres lie at halves in the coordinates of the frames, see measure.
        pixels = torch.stack(torch.meshgrid(torch.arange(x0, x1), torch.arange(y0, y1), indexing="xy"), -1) + 0.5
        points = (pixels - origin) @ torch.linalg.inv(axes)
        radius = (((points - torch.tensor([cx, cy])) / torch.tensor([rx, ry])) ** 2).sum(-1).sqrt()
        inside = ((1.0 - radius) / max(softness, 1e-3)).clamp(0.0, 1.0)
        mask[y0:y1, x0:x1] = torch.maximum(mask[y0:y1, x0:x1], inside)
    return mask


def _lattice(x0: float, x1: float, y0: float, y1: float, step: float) -> torch.Tensor:
    x, y = torch.arange(x0, x1 + step / 2, step), torch.arange(y0, y1 + step / 2, step)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)


def _inside(points: torch.Tensor, ellipse: tuple[float, float, float, float]) -> torch.Tensor:
    cx, cy, rx, ry = ellipse
    return ((points[:, 0] - cx) / rx) ** 2 + ((points[:, 1] - cy) / ry) ** 2 <= 1.0
