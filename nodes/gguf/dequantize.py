"""Packed blocks to floating point: float32 arithmetic, rounded once to the wanted dtype."""

from __future__ import annotations

import torch

from .blocks import CODECS
from .blocks.codec import Factors
from .kernels import try_expand
from .tensor_types import GEOMETRY, TensorType

# Values per tile. On the CPU the float32 tile and its uint8 temporaries stay in the last-level cache while each call on
# them, whose fixed cost is some microseconds, has work for every thread. Elsewhere a tile only bounds the memory of the
# temporaries.
_CPU_TILE = 1 << 20
_DEVICE_TILE = 1 << 24


def dequantize(
    packed: torch.Tensor, tensor_type: TensorType, shape: tuple[int, ...], dtype: torch.dtype
) -> torch.Tensor:
    """Dense values of a packed tensor.

    Args:
        packed: uint8, contiguous, any shape; the tensor's blocks in file order.
        tensor_type: a type in ``CODECS``.
        shape: logical shape; its product is the number of values in ``packed``.
        dtype: float32, bfloat16 or float16.

    Returns:
        ``shape`` of ``dtype``: gguf-py's float32 values, rounded once where ``dtype`` is narrower.
    """
    out = torch.empty(shape, dtype=dtype, device=packed.device)
    dequantize_into(packed, tensor_type, out)
    return out


@torch.inference_mode()
def dequantize_into(packed: torch.Tensor, tensor_type: TensorType, out: torch.Tensor) -> None:
    """As ``dequantize``, into a contiguous tensor on the same device; faster where its memory is in use already."""
    geometry = GEOMETRY[tensor_type]
    blocks = packed.reshape(-1, geometry.bytes).contiguous()
    values = out.view(-1, geometry.values)
    # torch calls AMD's GPUs "cuda" too.
    if blocks.device.type != "cuda" or not try_expand(blocks, tensor_type, values):
        expand_in_tiles(blocks, tensor_type, values)


def expand_in_tiles(blocks: torch.Tensor, tensor_type: TensorType, out: torch.Tensor) -> None:
    """The values of ``blocks`` ``[n, bytes]`` into ``out`` ``[n, values]``, both contiguous, by torch's operations."""
    geometry = GEOMETRY[tensor_type]
    codec = CODECS[tensor_type]
    tile = max(1, (_CPU_TILE if blocks.device.type == "cpu" else _DEVICE_TILE) // geometry.values)
    scratch = None
    if out.dtype != torch.float32:
        scratch = torch.empty(min(tile, len(blocks)), geometry.values, device=blocks.device)
    for source, target in zip(blocks.split(tile), out.split(tile), strict=True):
        values = target if scratch is None else scratch[: len(target)]
        codec.write_integers(source, values)
        if codec.factors:
            _apply(values, codec.factors(source))
        if scratch is not None:
            target.copy_(values)


def _apply(values: torch.Tensor, factors: Factors) -> None:
    scale, offset = factors
    sub_blocks = values.view(values.shape[0], scale.shape[1], -1)
    sub_blocks.mul_(scale.unsqueeze(2))
    if offset is not None:
        sub_blocks.add_(offset.unsqueeze(2))
