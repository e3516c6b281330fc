"""The masks of a swap drawn in the images' own pixels, for inpainting and the like."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .align import ARCFACE_128, Patch, crop_face, paste, similarity_matrix, transform_points
from .engines import no_progress
from .masks import MaskSettings, crop_masks
from .types import Face, FaceSet, FloatArray

# Masks are smooth: at this side nothing of them is lost.
_SIDE = 256


def frame_masks(
    images: Tensor, faces: FaceSet, settings: MaskSettings, on_progress: Callable[[], None] = no_progress
) -> Tensor:
    """What a swapper with the template arcface_128 would replace: ``[B, H, W]``, 0..1, of images ``[B, H, W, 3]``.

    Where two faces overlap, the greater value holds.
    """
    masks = torch.zeros(images.shape[:3])
    for image, mask, found in zip(images.float().cpu(), masks, faces.faces, strict=True):
        canvas = image[..., :3].clone()
        for face in found:
            on_progress()
            paste(canvas, mask, _patch(image[..., :3], face, settings))
    return masks


def _patch(image: Tensor, face: Face, settings: MaskSettings) -> Patch:
    matrix = similarity_matrix(face.landmarks, ARCFACE_128 * _SIDE)
    crop = crop_face(image, matrix, (_SIDE, _SIDE))

    def moved(points: FloatArray) -> Tensor:
        return torch.from_numpy(transform_points(np.asarray(points), matrix))[None]

    contours = None if face.contour is None else moved(face.contour)
    return Patch(crop, crop_masks(crop[None], moved(face.landmarks), settings, contours)[0].cpu(), matrix)
