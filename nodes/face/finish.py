"""From a swapper's drawing to a patch: restored, toned like the face it replaces, and masked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..skin.colour import srgb_to_lab
from .align import Matrix, Patch, compose, transform_points
from .colour import skin_weights, toned
from .engines import SwapSettings
from .masks import crop_masks
from .swapper import Drawing
from .types import Face, FloatArray

# The colours of the face that is replaced are read from its crop at about this side.
_SAMPLED_SIDE = 128


def finished_patches(
    drawing: Drawing,
    crops: Tensor,
    matrices: Sequence[Matrix],
    faces: Sequence[Face],
    template: Matrix,
    settings: SwapSettings,
) -> list[Patch]:
    """Patches ready to paste, on the drawing's device.

    Args:
        drawing: what was drawn in the crops.
        crops: ``[n, side, side, 3]``, RGB 0..1, the faces that are replaced.
        matrices: ``[2, 3]`` each, image to crop coordinates.
        faces: as detected in the images.
        template: the five points that the crops are aligned to, as fractions of the side.
        settings: what to do; blend and pixel boost have done their part where they say so.
    """
    pixels, learned = drawing.pixels, drawing.mask
    if settings.restorer is not None and settings.restore_strength > 0.0:
        side, wanted = crops.shape[1], max(crops.shape[1], settings.restorer.side)
        # At the swapper's own size the added detail would have no room.
        if wanted > side:
            pixels, crops = _enlarged(pixels, wanted), _enlarged(crops, wanted)
            learned = None if learned is None else _enlarged(learned[..., None], wanted)[..., 0]
            factor = wanted / side
            shift = (factor - 1.0) / 2.0
            grow = np.array([[factor, 0.0, shift], [0.0, factor, shift]])
            matrices = [compose(grow, matrix) for matrix in matrices]
            template = template + shift / wanted
        restored = settings.restorer.restore(pixels, template)
        pixels = pixels + settings.restore_strength * (restored - pixels)
    landmarks = _points([face.landmarks for face in faces], matrices, crops)
    known = [face.contour for face in faces if face.contour is not None]
    contours = _points(known, matrices, crops) if len(known) == len(faces) else None
    masks = crop_masks(crops, landmarks, settings.mask, contours)
    if learned is not None:
        masks = torch.minimum(masks, learned)
    if settings.colour_match > 0.0:
        pixels = _toned(pixels, crops, masks, landmarks, settings)
    if settings.blend != 1.0:
        masks = settings.blend * masks
    return [Patch(*parts) for parts in zip(pixels, masks, matrices, strict=True)]


def _toned(pixels: Tensor, crops: Tensor, masks: Tensor, landmarks: Tensor, settings: SwapSettings) -> Tensor:
    """The drawn faces in the skin colours of those they replace."""
    factor = max(1, crops.shape[1] // _SAMPLED_SIDE)
    small = functional.avg_pool2d(crops.permute(0, 3, 1, 2), factor).permute(0, 2, 3, 1)
    target = srgb_to_lab(small)
    drawn = srgb_to_lab(pixels)
    # What the mask excludes, such as a hand, has no say in the skin's colour.
    target_weight = functional.avg_pool2d(masks[:, None], factor)[:, 0] * skin_weights(target, landmarks / factor)
    drawn_weight = masks * skin_weights(drawn, landmarks)
    return toned(drawn, target, drawn_weight, target_weight, settings.colour_match, settings.colour_method)


def _enlarged(pictures: Tensor, side: int) -> Tensor:
    """Pictures ``[n, s, s, C]``, 0..1, at `side`, their outer edges kept in place."""
    planes = functional.interpolate(pictures.permute(0, 3, 1, 2), (side, side), mode="bicubic", align_corners=False)
    return planes.permute(0, 2, 3, 1).clamp(0, 1)


def _points(points: Sequence[FloatArray], matrices: Sequence[Matrix], like: Tensor) -> Tensor:
    """Points of the images in pixels of the crops, ``[n, k, 2]``."""
    moved = [transform_points(some, matrix) for some, matrix in zip(points, matrices, strict=True)]
    return torch.from_numpy(np.stack(moved)).to(like)
