"""Operators that work on each element alone, with numpy's broadcasting."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from .registry import Kernel, Setup, UnsupportedError, operator, representable, simple

# Before version 7 an attribute of Add and the like named the axis along which to broadcast; it is refused as unknown.
_PLAIN: dict[str, Kernel] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Add": torch.add,
    "And": torch.logical_and,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Equal": torch.eq,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "HardSwish": functional.hardswish,
    "Identity": lambda x: x,
    "IsNaN": torch.isnan,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Log": torch.log,
    "Mish": functional.mish,
    "Mul": torch.mul,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Or": torch.logical_or,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Softplus": functional.softplus,
    "Softsign": functional.softsign,
    "Sqrt": torch.sqrt,
    "Sub": torch.sub,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
    "Where": torch.where,
    "Xor": torch.logical_xor,
}
for _name, _kernel in _PLAIN.items():
    simple(_name, _kernel)


def _div(a: Tensor, b: Tensor) -> Tensor:
    # Integers are divided as in C.
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


simple("Div", _div)


@operator("Pow")
def _pow(node: Setup) -> Kernel:
    exponent = node.constant(1)
    if exponent is not None and exponent.numel() == 1 and exponent.dim() <= 1:
        power: float = exponent.item()

        def by_constant(base: Tensor, _: Tensor) -> Tensor:
            result = base * base if power == 2 else torch.pow(base, power).to(base.dtype)
            return result.reshape(result.shape if base.dim() else exponent.shape)

        return by_constant
    return lambda base, exponent: torch.pow(base, exponent).to(base.dtype)


def _variadic(combine: Callable[[Tensor, Tensor], Tensor]) -> Kernel:
    return lambda *values: functools.reduce(combine, values)


simple("Max", _variadic(torch.maximum))
simple("Min", _variadic(torch.minimum))
simple("Sum", _variadic(torch.add))
simple("Mean", lambda *values: functools.reduce(torch.add, values) / len(values))


@operator("Mod")
def _mod(node: Setup) -> Kernel:
    return torch.fmod if node.flag("fmod", False) else torch.remainder


@operator("LeakyRelu")
def _leaky_relu(node: Setup) -> Kernel:
    alpha = node.real("alpha", 0.01)
    return lambda x: functional.leaky_relu(x, alpha)


@operator("Elu")
def _elu(node: Setup) -> Kernel:
    alpha = node.real("alpha", 1.0)
    return lambda x: functional.elu(x, alpha)


@operator("Selu")
def _selu(node: Setup) -> Kernel:
    # The defaults are the text's, which has fewer digits than torch's constants.
    alpha, gamma = node.real("alpha", 1.67326319217681884765625), node.real("gamma", 1.05070102214813232421875)
    return lambda x: gamma * functional.elu(x, alpha)


@operator("Celu")
def _celu(node: Setup) -> Kernel:
    alpha = node.real("alpha", 1.0)
    return lambda x: functional.celu(x, alpha)


@operator("ThresholdedRelu")
def _thresholded_relu(node: Setup) -> Kernel:
    alpha = node.real("alpha", 1.0)
    return lambda x: torch.where(x > alpha, x, torch.zeros_like(x))


@operator("HardSigmoid")
def _hard_sigmoid(node: Setup) -> Kernel:
    alpha, beta = node.real("alpha", 0.2), node.real("beta", 0.5)
    return lambda x: (alpha * x + beta).clamp(0, 1)


@operator("Gelu")
def _gelu(node: Setup) -> Kernel:
    approximate = node.choice("approximate", "none", ("none", "tanh"))
    return lambda x: functional.gelu(x, approximate=approximate)


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    per_channel = slope.dim() == x.dim() - 1 and slope.numel() == slope.shape[0] == x.shape[1]
    if per_channel and x.is_floating_point():
        return functional.prelu(x, slope.reshape(-1))
    return torch.where(x < 0, slope * x, x)


simple("PRelu", _prelu)


@operator("Clip", host=(1, 2))
def _clip(node: Setup) -> Kernel:
    if node.opset < 11:
        least, most = node.real("min", -math.inf), node.real("max", math.inf)
        return lambda x: x.clamp(representable(least, x.dtype), representable(most, x.dtype))

    def run(x: Tensor, least: Tensor | None = None, most: Tensor | None = None) -> Tensor:
        low = None if least is None else representable(least.item(), x.dtype)
        high = None if most is None else representable(most.item(), x.dtype)
        return x if low is None and high is None else x.clamp(low, high)

    return run


@operator("Cast")
def _cast(node: Setup) -> Kernel:
    # These two are about 8-bit floating point, which is refused.
    node.ignore("saturate", "round_mode")
    target = node.dtype(node.integer("to", 0))
    return lambda x: x.to(target)


@operator("CastLike")
def _cast_like(node: Setup) -> Kernel:
    node.ignore("saturate", "round_mode")
    return lambda x, like: x.to(like.dtype)


@operator("Dropout", host=(1, 2), outputs=2)
def _dropout(node: Setup) -> Kernel:
    node.ignore("ratio", "seed")
    if node.opset < 7:
        node.expect("is_test", 1)
    training = node.constant(2)
    if node.given(2) and (training is None or bool(training.any())):
        raise UnsupportedError("training_mode")

    if node.several:
        return lambda x, *_: (x, torch.ones_like(x, dtype=torch.bool))
    return lambda x, *_: x


@operator("CumSum", host=(1,))
def _cumsum(node: Setup) -> Kernel:
    exclusive, reverse = node.flag("exclusive", False), node.flag("reverse", False)

    def run(x: Tensor, axis: Tensor) -> Tensor:
        dim = int(axis.item())
        ordered = x.flip(dim) if reverse else x
        total = torch.cumsum(ordered, dim, dtype=x.dtype)
        if exclusive:
            total = total - ordered
        return total.flip(dim) if reverse else total

    return run


@operator("Trilu", host=(1,))
def _trilu(node: Setup) -> Kernel:
    keep = torch.triu if node.flag("upper", True) else torch.tril
    return lambda x, k=None: keep(x, 0 if k is None else int(k.item()))
