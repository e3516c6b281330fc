"""Where the eyes, nose and mouth of a face are: classic image measurements, no weights.

In a canonical crop of a detected face, eye centres are found by means of gradients and paired by symmetry and
place; the mouth is found below them by its colour and its dark line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, signal

Array = npt.NDArray[np.float32]

# The canonical crop: its side, the usual distance between the eyes in it and the usual middle of the eyes, pixels.
SIDE = 192
SPAN = 56.0
EYE_MIDDLE = (96.0, 76.0)

# An iris is 11.7 mm across where the eyes are 63 mm apart.
_IRIS = 0.093
_CANDIDATES = 7
# From the iris' middle to the whites beside it, eye distances.
_WHITES = 0.09
# An eye in deep skin may be no darker than what is around it.
_LEAST_DARK = 0.6


@dataclass(frozen=True, eq=False)
class Eyes:
    """Two pupils, xy in the canonical crop, and how much the one's surroundings mirror the other's, -1..1."""

    left: Array
    right: Array
    symmetry: float


def _correlate(image: Array, kernel: npt.NDArray[np.floating[Any]]) -> Array:
    result: Array = signal.fftconvolve(image, kernel[::-1, ::-1], mode="same").astype(np.float32)
    return result


def centre_map(grey: Array) -> Array:
    """How well each pixel of a canonical crop is the centre of a dark disc of an iris' size, about 0..1.

    Timm and Barth, "Accurate Eye Centre Localisation by Means of Gradients" (VISAPP 2011): the mean of the squared
    products of unit gradients and unit displacements, dark to light only. Written as convolutions, with the
    displacements limited to an eye's size so that brows and hair have little say.
    """
    gx = ndimage.gaussian_filter(grey, 1.0, order=(0, 1))
    gy = ndimage.gaussian_filter(grey, 1.0, order=(1, 0))
    norm = np.hypot(gx, gy)
    # Relative to the gradients nearby: an eye in shadow counts like one in light.
    usual = np.sqrt(ndimage.gaussian_filter(norm**2, 0.4 * SPAN))
    strength = np.clip(0.6 * norm / (usual + 0.002), 0.0, 1.0)
    ux, uy = gx / (norm + 1e-6), gy / (norm + 1e-6)
    iris = _IRIS * SPAN
    radius = round(2.4 * iris)
    axis = np.arange(-radius, radius + 1, dtype=np.float32)
    dx, dy = np.meshgrid(axis, axis)
    length = np.hypot(dx, dy)
    weight = np.exp(-(((length - iris) / (0.8 * iris)) ** 2)) * (length > 0.5)
    weight /= weight.sum()
    nx, ny = dx / np.maximum(length, 1.0), dy / np.maximum(length, 1.0)
    # The linear sum tells outward from inward gradients; the squared sum alone cannot.
    linear = _correlate(strength * ux, weight * nx) + _correlate(strength * uy, weight * ny)
    squared = (
        _correlate(strength * ux * ux, weight * nx * nx)
        + _correlate(strength * uy * uy, weight * ny * ny)
        + 2.0 * _correlate(strength * ux * uy, weight * nx * ny)
    )
    both: Array = np.clip(0.5 * (linear + np.sign(linear) * squared), 0.0, None).astype(np.float32)
    return both


def find_eyes(grey: Array) -> Eyes:
    """The pupils of the face in a canonical crop ``[SIDE, SIDE]``, 0..1."""
    centres = centre_map(grey)
    smooth = ndimage.gaussian_filter(grey, 0.05 * SPAN)
    nearby = ndimage.gaussian_filter(grey, 0.22 * SPAN)
    dark = np.clip(0.5 + (nearby - smooth) / (nearby + 0.05), _LEAST_DARK, 1.2)
    score = centres * dark * (0.3 + _flanked(grey))
    peaks = []
    for side in (-0.5, 0.5):
        usual = (EYE_MIDDLE[0] + side * SPAN, EYE_MIDDLE[1])
        peaks.append(_peaks(score, usual))
    scale = max(1e-6, *(p[2] for p in peaks[0]), *(p[2] for p in peaks[1]))
    best = (-1.0, peaks[0][0], peaks[1][0])
    for left in peaks[0]:
        for right in peaks[1]:
            fit = _pair_fit(smooth, left, right, scale)
            if fit > best[0]:
                best = (fit, left, right)
    pupils = [_refined(score, p) for p in best[1:]]
    return Eyes(pupils[0], pupils[1], _symmetry(smooth, best[1], best[2]))


def _flanked(grey: Array) -> Array:
    """How much brighter than each pixel its neighbours left and right are, in local standard deviations, 0..1.2.

    Whites flank the iris in every eye, and on deep skin they alone make it stand out; a brow runs on to both sides.
    """
    reach = _WHITES * SPAN
    curvature = ndimage.gaussian_filter(grey, (0.05 * SPAN, reach), order=(0, 2)) * reach**2
    mean = ndimage.gaussian_filter(grey, 0.35 * SPAN)
    variance = ndimage.gaussian_filter(grey**2, 0.35 * SPAN) - mean**2
    flanked: Array = np.clip(curvature / (np.sqrt(np.maximum(variance, 0.0)) + 0.005), 0.0, 1.2)
    return flanked


def _peaks(score: Array, usual: tuple[float, float]) -> list[tuple[float, float, float]]:
    """The strongest local maxima near a place: x, y, value."""
    reach_x, reach_y = 0.42 * SPAN, 0.40 * SPAN
    x0, x1 = round(usual[0] - reach_x), round(usual[0] + reach_x)
    y0, y1 = round(usual[1] - reach_y), round(usual[1] + reach_y)
    part = score[y0:y1, x0:x1]
    highest = ndimage.maximum_filter(part, size=7) == part
    rows, columns = np.nonzero(highest)
    order = np.argsort(-part[rows, columns])[:_CANDIDATES]
    return [(float(columns[i] + x0), float(rows[i] + y0), float(part[rows[i], columns[i]])) for i in order]


def _pair_fit(
    smooth: Array, left: tuple[float, float, float], right: tuple[float, float, float], scale: float
) -> float:
    """How well two eye centres make a pair: their own strength, usual place, and mirror symmetry."""
    dx, dy = right[0] - left[0], right[1] - left[1]
    span = math.hypot(dx, dy)
    if span < 0.5 * SPAN:
        return -1.0
    tilt = math.atan2(dy, dx)
    mx = (left[0] + right[0]) / 2 - EYE_MIDDLE[0]
    my = (left[1] + right[1]) / 2 - EYE_MIDDLE[1]
    place = (
        (math.log(span / SPAN) / 0.16) ** 2
        + (tilt / math.radians(13.0)) ** 2
        + (mx / (0.16 * SPAN)) ** 2
        + (my / (0.15 * SPAN)) ** 2
    )
    strength = math.sqrt(left[2] * right[2]) / scale
    return strength * math.exp(-0.5 * place) * (0.55 + 0.45 * max(0.0, _symmetry(smooth, left, right)))


def _symmetry(smooth: Array, left: tuple[float, float, float], right: tuple[float, float, float]) -> float:
    """Correlation of the eye region with its own mirror image about the line between the eyes, -1..1."""
    span = math.hypot(right[0] - left[0], right[1] - left[1])
    cos, sin = (right[0] - left[0]) / span, (right[1] - left[1]) / span
    across = np.linspace(0.15, 0.85, 15) * span
    down = np.linspace(-0.35, 0.45, 17)[:, None] * span
    mx, my = (left[0] + right[0]) / 2, (left[1] + right[1]) / 2
    halves = []
    for side in (-1.0, 1.0):
        x = mx + side * across * cos - down * sin
        y = my + side * across * sin + down * cos
        values = ndimage.map_coordinates(smooth, [y, x], order=1, mode="nearest")
        halves.append((values - values.mean()) / (values.std() + 1e-4))
    return float((halves[0] * halves[1]).mean())


def _refined(score: Array, peak: tuple[float, float, float]) -> Array:
    """The centroid of a peak, to a fraction of a pixel."""
    x, y, top = peak
    reach = round(0.07 * SPAN)
    rows = slice(max(0, int(y) - reach), int(y) + reach + 1)
    columns = slice(max(0, int(x) - reach), int(x) + reach + 1)
    weight = np.clip(score[rows, columns] - 0.5 * top, 0.0, None)
    yy, xx = np.mgrid[rows, columns]
    total = float(weight.sum()) + 1e-9
    return np.array([(xx * weight).sum() / total, (yy * weight).sum() / total], dtype=np.float32)


# The strip below the eyes in which the mouth is sought: eye distances across and down, and its samples per one.
_STRIP_U = (-0.75, 0.75)
_STRIP_V = (0.55, 1.60)
_PER_SPAN = 40
_USUAL_MOUTH = 1.08
_USUAL_HALF_WIDTH = 0.415


def find_mouth(rgb: Array, eyes: Eyes) -> tuple[Array, Array]:
    """The corners of the mouth in a canonical crop ``[SIDE, SIDE, 3]``, left and right, xy.

    The line between the lips is dark and thin, the lips are redder than the skin beside them, and the mouth lies
    about 1.1 eye distances below the eyes; the row and the width that agree best with all three are taken.
    """
    delta = eyes.right - eyes.left
    middle = (eyes.left + eyes.right) / 2
    down = np.array([-delta[1], delta[0]])
    u = np.arange(_STRIP_U[0], _STRIP_U[1], 1.0 / _PER_SPAN)
    v = np.arange(_STRIP_V[0], _STRIP_V[1], 1.0 / _PER_SPAN)
    x = middle[0] + u * delta[0] + v[:, None] * down[0]
    y = middle[1] + u * delta[1] + v[:, None] * down[1]
    strip = np.stack([ndimage.map_coordinates(rgb[..., c], [y, x], order=1, mode="nearest") for c in range(3)], -1)
    total = strip.sum(-1) + 0.05
    red = ndimage.gaussian_filter((strip[..., 0] - strip[..., 1]) / total, 1.5)
    luma = total / 3.0
    thin = ndimage.gaussian_filter(luma, (3.5, 2.5)) - ndimage.gaussian_filter(luma, (1.2, 2.5))
    dark = np.clip(thin / (ndimage.gaussian_filter(luma, 8.0) + 0.05), 0.0, None)

    core = np.abs(u) < 0.32
    redness = red[:, core].mean(axis=1)
    line = dark[:, core].mean(axis=1)
    prior = np.exp(-0.5 * ((v - _USUAL_MOUTH) / 0.13) ** 2)
    evidence = 0.15 + _unit(line) + 0.8 * ndimage.gaussian_filter1d(_unit(redness), 2.0)
    row = int((prior * evidence).argmax())

    near = slice(max(0, row - 4), row + 5)
    across = _unit(dark[near].max(axis=0)) + 0.8 * _unit(red[near].mean(axis=0))
    across = ndimage.gaussian_filter1d(across, 1.5)
    offset, half = _extent(u, across)
    centre = middle + offset * delta + v[row] * down
    return (centre - half * delta).astype(np.float32), (centre + half * delta).astype(np.float32)


def _unit(values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Shifted and scaled to 0..1."""
    low, high = float(values.min()), float(values.max())
    scaled: npt.NDArray[np.float64] = (values.astype(np.float64) - low) / (high - low + 1e-6)
    return scaled


def _extent(u: npt.NDArray[np.float64], across: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Middle and half-width of the interval that stands out most from its surroundings, near the usual width."""
    best = (-np.inf, 0.0, _USUAL_HALF_WIDTH)
    for half in np.arange(0.30, 0.56, 0.02):
        for offset in np.arange(-0.12, 0.13, 0.03):
            inside = np.abs(u - offset) <= half
            beside = (np.abs(u - offset) > half) & (np.abs(u - offset) <= half + 0.15)
            contrast = float(across[inside].mean() - across[beside].mean())
            usual = 0.5 * ((half - _USUAL_HALF_WIDTH) / 0.08) ** 2 + 0.5 * (offset / 0.08) ** 2
            fit = contrast - 0.08 * usual
            if fit > best[0]:
                best = (fit, float(offset), float(half))
    return best[1], best[2]
