"""Operators that make, read and change shapes, and that cut tensors up and join them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ..onnx_types import DataType
from .registry import Kernel, Setup, UnsupportedError, integers, operator, representable, simple, wrap


@operator("Shape")
def _shape(node: Setup) -> Kernel:
    start, end = node.integer("start", 0), node.integer("end", 64)
    # On the CPU whatever the device: what follows is arithmetic on a few integers.
    return lambda x: torch.tensor(x.shape[start:end], dtype=torch.int64)


simple("Size", lambda x: torch.tensor(x.numel(), dtype=torch.int64))


@operator("Reshape", host=(1,))
def _reshape(node: Setup) -> Kernel:
    allow_zero = node.flag("allowzero", False)

    def run(x: Tensor, shape: Tensor) -> Tensor:
        sizes = integers(shape)
        if not allow_zero:
            sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
        return x.reshape(sizes)

    return run


@operator("Flatten")
def _flatten(node: Setup) -> Kernel:
    axis = node.integer("axis", 1)

    def run(x: Tensor) -> Tensor:
        split = axis + x.dim() if axis < 0 else axis
        return x.reshape(math.prod(x.shape[:split]), math.prod(x.shape[split:]))

    return run


@operator("Transpose")
def _transpose(node: Setup) -> Kernel:
    order = node.integers("perm")
    return lambda x: x.permute(list(range(x.dim()))[::-1] if order is None else order)


@operator("Squeeze", host=(1,))
def _squeeze(node: Setup) -> Kernel:
    fixed = node.integers("axes") if node.opset < 13 else None

    def run(x: Tensor, axes: Tensor | None = None) -> Tensor:
        chosen = fixed if axes is None else integers(axes)
        if chosen is None:
            return x.squeeze()
        dropped = {wrap(axis, x.dim()) for axis in chosen}
        if any(x.shape[axis] != 1 for axis in dropped):
            raise ValueError(f"Squeeze of axes {chosen} of {list(x.shape)}")
        return x.reshape([size for axis, size in enumerate(x.shape) if axis not in dropped])

    return run


@operator("Unsqueeze", host=(1,))
def _unsqueeze(node: Setup) -> Kernel:
    fixed = (node.integers("axes") or []) if node.opset < 13 else []

    def run(x: Tensor, axes: Tensor | None = None) -> Tensor:
        chosen = fixed if axes is None else integers(axes)
        rank = x.dim() + len(chosen)
        for axis in sorted(wrap(axis, rank) for axis in chosen):
            x = x.unsqueeze(axis)
        return x

    return run


@operator("Concat")
def _concat(node: Setup) -> Kernel:
    axis = node.integer("axis", 1)
    return lambda *values: torch.cat(values, dim=axis)


@operator("Split", host=(1,), outputs=None)
def _split(node: Setup) -> Kernel:
    axis, fixed = node.integer("axis", 0), node.integers("split") if node.opset < 13 else None
    parts = len(node.outputs)
    node.expect("num_outputs", parts)

    def run(x: Tensor, split: Tensor | None = None) -> tuple[Tensor, ...]:
        sizes = fixed if split is None else integers(split)
        if sizes is None:
            # The last part is smaller where the axis does not divide evenly.
            whole = -(-x.shape[axis] // parts)
            sizes = [max(0, min(whole, x.shape[axis] - whole * part)) for part in range(parts)]
        return torch.split(x, sizes, dim=axis)

    return run


@operator("Slice", host=(1, 2, 3, 4))
def _slice(node: Setup) -> Kernel:
    if node.opset < 10:
        starts, ends = node.integers("starts") or [], node.integers("ends") or []
        axes = node.integers("axes") or list(range(len(starts)))
        return lambda x: _cut(x, starts, ends, axes, [1] * len(starts))

    def run(x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None) -> Tensor:
        first = integers(starts)
        along = list(range(len(first))) if axes is None else integers(axes)
        return _cut(x, first, integers(ends), along, [1] * len(first) if steps is None else integers(steps))

    return run


def _cut(x: Tensor, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], steps: Sequence[int]) -> Tensor:
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        taken = range(*slice(start, end, step).indices(x.shape[axis]))
        if step > 0:
            key = [slice(None)] * wrap(axis, x.dim())
            x = x[(*key, slice(taken.start, max(taken.start, taken.stop), step))]
        else:
            # Torch has no negative steps: the same elements forwards, then turned round.
            low = taken[-1] if len(taken) else 0
            x = x.narrow(axis, low, (len(taken) - 1) * -step + 1 if len(taken) else 0)
            x = x[(*[slice(None)] * wrap(axis, x.dim()), slice(None, None, -step))].flip(axis)
    return x


simple("Expand", lambda x, shape: x.expand(torch.broadcast_shapes(x.shape, integers(shape))), host=(1,))


@operator("Tile", host=(1,))
def _tile(node: Setup) -> Kernel:
    if node.opset < 6:
        raise UnsupportedError(f"operator set {node.opset}")
    return lambda x, repeats: x.repeat(integers(repeats))


@operator("Constant")
def _constant(node: Setup) -> Kernel:
    stored = node.tensor("value")
    value = _listed(node) if stored is None else node.stored(stored)
    return lambda: value


def _listed(node: Setup) -> Tensor:
    real, whole = node.dtype(DataType.FLOAT), torch.int64
    if node.has("value_int"):
        return torch.tensor(node.integer("value_int", 0), dtype=whole, device=node.device)
    if node.has("value_float"):
        return torch.tensor(node.real("value_float", 0), dtype=real, device=node.device)
    numbers = node.integers("value_ints")
    if numbers is not None:
        return torch.tensor(numbers, dtype=whole, device=node.device)
    return torch.tensor(node.reals("value_floats") or [], dtype=real, device=node.device)


@operator("ConstantOfShape", host=(0,))
def _constant_of_shape(node: Setup) -> Kernel:
    stored = node.tensor("value")
    value = torch.zeros(1, dtype=node.dtype(DataType.FLOAT)) if stored is None else node.stored(stored)
    fill, dtype = value.reshape(-1)[0].item(), value.dtype
    return lambda shape: torch.full(integers(shape), fill, dtype=dtype, device=node.device)


@operator("Range", host=(0, 1, 2))
def _range(node: Setup) -> Kernel:
    def run(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
        first, step = start.item(), delta.item()
        count = max(0, math.ceil((limit.item() - first) / step))
        wide = torch.float64 if start.is_floating_point() else torch.int64
        values = first + step * torch.arange(count, dtype=wide, device="cpu")
        # The inputs lie on the CPU, where single precision stays single.
        dtype = node.dtype(DataType.FLOAT) if start.dtype == torch.float32 else start.dtype
        return values.to(dtype).to(node.device)

    return run


_REPEATING = ("reflect", "edge", "wrap")


@operator("Pad", host=(1, 2, 3))
def _pad(node: Setup) -> Kernel:
    mode = node.choice("mode", "constant", ("constant", *_REPEATING))
    fixed = node.integers("pads") if node.opset < 11 else None
    fill = node.real("value", 0.0) if node.opset < 11 else 0.0

    def run(x: Tensor, pads: Tensor | None = None, value: Tensor | None = None, axes: Tensor | None = None) -> Tensor:
        amounts = (fixed or []) if pads is None else integers(pads)
        along = range(x.dim()) if axes is None else [wrap(axis, x.dim()) for axis in integers(axes)]
        before, after = [0] * x.dim(), [0] * x.dim()
        for axis, low, high in zip(along, amounts[: len(along)], amounts[len(along) :], strict=True):
            before[axis], after[axis] = low, high
        if mode == "constant":
            # Torch names the last axis first.
            flat = [side for pair in zip(before[::-1], after[::-1], strict=True) for side in pair]
            return functional.pad(x, flat, value=fill if value is None else representable(value.item(), x.dtype))
        for axis, (low, high) in enumerate(zip(before, after, strict=True)):
            if low or high:
                x = x.index_select(axis, _sources(x.shape[axis], low, high, mode).to(x.device))
        return x

    return run


def _sources(size: int, before: int, after: int, mode: str) -> Tensor:
    """Which element of an axis each element of the padded axis repeats."""
    position = torch.arange(-before, size + after)
    if mode == "edge":
        return position.clamp(0, size - 1)
    if mode == "wrap":
        return position % size
    period = max(2 * (size - 1), 1)
    folded = position % period
    return torch.where(folded < size, folded, period - folded)


@operator("DepthToSpace")
def _depth_to_space(node: Setup) -> Kernel:
    block = node.integer("blocksize", 1)
    by_depth = node.choice("mode", "DCR", ("DCR", "CRD")) == "DCR"

    def run(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        if by_depth:
            cells = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
        else:
            cells = x.reshape(n, c // block**2, block, block, h, w).permute(0, 1, 4, 2, 5, 3)
        return cells.reshape(n, c // block**2, h * block, w * block)

    return run


@operator("SpaceToDepth")
def _space_to_depth(node: Setup) -> Kernel:
    block = node.integer("blocksize", 1)
    by_depth = node.choice("mode", "DCR", ("DCR", "CRD")) == "DCR"

    def run(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        cells = x.reshape(n, c, h // block, block, w // block, block)
        cells = cells.permute(0, 3, 5, 1, 2, 4) if by_depth else cells.permute(0, 1, 3, 5, 2, 4)
        return cells.reshape(n, c * block**2, h // block, w // block)

    return run
