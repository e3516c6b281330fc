"""Masks and seamless blending of a face in crop space."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

# The correction that hides a seam is smooth, so it is solved at this side and enlarged.
_MEMBRANE_SIDE = 64


def blur(planes: Tensor, sigma: float) -> Tensor:
    """Separable Gaussian of ``[C, h, w]``, borders repeated."""
    if sigma < 0.15:
        return planes
    radius = max(1, math.ceil(3 * sigma))
    axis = torch.arange(-radius, radius + 1, dtype=planes.dtype, device=planes.device)
    kernel = torch.exp(-0.5 * (axis / sigma) ** 2)
    kernel = kernel / kernel.sum()
    batch = planes[:, None]
    batch = functional.conv2d(functional.pad(batch, (radius, radius, 0, 0), mode="replicate"), kernel[None, None, None])
    batch = functional.conv2d(
        functional.pad(batch, (0, 0, radius, radius), mode="replicate"), kernel[None, None, :, None]
    )
    return batch[:, 0]


def blur_mask(mask: Tensor, sigma: float) -> Tensor:
    """Gaussian of ``[h, w]``."""
    return blur(mask[None], sigma)[0]


def smoothstep(values: Tensor, low: float, high: float) -> Tensor:
    """0 below `low`, 1 above `high`, a cubic between; `low` may exceed `high`."""
    t = ((values - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def membrane(difference: Tensor, known: Tensor) -> Tensor:
    """A smooth field ``[h, w, C]`` that follows `difference` where `known [h, w]` is high and fills in elsewhere.

    A multi-scale Shepard interpolation, coarse to fine: the practical counterpart of the membrane of Perez,
    Gangnet and Blake, "Poisson Image Editing" (2003).
    """
    height, width = known.shape
    side = _MEMBRANE_SIDE
    planes = difference.permute(2, 0, 1)
    weight = functional.adaptive_avg_pool2d(known[None, None], side)[0]
    values = functional.adaptive_avg_pool2d((planes * known)[None], side)[0] / weight.clamp(min=1e-6)
    field = torch.zeros_like(values)
    for sigma in (24.0, 12.0, 6.0, 3.0, 1.5):
        near = blur(weight, sigma)
        correction = blur(weight * (values - field), sigma) / (near + 1e-4)
        # A scale speaks where known values lie within its reach.
        trust = (near / (near + 0.02)) if sigma < 24.0 else torch.ones_like(near)
        field = field + trust * correction
    large = functional.interpolate(field[None], size=(height, width), mode="bicubic", align_corners=False)[0]
    return large.permute(1, 2, 0)


def box_mask(
    side: int, softness: float, like: Tensor, padding: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
) -> Tensor:
    """A square mask ``[side, side]``: one inside, falling to zero at the border over `softness` of the side.

    padding: what is left out at the top, right, bottom and left, as shares of the side.
    """
    edge = max(1.0, softness * side)
    top, right, bottom, left = (share * side for share in padding)
    position = torch.arange(side, dtype=torch.float32, device=like.device)
    across = smoothstep(torch.minimum(position - left, side - 1 - right - position), 0.0, edge)
    down = smoothstep(torch.minimum(position - top, side - 1 - bottom - position), 0.0, edge)
    return down[:, None] * across
