"""Resize, Upsample and GridSample.

Resizing is separable: every axis has the coordinates, in the input, of its output elements, and from them either one
source element each (nearest) or a matrix of weights (linear, cubic, with or without antialiasing). The common linear
cases are left to torch's own function. Formulas: the Resize operator's text and onnx/reference/ops/op_resize.py.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .registry import Kernel, Setup, UnsupportedError, integers, operator, wrap

_COORDINATES = (
    "align_corners",
    "asymmetric",
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "tf_crop_and_resize",
    "tf_half_pixel_for_nn",
)
_NEAREST: dict[str, Callable[[Tensor], Tensor]] = {
    "ceil": torch.ceil,
    "floor": torch.floor,
    "round_prefer_ceil": lambda x: torch.floor(x + 0.5),
    "round_prefer_floor": lambda x: torch.ceil(x - 0.5),
}
_TORCH_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}
# Plans for other sizes of the same node that are kept.
_PLANS = 8


@dataclass(frozen=True)
class Axis:
    """One resized axis: sizes, output elements per input element, and the part of the input that is used, 0..1."""

    axis: int
    size: int
    target: int
    scale: float
    start: float = 0.0
    end: float = 1.0


@dataclass(frozen=True)
class Settings:
    """A node's attributes."""

    mode: str
    coordinates: str
    nearest: str
    cubic: float
    antialias: bool
    exclude_outside: bool
    extrapolation: float


def source_positions(axis: Axis, coordinates: str) -> Tensor:
    """Where each output element lies in the input, in elements, float64."""
    y = torch.arange(axis.target, dtype=torch.float64)
    length = axis.scale * axis.size
    match coordinates:
        case "asymmetric":
            return y / axis.scale
        case "align_corners":
            return torch.zeros_like(y) if length == 1 else y * (axis.size - 1) / (length - 1)
        case "tf_half_pixel_for_nn":
            return (y + 0.5) / axis.scale
        case "tf_crop_and_resize":
            part = (axis.end - axis.start) * (axis.size - 1)
            within = torch.full_like(y, part / 2) if length == 1 else y * part / (length - 1)
            return within + axis.start * (axis.size - 1)
        case "pytorch_half_pixel" if length == 1:
            return torch.full_like(y, -0.5)
    half = (y + 0.5) / axis.scale - 0.5
    if coordinates == "half_pixel_symmetric":
        # What is cut off by rounding the size is shared by both ends.
        half += axis.size / 2 * (1 - axis.target / length)
    return half


def _triangle(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp(min=0)


def _cubic(x: Tensor, a: float) -> Tensor:
    """Keys' convolution kernel."""
    x = x.abs()
    inner = ((a + 2) * x - (a + 3)) * x * x + 1
    outer = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return torch.where(x <= 1, inner, torch.where(x < 2, outer, torch.zeros_like(x)))


def weights(axis: Axis, settings: Settings) -> Tensor:
    """``[target, size]``: what each input element adds to each output element, float64."""
    positions = source_positions(axis, settings.coordinates)
    stretch = min(axis.scale, 1.0) if settings.antialias else 1.0
    reach = math.ceil((2 if settings.mode == "cubic" else 1) / stretch)
    taps = positions.floor()[:, None] + torch.arange(1 - reach, reach + 1)
    distance = (taps - positions[:, None]) * stretch
    share = _cubic(distance, settings.cubic) if settings.mode == "cubic" else _triangle(distance)
    if settings.exclude_outside:
        share = share * ((taps >= 0) & (taps < axis.size))
    share = share / share.sum(1, keepdim=True)
    matrix = torch.zeros(axis.target, axis.size, dtype=torch.float64)
    return matrix.scatter_add(1, taps.clamp(0, axis.size - 1).long(), share)


def _plan(settings: Settings, axes: tuple[Axis, ...], rank: int, device: torch.device, dtype: torch.dtype) -> Kernel:
    """The function that resizes a tensor of known shape."""
    steps: list[Callable[[Tensor], Tensor]] = []
    if settings.mode == "nearest":
        steps = _nearest_steps(settings, axes, rank, device)
    elif _torch_agrees(settings, axes, rank):
        size = [next(axis.target for axis in axes if axis.axis == place) for place in range(2, rank)]
        mode, corners = _TORCH_LINEAR[rank], settings.coordinates == "align_corners"
        steps = [lambda x: functional.interpolate(x, size, mode=mode, align_corners=corners)]
    else:
        for axis in axes:
            matrix = weights(axis, settings).T.to(dtype).to(device)
            steps.append(functools.partial(_apply, matrix=matrix, axis=axis.axis))
    if settings.coordinates == "tf_crop_and_resize":
        steps += [functools.partial(_extrapolate, axis=axis, value=settings.extrapolation) for axis in axes]
    return lambda x: functools.reduce(lambda value, step: step(value), steps, x)


def _nearest_steps(
    settings: Settings, axes: tuple[Axis, ...], rank: int, device: torch.device
) -> list[Callable[[Tensor], Tensor]]:
    steps: list[Callable[[Tensor], Tensor]] = []
    repeats = True
    for axis in axes:
        rounding = settings.nearest
        if rounding == "simple":
            rounding = "floor" if axis.scale >= 1 else "ceil"
        position = _NEAREST[rounding](source_positions(axis, settings.coordinates)).long().clamp(0, axis.size - 1)
        whole = axis.target % axis.size == 0
        repeats &= whole and torch.equal(position, torch.arange(axis.target) // max(axis.target // axis.size, 1))
        steps.append(functools.partial(torch.index_select, dim=axis.axis, index=position.to(device)))
    if repeats and rank in _TORCH_LINEAR and {axis.axis for axis in axes} == set(range(2, rank)):
        size = [next(axis.target for axis in axes if axis.axis == place) for place in range(2, rank)]
        return [lambda x: functional.interpolate(x, size, mode="nearest")]
    return steps


def _torch_agrees(settings: Settings, axes: tuple[Axis, ...], rank: int) -> bool:
    """True where torch's function computes the same: it knows no scale apart from the ratio of the sizes."""
    return (
        settings.mode == "linear"
        and not settings.antialias
        and not settings.exclude_outside
        and settings.coordinates in ("half_pixel", "pytorch_half_pixel", "align_corners")
        and rank in _TORCH_LINEAR
        and {axis.axis for axis in axes} == set(range(2, rank))
        and all(axis.target == axis.scale * axis.size and axis.target > 1 for axis in axes)
    )


def _apply(x: Tensor, matrix: Tensor, axis: int) -> Tensor:
    return (x.movedim(axis, -1) @ matrix).movedim(-1, axis)


def _extrapolate(x: Tensor, axis: Axis, value: float) -> Tensor:
    positions = source_positions(axis, "tf_crop_and_resize")
    outside = ((positions < 0) | (positions > axis.size - 1)).to(x.device)
    return x.movedim(axis.axis, -1).masked_fill(outside, value).movedim(-1, axis.axis)


@operator("Resize", host=(1, 2, 3))
def _resize(node: Setup) -> Kernel:
    mode = node.choice("mode", "nearest", ("nearest", "linear", "cubic"))
    if node.opset < 11:
        return _upsample_kernel(mode)
    settings = Settings(
        mode,
        node.choice("coordinate_transformation_mode", "half_pixel", _COORDINATES),
        node.choice("nearest_mode", "round_prefer_floor", tuple(_NEAREST)),
        node.real("cubic_coeff_a", -0.75),
        node.flag("antialias", False) and mode != "nearest",
        node.flag("exclude_outside", False),
        node.real("extrapolation_value", 0.0),
    )
    chosen = node.integers("axes")
    policies = ("stretch", "not_larger", "not_smaller")
    policy = node.choice("keep_aspect_ratio_policy", "stretch", policies)
    plan = functools.lru_cache(_PLANS)(functools.partial(_plan, settings))

    def run(
        x: Tensor, roi: Tensor | None = None, scales: Tensor | None = None, sizes: Tensor | None = None
    ) -> Tensor | tuple[Tensor, ...]:
        along = list(range(x.dim())) if chosen is None else [wrap(axis, x.dim()) for axis in chosen]
        lengths = [x.shape[axis] for axis in along]
        if sizes is not None and sizes.numel():
            targets, factors = _fitted(lengths, integers(sizes), policy)
        elif scales is not None:
            factors = [float(factor) for factor in scales.tolist()]
            targets = [math.floor(factor * length) for factor, length in zip(factors, lengths, strict=True)]
        else:
            raise ValueError("Resize without scales and sizes")
        crop = settings.coordinates == "tf_crop_and_resize" and roi is not None
        part = roi.tolist() if crop and roi is not None else [0.0] * len(along) + [1.0] * len(along)
        axes = tuple(
            Axis(axis, length, target, factor, start, end)
            for axis, length, target, factor, start, end in zip(
                along, lengths, targets, factors, part[: len(along)], part[len(along) :], strict=True
            )
            if length != target or factor != 1 or (start, end) != (0, 1)
        )
        return plan(axes, x.dim(), x.device, x.dtype)(x)

    return run


def _fitted(lengths: list[int], sizes: list[int], policy: str) -> tuple[list[int], list[float]]:
    """Output sizes, and the scale of each axis."""
    factors = [size / length for size, length in zip(sizes, lengths, strict=True)]
    if policy == "stretch":
        return sizes, factors
    factor = min(factors) if policy == "not_larger" else max(factors)
    return [math.floor(factor * length + 0.5) for length in lengths], [factor] * len(lengths)


@operator("Upsample", host=(1,))
def _upsample(node: Setup) -> Kernel:
    mode = node.choice("mode", "nearest", ("nearest", "linear", "bilinear"))
    fixed = node.reals("scales") if node.opset < 9 else None
    return _upsample_kernel(mode.replace("bilinear", "linear"), fixed)


def _upsample_kernel(mode: str, fixed: list[float] | None = None) -> Kernel:
    """Upsample, and Resize before version 11, whose text leaves coordinates open; this is what onnxruntime does."""
    settings = Settings(mode, "asymmetric", "simple", -0.75, False, False, 0.0)
    plan = functools.lru_cache(_PLANS)(functools.partial(_plan, settings))

    def run(x: Tensor, scales: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
        factors = fixed if scales is None else scales.tolist()
        if factors is None or len(factors) != x.dim():
            raise ValueError(f"scales {factors} for {x.dim()} dimensions")
        axes = tuple(
            Axis(axis, length, math.floor(length * factor), factor)
            for axis, (length, factor) in enumerate(zip(x.shape, factors, strict=True))
            if factor != 1
        )
        return plan(axes, x.dim(), x.device, x.dtype)(x)

    return run


_GRID_MODES = {
    "linear": "bilinear",
    "cubic": "bicubic",
    "bilinear": "bilinear",
    "bicubic": "bicubic",
    "nearest": "nearest",
}


@operator("GridSample")
def _grid_sample(node: Setup) -> Kernel:
    mode = _GRID_MODES[node.choice("mode", "linear", tuple(_GRID_MODES))]
    padding = node.choice("padding_mode", "zeros", ("zeros", "border", "reflection"))
    corners = node.flag("align_corners", False)

    def run(x: Tensor, grid: Tensor) -> Tensor:
        if x.dim() == 5 and mode == "bicubic":
            raise UnsupportedError("cubic interpolation of volumes")
        return functional.grid_sample(x, grid.to(x.dtype), mode, padding, corners)

    return run
