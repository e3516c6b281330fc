"""The transfer of one face's colours to another.

All pictures are float32 ``[..., h, w, 3]`` and all weights ``[..., h, w]``, on any device.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..skin.colour import lab_to_linear, lab_to_srgb
from .blend import smoothstep
from .engines import ColourMethod

# Where a face is covered and no pixel counts, all count alike.
_LEAST_WEIGHT = 1e-4
# Highlights stay below this L*.
_WHITEST = 98.0
# From this L* they are drawn together so that they do.
_SHOULDER = 94.0

# Histogram matching: how many quantiles are compared, from at most so many pixels a side, and at how many values of the
# source the curve between them is drawn.
_QUANTILES = 512
_SAMPLED_SIDE = 192
_KNOTS = 128
# The curve's slopes. A burnt or flat histogram asks for steps, which show as contours in the skin.
_FLATTEST, _STEEPEST = 0.4, 1.8
# The curve's slopes are averaged over about so many knots.
_SMOOTH = 2.0

# Colours this far from the cheeks' in L*, a* and b* are hardly skin; shading moves lightness far more than chroma.
_SKIN_REACH = (22.0, 9.0, 9.0)


def toned(
    drawn: Tensor,
    target: Tensor,
    drawn_weight: Tensor,
    target_weight: Tensor,
    strength: float = 1.0,
    method: ColourMethod = "mean_std",
) -> Tensor:
    """A drawn face in the skin colours of the face it replaces: RGB 0..1, ``[n, h, w, 3]``.

    Args:
        drawn: L*a*b*, ``[n, h, w, 3]``.
        target: L*a*b*, ``[n, k, l, 3]``; only its distribution counts, so it may be small.
        drawn_weight, target_weight: which pixels are skin, ``[n, h, w]`` and ``[n, k, l]``; the target's may include
            its neck.
        strength: 1 gives the target's colours, less as much of the way.
        method: see ``engines.SwapSettings``.
    """
    match = match_colour if method == "mean_std" else match_histogram
    matched = match(drawn, target, drawn_weight + _LEAST_WEIGHT, target_weight + _LEAST_WEIGHT)
    return lab_to_srgb(_within_srgb(drawn + strength * (matched - drawn)))


def match_colour(source: Tensor, target: Tensor, source_weight: Tensor, target_weight: Tensor) -> Tensor:
    """The source's L*a*b* with the target's mean and, within bounds, its spread.

    Reinhard, Ashikhmin, Gooch and Shirley, "Color Transfer between Images" (2001), over weighted pixels. The spread
    is bounded so that a flat drawing does not flatten a photograph, and never grows: highlights would burn out.
    """
    source_mean, source_spread = _moments(source, source_weight)
    target_mean, target_spread = _moments(target, target_weight)
    gain = (target_spread / source_spread.clamp(min=1e-3)).clamp(0.7, 1.0)
    # Lightness keeps its highlights below white: two deviations above the new mean.
    headroom = (_WHITEST - target_mean[..., 0]).clamp(min=0.0) / (2.0 * source_spread[..., 0]).clamp(min=1e-3)
    gain[..., 0] = torch.minimum(gain[..., 0], headroom.clamp(min=0.4))
    return (source - source_mean) * gain + target_mean


def match_histogram(source: Tensor, target: Tensor, source_weight: Tensor, target_weight: Tensor) -> Tensor:
    """The source's L*a*b* with the target's distribution, channel by channel, along a smooth curve of bounded slope.

    Equals ``skimage.exposure.match_histograms`` where all weights are one and the exact curve keeps to the slopes.
    Where it does not, the curve bends less and still brings the source's mean to the target's.
    """
    have, want = _quantiles(source, source_weight), _quantiles(target, target_weight)
    low, high = have[..., :1], have[..., -1:]
    spacing = (high - low).clamp(min=1e-3) / (_KNOTS - 1)
    knots = low + spacing * torch.arange(_KNOTS, dtype=source.dtype, device=source.device)
    exact = _interpolated(have, want, knots)
    slope = ((exact[..., 1:] - exact[..., :-1]) / spacing).clamp(_FLATTEST, _STEEPEST)
    steps = _averaged(slope) * spacing
    curve = torch.cat([torch.zeros_like(low), steps.cumsum(-1)], dim=-1)
    curve = curve + (want - _on_curve(have, low, spacing, curve)).mean(-1, keepdim=True)
    values = source.flatten(-3, -2).transpose(-1, -2)
    mapped = _on_curve(values, low, spacing, curve)
    return mapped.transpose(-1, -2).reshape(source.shape)


def skin_weights(lab: Tensor, landmarks: Tensor) -> Tensor:
    """How much each pixel of L*a*b* crops ``[n, h, w, 3]`` looks like the face's skin, 0..1: ``[n, h, w]``.

    The measure is the median at points on cheeks and nose, so that one that is covered does not matter. It knows
    nothing of places: neck and hands of the same colour count too.

    landmarks: ``[n, 5, 2]``, xy in pixels of the crop.
    """
    height, width = lab.shape[1], lab.shape[2]
    points = landmarks.to(lab)
    left, right, nose, mouth_left, mouth_right = points.unbind(1)
    cheeks = [
        share * eye + (1.0 - share) * corner
        for eye, corner in ((left, mouth_left), (right, mouth_right))
        for share in (0.3, 0.45, 0.6)
    ]
    places = torch.stack([*cheeks, nose, (left + right + nose) / 3.0], dim=1)
    size = torch.tensor([width, height], dtype=lab.dtype, device=lab.device)
    grid = (2.0 * places + 1.0) / size - 1.0
    planes = functional.avg_pool2d(lab.permute(0, 3, 1, 2), 3, stride=1, padding=1, count_include_pad=False)
    samples = functional.grid_sample(planes, grid[:, :, None], padding_mode="border", align_corners=False)
    usual = samples[..., 0].median(dim=2).values
    reach = torch.tensor(_SKIN_REACH, dtype=lab.dtype, device=lab.device)
    distance = (((lab - usual[:, None, None]) / reach) ** 2).sum(-1).sqrt()
    return smoothstep(distance, 1.6, 0.9)


def _moments(values: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and standard deviation per channel, ``[..., 1, 1, C]``."""
    share = (weight / weight.sum((-2, -1), keepdim=True).clamp(min=1e-6))[..., None]
    mean = (values * share).sum((-3, -2), keepdim=True)
    return mean, ((values - mean) ** 2 * share).sum((-3, -2), keepdim=True).sqrt()


def _quantiles(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted quantiles ``[..., C, q]``, evenly spaced from the lowest value to the highest."""
    step = -(-max(values.shape[-3:-1]) // _SAMPLED_SIDE)
    some = values[..., ::step, ::step, :].flatten(-3, -2).transpose(-1, -2)
    share = weight[..., ::step, ::step].flatten(-2)[..., None, :].expand(some.shape)
    ordered, order = some.sort(dim=-1)
    total = share.gather(-1, order).cumsum(-1)
    total = total / total[..., -1:].clamp(min=1e-6)
    levels = (torch.arange(_QUANTILES, dtype=total.dtype, device=total.device) + 0.5) / _QUANTILES
    at = torch.searchsorted(total, levels.expand(*total.shape[:-1], -1).contiguous())
    return ordered.gather(-1, at.clamp(max=ordered.shape[-1] - 1))


def _interpolated(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    """The curve through ascending points ``(x, y)``, all ``[..., q]``, at ``[..., k]``."""
    upper = torch.searchsorted(x, at.contiguous(), right=True).clamp(1, x.shape[-1] - 1)
    x0, x1 = x.gather(-1, upper - 1), x.gather(-1, upper)
    y0, y1 = y.gather(-1, upper - 1), y.gather(-1, upper)
    return y0 + (y1 - y0) * ((at - x0) / (x1 - x0).clamp(min=1e-6)).clamp(0, 1)


def _averaged(slopes: Tensor) -> Tensor:
    """``[..., k]`` smoothed by a Gaussian, the ends repeated."""
    radius = int(3 * _SMOOTH)
    axis = torch.arange(-radius, radius + 1, dtype=slopes.dtype, device=slopes.device)
    kernel = torch.exp(-0.5 * (axis / _SMOOTH) ** 2)
    rows = functional.pad(slopes.reshape(-1, 1, slopes.shape[-1]), (radius, radius), mode="replicate")
    return functional.conv1d(rows, (kernel / kernel.sum())[None, None]).reshape(slopes.shape)


def _on_curve(values: Tensor, low: Tensor, spacing: Tensor, curve: Tensor) -> Tensor:
    """Values ``[..., p]`` through a curve ``[..., k]`` given at even distances from `low`; beyond it, moved along."""
    at = (values - low) / spacing
    inside = at.clamp(0, curve.shape[-1] - 1)
    first = inside.floor().long().clamp(max=curve.shape[-1] - 2)
    y0, y1 = curve.gather(-1, first), curve.gather(-1, first + 1)
    return y0 + (y1 - y0) * (inside - first) + spacing * (at - inside)


def _within_srgb(lab: Tensor) -> Tensor:
    """L*a*b* that sRGB can show: highlights drawn together below white, chroma reduced where a channel would clip.

    Clipped channels would turn the hue and leave flat patches.
    """
    lightness = lab[..., 0]
    room = _WHITEST - _SHOULDER
    over = (lightness - _SHOULDER).clamp(min=0.0)
    lightness = torch.where(over > 0, _SHOULDER + room * torch.tanh(over / room), lightness).clamp(min=0.0)
    lab = torch.cat([lightness[..., None], lab[..., 1:]], dim=-1)
    outside = ~_shown(lab)
    if not outside.any():
        return lab
    pixels = lab[outside]
    most, least = torch.ones_like(pixels[..., 0]), torch.zeros_like(pixels[..., 0])
    # Ten halvings find the share of the chroma to a thousandth.
    for _ in range(10):
        share = (most + least) / 2
        shown = _shown(_with_chroma(pixels, share))
        least, most = torch.where(shown, share, least), torch.where(shown, most, share)
    result = lab.clone()
    result[outside] = _with_chroma(pixels, least)
    return result


def _with_chroma(lab: Tensor, share: Tensor) -> Tensor:
    return torch.cat([lab[..., :1], lab[..., 1:] * share[..., None]], dim=-1)


def _shown(lab: Tensor) -> Tensor:
    linear = lab_to_linear(lab)
    return ((linear >= 0.0) & (linear <= 1.0)).all(-1)
