"""The transfer of one face's colours to another."""

from __future__ import annotations

import torch
from torch import Tensor

# Highlights stay below this L*.
_WHITEST = 98.0


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
