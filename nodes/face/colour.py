"""CIE L*a*b* back to sRGB, and the transfer of one face's colours to another."""

from __future__ import annotations

import torch
from torch import Tensor

# The same primaries as in ..skin.colour, whose srgb_to_lab this inverts.
_RGB_TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
_DELTA = 6.0 / 29.0


_WHITEST = 98.0


def from_lab(lab: Tensor) -> Tensor:
    """Encoded sRGB ``[..., 3]``, clipped to 0..1, of L*a*b* relative to D65 (CIE 15:2004, IEC 61966-2-1)."""
    lightness, a, b = lab.unbind(-1)
    y = (lightness + 16.0) / 116.0
    f = torch.stack([y + a / 500.0, y, y - b / 200.0], dim=-1)
    relative = torch.where(f > _DELTA, f**3, 3.0 * _DELTA**2 * (f - 4.0 / 29.0))
    linear = (relative @ _from_relative_xyz().T.to(lab)).clamp(0.0, 1.0)
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp_min(1e-9) ** (1 / 2.4) - 0.055)


def _from_relative_xyz() -> Tensor:
    """XYZ divided by the white point, to linear sRGB: the inverse of what srgb_to_lab applies."""
    matrix = torch.tensor(_RGB_TO_XYZ, dtype=torch.float64)
    inverse: Tensor = torch.linalg.inv(matrix / matrix.sum(dim=1, keepdim=True))
    return inverse


def match_colour(source: Tensor, target: Tensor, source_weight: Tensor, target_weight: Tensor) -> Tensor:
    """The source's L*a*b* ``[h, w, 3]`` with the target's mean and, within bounds, its spread.

    Reinhard, Ashikhmin, Gooch and Shirley, "Color Transfer between Images" (2001), over weighted pixels. The spread
    is bounded so that a flat drawing does not flatten a photograph, and never grows: highlights would burn out.
    """
    source_mean, source_spread = _moments(source, source_weight)
    target_mean, target_spread = _moments(target, target_weight)
    gain = (target_spread / source_spread.clamp(min=1e-3)).clamp(0.7, 1.0)
    # Lightness keeps its highlights below white: two deviations above the new mean.
    headroom = (_WHITEST - target_mean[0]).clamp(min=0.0) / (2.0 * source_spread[0]).clamp(min=1e-3)
    gain[0] = torch.minimum(gain[0], headroom.clamp(min=0.4))
    return (source - source_mean) * gain + target_mean


def _moments(values: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and standard deviation of ``[h, w, C]`` per channel."""
    share = (weight / weight.sum().clamp(min=1e-6))[..., None]
    mean = (values * share).sum((0, 1))
    return mean, ((values - mean) ** 2 * share).sum((0, 1)).sqrt()
