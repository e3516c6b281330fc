"""Matrix products and convolutions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from .registry import Kernel, Setup, operator, simple
from .windows import AUTO_PAD, Window, interleaved, spatial

CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}

simple("MatMul", torch.matmul)


@operator("Gemm")
def _gemm(node: Setup) -> Kernel:
    alpha, beta = node.real("alpha", 1.0), node.real("beta", 1.0)
    turn_a, turn_b = node.flag("transA", False), node.flag("transB", False)

    def run(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        a, b = (a.T if turn_a else a), (b.T if turn_b else b)
        if c is not None:
            return torch.addmm(c, a, b, alpha=alpha, beta=beta)
        return a @ b if alpha == 1 else alpha * (a @ b)

    return run


@operator("Einsum")
def _einsum(node: Setup) -> Kernel:
    equation = node.text("equation", "")
    return lambda *values: torch.einsum(equation, *values)


@operator("Conv")
def _conv(node: Setup) -> Kernel:
    window, groups = Window.read(node), node.integer("group", 1)
    # The weights have it too.
    node.ignore("kernel_shape")

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        sizes = spatial(x)
        at = window.placed(sizes, weight.shape[2:])
        padding = at.before
        if not at.even:
            x, padding = at.pad(x), (0,) * len(sizes)
        return CONVOLUTIONS[len(sizes)](x, weight, bias, at.strides, padding, at.dilations, groups)

    return run


@operator("ConvTranspose")
def _conv_transpose(node: Setup) -> Kernel:
    auto_pad = node.choice("auto_pad", "NOTSET", AUTO_PAD)
    strides, dilations = node.integers("strides"), node.integers("dilations")
    pads, more, wanted = (node.integers(name) for name in ("pads", "output_padding", "output_shape"))
    groups = node.integer("group", 1)
    node.ignore("kernel_shape")

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        sizes = spatial(x)
        count = len(sizes)
        step, stretch, behind = strides or [1] * count, dilations or [1] * count, more or [0] * count
        full = [
            (size - 1) * step[axis] + stretch[axis] * (weight.shape[2 + axis] - 1) + 1
            for axis, size in enumerate(sizes)
        ]
        target = wanted[-count:] if wanted else None
        if target is None and auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            target = [size * step[axis] for axis, size in enumerate(sizes)]
        before, after = (pads[:count], pads[count:]) if pads and not target else ([0] * count, [0] * count)
        if target is not None:
            total = [full[axis] + behind[axis] - target[axis] for axis in range(count)]
            smaller = [amount // 2 for amount in total]
            larger = [amount - half for amount, half in zip(total, smaller, strict=True)]
            before, after = (smaller, larger) if auto_pad == "SAME_UPPER" else (larger, smaller)
        function = _TRANSPOSED[count]
        direct = before == after and all(
            pad >= 0 and extra < max(one, two)
            for pad, extra, one, two in zip(before, behind, step, stretch, strict=True)
        )
        if direct:
            return function(x, weight, bias, step, before, behind, groups, stretch)
        # Cut, or grown with zeros, by hand; the bias comes last so that it reaches the grown part too.
        y = function(x, weight, None, step, 0, 0, groups, stretch)
        end = [extra - pad for extra, pad in zip(behind, after, strict=True)]
        y = functional.pad(y, interleaved([-pad for pad in before], end))
        return y if bias is None else y + bias.reshape(-1, *[1] * count)

    return run
