"""Normalisation, and softmax."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..onnx_types import DataType
from .registry import Kernel, Setup, UnsupportedError, operator, wrap


def per_channel(values: Tensor, rank: int) -> Tensor:
    """A vector of channels, shaped to broadcast against ``[N, C, ...]`` of `rank` dimensions."""
    return values.reshape(-1, *[1] * max(rank - 2, 0))


@operator("BatchNormalization")
def _batch_normalization(node: Setup) -> Kernel:
    epsilon = batch_norm_epsilon(node)

    def run(x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        factor, offset = scale_and_offset(scale.float(), shift.float(), mean.float(), variance.float(), epsilon)
        return scale_shift(x, factor, offset)

    return run


def batch_norm_epsilon(node: Setup) -> float:
    """A BatchNormalization node's epsilon; refuses all but inference on each channel."""
    node.ignore("momentum")
    node.expect("training_mode", 0)
    if node.opset < 9:
        node.expect("spatial", 1)
    if node.opset < 7:
        node.expect("is_test", 1)
    return node.real("epsilon", 1e-5)


def scale_and_offset(
    scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """A normalisation with known statistics as ``x * scale + offset``, vectors of channels."""
    factor = scale / torch.sqrt(variance + epsilon)
    return factor, shift - mean * factor


def scale_shift(x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """Each channel of ``[N, C, ...]`` times its scale plus its offset."""
    scale, offset = (per_channel(values.to(x.dtype), x.dim()) for values in (scale, offset))
    return torch.addcmul(offset, x, scale)


@operator("InstanceNormalization")
def _instance_normalization(node: Setup) -> Kernel:
    epsilon = node.real("epsilon", 1e-5)

    def run(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        # Not functional.instance_norm, which refuses planes of one pixel.
        return torch.instance_norm(x, scale, shift, None, None, True, 0.0, epsilon, torch.backends.cudnn.enabled)

    return run


@operator("LayerNormalization", outputs=3)
def _layer_normalization(node: Setup) -> Kernel:
    axis, epsilon = node.integer("axis", -1), node.real("epsilon", 1e-5)
    node.expect("stash_type", DataType.FLOAT)

    def run(x: Tensor, scale: Tensor, shift: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
        shape = x.shape[wrap(axis, x.dim()) :]
        if not node.several and scale.shape == shape and (shift is None or shift.shape == shape):
            return functional.layer_norm(x, shape, scale, shift, epsilon)
        axes = tuple(range(x.dim() - len(shape), x.dim()))
        wide = x.float()
        mean = wide.mean(axes, keepdim=True)
        centred = wide - mean
        inverse = torch.rsqrt((centred * centred).mean(axes, keepdim=True) + epsilon)
        y = (centred * inverse).to(x.dtype) * scale
        stash = node.dtype(DataType.FLOAT)
        return (y if shift is None else y + shift), mean.to(stash), inverse.to(stash)

    return run


@operator("GroupNormalization")
def _group_normalization(node: Setup) -> Kernel:
    groups, epsilon = node.integer("num_groups", 1), node.real("epsilon", 1e-5)
    node.expect("stash_type", DataType.FLOAT)

    def run(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        if node.opset < 21:
            # One scale and shift for each group.
            scale, shift = (values.repeat_interleave(x.shape[1] // groups) for values in (scale, shift))
        return functional.group_norm(x, groups, scale, shift, epsilon)

    return run


@operator("LRN")
def _lrn(node: Setup) -> Kernel:
    alpha, beta = node.real("alpha", 1e-4), node.real("beta", 0.75)
    bias, size = node.real("bias", 1.0), node.integer("size", 1)

    def run(x: Tensor) -> Tensor:
        behind = [0, 0] * (x.dim() - 2)
        squares = functional.pad(x * x, [*behind, (size - 1) // 2, size // 2])
        return x / (bias + alpha / size * squares.unfold(1, size, 1).sum(-1)) ** beta

    return run


@operator("LpNormalization")
def _lp_normalization(node: Setup) -> Kernel:
    axis, power = node.integer("axis", -1), node.integer("p", 2)
    if power not in (1, 2):
        raise UnsupportedError(f"p={power}")

    def run(x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x.float(), power, axis, keepdim=True).to(x.dtype)
        return torch.where(length == 0, torch.zeros_like(x), x / length)

    return run


@operator("Softmax")
def _softmax(node: Setup) -> Kernel:
    return _normalised(torch.softmax, node)


@operator("LogSoftmax")
def _log_softmax(node: Setup) -> Kernel:
    return _normalised(torch.log_softmax, node)


def _normalised(function: Kernel, node: Setup) -> Kernel:
    if node.opset >= 13:
        axis = node.integer("axis", -1)
        return lambda x: function(x, axis)
    first = node.integer("axis", 1)

    def run(x: Tensor) -> Tensor:
        # All axes from the first on count as one.
        result = function(x.flatten(wrap(first, x.dim())), -1)
        assert isinstance(result, Tensor)
        return result.reshape(x.shape)

    return run
