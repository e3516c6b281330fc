"""Masks in crop space: which part of an aligned face is replaced."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ..errors import UserInputError
from .align import ARCFACE_128
from .blend import box_mask, smoothstep
from .mask_models import FACE_REGIONS, FaceParser, Occluder, check_regions

MaskShape = Literal["box", "ellipse", "landmarks"]
SHAPES: tuple[MaskShape, ...] = get_args(MaskShape)

# Every mask ends over this share of the side before the crop does: no edge is seen where a shape reaches further.
_RIM = 0.03

# The ellipse in units of the distance from the eyes to the mouth: its centre below the eyes, its half axes.
_CENTRE, _ACROSS, _ALONG = 0.305, 1.10, 1.26

# Half of a face's outline in fractions of an arcface_128 crop, from the forehead to the chin, drawn by hand after
# common proportions: a face five eyes wide, the eyes half way between crown and chin.
_OUTLINE = (
    (0.08, 0.13),
    (0.20, 0.17),
    (0.27, 0.27),
    (0.315, 0.36),
    (0.305, 0.56),
    (0.255, 0.72),
    (0.17, 0.83),
    (0.06, 0.905),
)
# How far the forehead lies above the brows that a 106-point contour ends with, in distances from eyes to mouth.
_FOREHEAD = 0.35
# A hull is the intersection of as many half planes.
_DIRECTIONS = 48


@dataclass(frozen=True)
class MaskSettings:
    """Which masks limit the replaced part of a crop; all that are chosen are combined by their minimum.

    Attributes:
        softness: share of the crop's side over which an edge fades out.
        shapes: ``box`` is the crop without `padding`, fading inwards; ``ellipse`` an oval about eyes and mouth;
            ``landmarks`` the hull of the face's outline. The edges of the latter two fade to both sides.
        padding: what the box leaves out at the top, right, bottom and left, as shares of the side.
        occluder: keeps what is in front of the face, such as hands and hair.
        parser: limits the mask to `regions`.
        regions: names of ``mask_models.CLASSES``.

    Raises:
        UserInputError: ``mask_name_unknown``, ``mask_value_out_of_range``, or ``mask_parser_missing`` where regions
            are chosen that no parser finds.
    """

    softness: float = 0.15
    shapes: tuple[MaskShape, ...] = ("box",)
    padding: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    occluder: Occluder | None = None
    parser: FaceParser | None = None
    regions: frozenset[str] = FACE_REGIONS

    def __post_init__(self) -> None:
        for name in self.shapes:
            if name not in SHAPES:
                raise UserInputError(
                    "mask_name_unknown", "shapes", f"there is no mask {name!r}", f"Choose from {', '.join(SHAPES)}"
                )
        check_regions(self.regions)
        if not 0.0 <= self.softness <= 1.0:
            raise _out_of_range("softness", f"{self.softness:g} is not between 0 and 1", "Use about 0.15")
        top, right, bottom, left = self.padding
        if min(self.padding) < 0.0 or top + bottom >= 1.0 or left + right >= 1.0:
            raise _out_of_range(
                "padding",
                f"{self.padding} leaves nothing of the crop",
                "Use shares of its side from 0 that do not add up to 1 from side to side",
            )
        if self.parser is None and self.regions != FACE_REGIONS:
            raise UserInputError(
                "mask_parser_missing",
                "regions",
                "regions are chosen, but no face parser is loaded that could tell them apart",
                "Choose a parser model, or leave the regions as they are",
            )


def crop_masks(crops: Tensor, landmarks: Tensor, settings: MaskSettings, contours: Tensor | None = None) -> Tensor:
    """Which part of each crop is replaced, 0..1, zero along the border.

    Args:
        crops: float32 ``[n, s, s, 3]``, RGB 0..1, on any device: the faces that are replaced.
        landmarks: ``[n, 5, 2]``, xy in pixels of the crop.
        settings: which masks.
        contours: ``[n, 106, 2]``, xy in pixels of the crop, where known; for the shape ``landmarks``.

    Returns:
        float32 ``[n, s, s]`` on the crops' device; not to be written to, since masks may share memory.
    """
    side = crops.shape[1]
    points = landmarks.to(crops)
    box = (settings.softness, settings.padding) if "box" in settings.shapes else None
    mask = _frame(side, box, crops.device).expand(len(crops), side, side)
    if "ellipse" in settings.shapes:
        mask = torch.minimum(mask, _ellipses(points, side, settings.softness))
    if "landmarks" in settings.shapes:
        outline = _outlines(points) if contours is None else _with_forehead(contours.to(crops), points)
        mask = torch.minimum(mask, _hulls(outline, side, settings.softness))
    if settings.occluder is not None:
        mask = torch.minimum(mask, settings.occluder.mask(crops))
    if settings.parser is not None:
        mask = torch.minimum(mask, settings.parser.mask(crops, settings.regions))
    return mask


@lru_cache(maxsize=16)
def _frame(side: int, box: tuple[float, tuple[float, float, float, float]] | None, device: torch.device) -> Tensor:
    """The mask ``[side, side]`` that is the same for every crop: zero along the border, and the box if there is one.

    box: its softness and padding.
    """
    like = torch.empty(0, device=device)
    rim = box_mask(side, _RIM, like)
    return rim if box is None else torch.minimum(rim, box_mask(side, box[0], like, box[1]))


def _out_of_range(field: str, problem: str, remedy: str) -> UserInputError:
    return UserInputError("mask_value_out_of_range", field, problem, remedy)


def _axes(points: Tensor) -> tuple[Tensor, Tensor]:
    """Middle of the eyes ``[n, 2]``, and the way from there to the middle of the mouth ``[n, 2]``."""
    eyes, mouth = points[:, 0:2].mean(dim=1), points[:, 3:5].mean(dim=1)
    return eyes, mouth - eyes


def _positions(side: int, like: Tensor) -> Tensor:
    return torch.arange(side, dtype=like.dtype, device=like.device)


def _ellipses(points: Tensor, side: int, softness: float) -> Tensor:
    """Ovals ``[n, side, side]`` along the faces' own axes."""
    eyes, down = _axes(points)
    length = down.norm(dim=1).clamp(min=1.0)
    down = down / length[:, None]
    centre = eyes + _CENTRE * length[:, None] * down
    at = _positions(side, points)
    x = at[None, None, :] - centre[:, 0, None, None]
    y = at[None, :, None] - centre[:, 1, None, None]
    dx, dy = down[:, 0, None, None], down[:, 1, None, None]
    reach = length[:, None, None]
    radius = torch.hypot((x * dy - y * dx) / (_ACROSS * reach), (x * dx + y * dy) / (_ALONG * reach))
    # A share of the side as a share of the radius.
    fade = max(softness * side, 1.0) / (math.sqrt(_ACROSS * _ALONG) * reach)
    return _faded((1.0 - radius) / fade)


def _outlines(points: Tensor) -> Tensor:
    """The face's outline ``[n, 16, 2]`` from five points: the drawn one, moved by the affine map that fits best."""
    middle = float(ARCFACE_128[:, 0].mean())
    drawn = [(middle + sign * x, y) for sign in (-1.0, 1.0) for x, y in _OUTLINE]
    fit = np.linalg.pinv(np.concatenate([ARCFACE_128, np.ones((5, 1))], axis=1))
    through = np.concatenate([np.array(drawn), np.ones((len(drawn), 1))], axis=1) @ fit
    return torch.from_numpy(through).to(points) @ points


def _with_forehead(contours: Tensor, points: Tensor) -> Tensor:
    """Contours and, again, their points with those above the eyes raised to the forehead: ``[n, 212, 2]``."""
    eyes, down = _axes(points)
    length = down.norm(dim=1).clamp(min=1.0)
    up = -down / length[:, None]
    above = torch.einsum("nkc,nc->nk", contours - eyes[:, None], up) / length[:, None]
    # The jaw's ends lie at the eyes' height and stay; brows lie a quarter above.
    raised = _FOREHEAD * (above / 0.25).clamp(0, 1) * length[:, None]
    return torch.cat([contours, contours + raised[..., None] * up[:, None]], dim=1)


def _hulls(outline: Tensor, side: int, softness: float) -> Tensor:
    """Convex hulls of ``[n, k, 2]`` as masks ``[n, side, side]``.

    Each is the intersection of the half planes that hold all its points, in directions all round.
    """
    angles = torch.arange(_DIRECTIONS, dtype=torch.float64) * (2.0 * math.pi / _DIRECTIONS)
    normals = torch.stack([angles.cos(), angles.sin()], dim=1).to(outline)
    furthest = (outline @ normals.T).amax(dim=1)
    at = _positions(side, outline)
    depth = outline.new_full((len(outline), side, side), math.inf)
    for index in range(_DIRECTIONS):
        across, down = normals[index, 0] * at, normals[index, 1] * at
        depth = torch.minimum(depth, furthest[:, index, None, None] - (across + down[:, None]))
    return _faded(depth / max(softness * side, 1.0))


def _faded(depth: Tensor) -> Tensor:
    """A mask that is one half where `depth`, in widths of the fade, is zero."""
    return smoothstep(depth, -0.5, 0.5)
