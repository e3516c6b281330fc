"""Pooling."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from .linear import CONVOLUTIONS
from .registry import Kernel, Setup, operator, simple
from .windows import Placed, Window, spatial

_MAX: dict[int, Callable[..., Tensor]] = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_MEAN: dict[int, Callable[..., Tensor]] = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}

simple("GlobalAveragePool", lambda x: x.mean(tuple(range(2, x.dim())), keepdim=True))
simple("GlobalMaxPool", lambda x: x.amax(tuple(range(2, x.dim())), keepdim=True))


@operator("MaxPool", outputs=2)
def _max_pool(node: Setup) -> Kernel:
    window, kernel = Window.read(node, pooling=True), node.integers("kernel_shape") or []
    column_major = node.flag("storage_order", False)

    def run(x: Tensor) -> Tensor | tuple[Tensor, ...]:
        sizes = spatial(x)
        at = window.placed(sizes, kernel)
        pool = _MAX[len(sizes)]
        # Torch pools floating point only; float32 holds every 8-bit integer.
        y = x if x.is_floating_point() else x.float()
        padding = at.before
        if node.several or not at.even or any(2 * pad > k for pad, k in zip(padding, at.kernel, strict=True)):
            y, padding = at.pad(y, -math.inf), (0,) * len(sizes)
        if not node.several:
            return pool(y, at.kernel, at.strides, padding, at.dilations).to(x.dtype)
        values, indices = pool(y, at.kernel, at.strides, padding, at.dilations, return_indices=True)
        return values.to(x.dtype), _global_indices(indices, y.shape[2:], x, at, column_major)

    return run


def _global_indices(indices: Tensor, padded: torch.Size, x: Tensor, at: Placed, column_major: bool) -> Tensor:
    """Positions in the flattened input, for positions in each padded plane."""
    places, rest = [], indices
    for size, before in zip(reversed(padded), reversed(at.before), strict=True):
        places.append(rest % size - before)
        rest = torch.div(rest, size, rounding_mode="floor")
    places.reverse()
    sizes = spatial(x)
    order = list(range(len(sizes)))
    flat = torch.zeros_like(indices)
    for axis in reversed(order) if column_major else order:
        flat = flat * sizes[axis] + places[axis]
    planes = torch.arange(x.shape[0] * x.shape[1], device=x.device) * math.prod(sizes)
    return flat + planes.reshape(*x.shape[:2], *[1] * len(sizes))


@operator("AveragePool")
def _average_pool(node: Setup) -> Kernel:
    window, kernel = Window.read(node, pooling=True), node.integers("kernel_shape") or []
    count_padding = node.flag("count_include_pad", False)

    def run(x: Tensor) -> Tensor:
        sizes = spatial(x)
        at = window.placed(sizes, kernel)
        plain = at.even and set(at.dilations) == {1}
        if plain and all(2 * pad <= k for pad, k in zip(at.before, at.kernel, strict=True)):
            return _MEAN[len(sizes)](x, at.kernel, at.strides, at.before, count_include_pad=count_padding)
        inside = torch.ones_like(x[:1, :1])
        counted = _window_sums(at.pad(inside, 1.0 if count_padding else 0.0, 0.0), at)
        return _window_sums(at.pad(x), at) / counted

    return run


def _window_sums(padded: Tensor, at: Placed) -> Tensor:
    """Sums over every window, channel by channel."""
    channels = padded.shape[1]
    ones = padded.new_ones(channels, 1, *at.kernel)
    return CONVOLUTIONS[len(at.kernel)](padded, ones, None, at.strides, 0, at.dilations, channels)
