"""Random numbers: the same in every run and on every device."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..onnx_types import DataType
from .registry import Kernel, Setup, operator


@operator("RandomNormal")
def _random_normal(node: Setup) -> Kernel:
    draw, shape = _source(node), node.integers("shape") or []
    dtype = node.dtype(node.integer("dtype", DataType.FLOAT))
    return lambda: draw(shape).to(node.device, dtype)


@operator("RandomNormalLike")
def _random_normal_like(node: Setup) -> Kernel:
    draw = _source(node)
    dtype = node.dtype(node.integer("dtype", DataType.FLOAT)) if node.has("dtype") else None
    return lambda x: draw(x.shape).to(node.device, dtype or x.dtype)


def _source(node: Setup) -> Callable[[Sequence[int]], Tensor]:
    mean, scale = node.real("mean", 0.0), node.real("scale", 1.0)
    # Without a seed ONNX leaves the choice to the runtime: the same for a node in every run, another for other nodes.
    named = node.real("seed", 0.0) if node.has("seed") else node.outputs[0]
    seed = zlib.crc32(str(named).encode())

    def draw(shape: Sequence[int]) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return mean + scale * torch.randn(list(shape), generator=generator)

    return draw
