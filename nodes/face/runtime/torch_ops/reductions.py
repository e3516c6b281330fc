"""Operators that reduce axes to one value."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .registry import OPERATORS, Kernel, Operator, Setup, integers, wrap

Reduce = Callable[[Tensor, list[int], bool], Tensor]


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if x.is_floating_point():
        return x.mean(axes, keepdim=keep)
    count = math.prod(x.shape[axis] for axis in axes)
    return torch.div(_sum(x, axes, keep), count, rounding_mode="trunc")


def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.sum(axes, keepdim=keep, dtype=x.dtype)


def _prod(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keep, dtype=x.dtype)
    return x


def _extreme(reduce: Callable[..., Tensor], largest: bool) -> Reduce:
    def run(x: Tensor, axes: list[int], keep: bool) -> Tensor:
        if any(x.shape[axis] == 0 for axis in axes):
            shape = [1 if axis in axes else size for axis, size in enumerate(x.shape) if keep or axis not in axes]
            return x.new_full(shape, _identity(x.dtype, largest))
        return reduce(x, axes, keepdim=keep)

    return run


def _identity(dtype: torch.dtype, largest: bool) -> float:
    """What the maximum, or the minimum, of nothing is."""
    if dtype.is_floating_point:
        return -math.inf if largest else math.inf
    if dtype == torch.bool:
        return not largest
    return torch.iinfo(dtype).min if largest else torch.iinfo(dtype).max


def _wide(reduce: Reduce) -> Reduce:
    """Reduces half precision in single: squares and exponentials leave its range before the result does."""

    def run(x: Tensor, axes: list[int], keep: bool) -> Tensor:
        half = x.dtype in (torch.float16, torch.bfloat16)
        return reduce(x.float() if half else x, axes, keep).to(x.dtype)

    return run


def _length(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _sum(x * x, axes, keep).sqrt()


_REDUCTIONS: dict[str, Reduce] = {
    "ReduceL1": lambda x, axes, keep: _sum(x.abs(), axes, keep),
    "ReduceL2": _wide(_length),
    "ReduceLogSum": _wide(lambda x, axes, keep: _sum(x, axes, keep).log()),
    "ReduceLogSumExp": _wide(lambda x, axes, keep: torch.logsumexp(x, axes, keepdim=keep)),
    "ReduceMax": _extreme(torch.amax, largest=True),
    "ReduceMean": _mean,
    "ReduceMin": _extreme(torch.amin, largest=False),
    "ReduceProd": _prod,
    "ReduceSum": _sum,
    "ReduceSumSquare": _wide(lambda x, axes, keep: _sum(x * x, axes, keep)),
}


def _register(name: str, reduce: Reduce) -> None:
    axes_are_input = 13 if name == "ReduceSum" else 18

    def build(node: Setup) -> Kernel:
        keep = node.flag("keepdims", True)
        fixed = node.integers("axes") if node.opset < axes_are_input else None
        noop = node.flag("noop_with_empty_axes", False) if node.opset >= axes_are_input else False

        def run(x: Tensor, axes: Tensor | None = None) -> Tensor:
            chosen = fixed if axes is None else integers(axes)
            along = [wrap(axis, x.dim()) for axis in chosen or ()]
            if not along and not noop:
                along = list(range(x.dim()))
            # Torch takes no axes for all of them; one of size 1 stands for none.
            return reduce(x, along, keep) if along else reduce(x[None], [0], False)

        return run

    OPERATORS[name] = Operator(build, host=(1,))


for _name, _reduce in _REDUCTIONS.items():
    _register(_name, _reduce)
