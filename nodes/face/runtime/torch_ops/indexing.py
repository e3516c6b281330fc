"""Operators that pick elements by index, put them by index, or find indices."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .registry import Kernel, Setup, operator, simple, wrap

# ONNX's reductions by the names of Tensor.scatter_reduce.
_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _from_start(indices: Tensor, size: int) -> Tensor:
    """Indices with the negative ones, which count from the end, made positive."""
    indices = indices.long()
    return torch.where(indices < 0, indices + size, indices)


@operator("Gather")
def _gather(node: Setup) -> Kernel:
    axis = node.integer("axis", 0)
    constant = node.constant(1)
    if constant is not None and constant.dim() == 0:
        index = int(constant.item())
        return lambda x, _: x.select(axis, index)

    def run(x: Tensor, indices: Tensor) -> Tensor:
        along = wrap(axis, x.dim())
        taken = x.index_select(along, _from_start(indices, x.shape[along]).reshape(-1))
        return taken.reshape(*x.shape[:along], *indices.shape, *x.shape[along + 1 :])

    return run


@operator("GatherElements")
def _gather_elements(node: Setup) -> Kernel:
    axis = node.integer("axis", 0)
    return lambda x, indices: torch.gather(x, axis, _from_start(indices, x.shape[axis]))


def _linear(indices: Tensor, shape: Sequence[int]) -> Tensor:
    """Positions in the flattened leading dimensions `shape` of index tuples ``[..., len(shape)]``."""
    position = torch.zeros_like(indices[..., 0]) if len(shape) else indices.new_zeros(indices.shape[:-1])
    for place, size in enumerate(shape):
        position = position * size + _from_start(indices[..., place], size)
    return position


@operator("GatherND")
def _gather_nd(node: Setup) -> Kernel:
    batch = node.integer("batch_dims", 0)

    def run(x: Tensor, indices: Tensor) -> Tensor:
        depth = indices.shape[-1]
        items, inner, rest = math.prod(x.shape[:batch]), x.shape[batch : batch + depth], x.shape[batch + depth :]
        position = _linear(indices.long(), inner).reshape(items, -1)
        start = torch.arange(items, device=x.device)[:, None] * math.prod(inner)
        rows = x.reshape(items * math.prod(inner), -1)
        return rows[(position + start).reshape(-1)].reshape(*indices.shape[:-1], *rest)

    return run


@operator("ScatterND")
def _scatter_nd(node: Setup) -> Kernel:
    reduction = node.choice("reduction", "none", ("none", *_REDUCTIONS))

    def run(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        depth = indices.shape[-1]
        position = _linear(indices.long(), x.shape[:depth]).reshape(-1)
        rows = x.reshape(math.prod(x.shape[:depth]), -1)
        new = updates.reshape(len(position), -1)
        if reduction == "none":
            rows = rows.index_put((position,), new)
        else:
            rows = rows.scatter_reduce(0, position[:, None].expand_as(new), new, _REDUCTIONS[reduction])
        return rows.reshape(x.shape)

    return run


@operator("ScatterElements")
def _scatter_elements(node: Setup) -> Kernel:
    axis = node.integer("axis", 0)
    reduction = node.choice("reduction", "none", ("none", *_REDUCTIONS))

    def run(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        position = _from_start(indices, x.shape[axis])
        if reduction == "none":
            return x.scatter(axis, position, updates)
        return x.scatter_reduce(axis, position, updates, _REDUCTIONS[reduction])

    return run


simple("NonZero", lambda x: torch.nonzero(x).T if x.dim() else torch.nonzero(x.reshape(1)).T[:0])


@operator("OneHot", host=(1,))
def _one_hot(node: Setup) -> Kernel:
    axis = node.integer("axis", -1)

    def run(indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
        size = int(depth.item())
        classes = torch.arange(size, device=indices.device)
        hot = _from_start(indices, size)[..., None] == classes
        return torch.where(hot, values[1], values[0]).movedim(-1, axis)

    return run


@operator("TopK", host=(1,), outputs=2)
def _top_k(node: Setup) -> Kernel:
    axis, largest = node.integer("axis", -1), node.flag("largest", True)
    # Unsorted means any order, so sorted does too.
    node.ignore("sorted")
    fixed = node.integer("k", 0) if node.opset < 10 else 0

    def run(x: Tensor, k: Tensor | None = None) -> tuple[Tensor, ...]:
        count = fixed if k is None else int(k.item())
        # A stable sort, since of equal values the one with the lower index comes first.
        values, indices = torch.sort(x, dim=axis, descending=largest, stable=True)
        return values.narrow(axis, 0, count), indices.narrow(axis, 0, count)

    return run


@operator("ArgMax")
def _arg_max(node: Setup) -> Kernel:
    return _arg(torch.argmax, node)


@operator("ArgMin")
def _arg_min(node: Setup) -> Kernel:
    return _arg(torch.argmin, node)


def _arg(find: Kernel, node: Setup) -> Kernel:
    axis, keep = node.integer("axis", 0), node.flag("keepdims", True)
    last = node.flag("select_last_index", False)

    def run(x: Tensor) -> Tensor:
        found = find(x.flip(axis) if last else x, dim=axis, keepdim=keep)
        assert isinstance(found, Tensor)
        return x.shape[axis] - 1 - found if last else found

    return run
