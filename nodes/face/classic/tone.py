"""The photo's face in the tone of the one it replaces: skin takes the tone; eyes, teeth and brows keep their colour."""

from __future__ import annotations

import torch
from torch import Tensor

from ..colour import match_colour, match_histogram
from ..engines import ColourMethod

_WHITE = 100.0
# The skin's lightness is kept this far from black and white, where the curve of the rest has no slope.
_MARGIN = 5.0


def in_tone_of(
    source: Tensor,
    target: Tensor,
    source_skin: Tensor,
    target_skin: Tensor,
    where: Tensor,
    method: ColourMethod,
) -> Tensor:
    """The source's L*a*b* ``[h, w, 3]`` with the target's skin tone.

    Skin is matched by `method`. What is not skin has no pigment to change: it keeps its chroma, and its lightness
    follows the skin's along two straight lines from black by way of the skin to white, so that brows stay dark and
    teeth bright on every tone.

    source_skin, target_skin: how much each pixel is skin, ``[h, w]``. where: the part of the face that is measured.
    """
    source_weight, target_weight = where * source_skin + 1e-4, where * target_skin + 1e-4
    match = match_colour if method == "mean_std" else match_histogram
    matched = match(source[None], target[None], source_weight[None], target_weight[None])[0]
    have, want = _lightness(source, source_weight), _lightness(target, target_weight)
    lightness = source[..., 0]
    curve = torch.where(
        lightness < have, lightness * (want / have), want + (lightness - have) * ((_WHITE - want) / (_WHITE - have))
    )
    rest = torch.cat([curve[..., None], source[..., 1:]], dim=-1)
    return rest + source_skin[..., None] * (matched - rest)


def _lightness(lab: Tensor, weight: Tensor) -> Tensor:
    """The weighted mean of L*."""
    return ((lab[..., 0] * weight).sum() / weight.sum()).clamp(_MARGIN, _WHITE - _MARGIN)
