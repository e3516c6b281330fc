"""Packed blocks to floating point: float32 arithmetic, rounded once to the wanted dtype."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch

from .blocks import CODECS
from .blocks.codec import Factors
from .tensor_types import GEOMETRY, TensorType

# Values per tile. On the CPU the float32 tile and its uint8 temporaries stay in a core's second-level cache, and the
# tile is small enough (below torch's grain size of 32768) that torch works on it with one thread: tiles are spread over
# threads here instead, so that a thread that is not scheduled holds up nobody. Elsewhere a tile only bounds the memory
# of the temporaries.
_CPU_TILE = 32512
_DEVICE_TILE = 1 << 24
# Factors are made for several tiles at once: they are small, and every call has a fixed cost.
_TILES_PER_RUN = 16
# Below this many values another thread costs more than it brings.
_VALUES_PER_THREAD = 1 << 18


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


def dequantize_into(packed: torch.Tensor, tensor_type: TensorType, out: torch.Tensor) -> None:
    """As ``dequantize``, into a contiguous tensor on the same device; faster where its memory is in use already."""
    geometry = GEOMETRY[tensor_type]
    blocks = packed.reshape(-1, geometry.bytes)
    out = out.view(-1, geometry.values)
    if blocks.device.type != "cpu":
        _dequantize_tiles(blocks, tensor_type, out, _DEVICE_TILE)
        return
    parts = min(torch.get_num_threads(), out.numel() // _VALUES_PER_THREAD)
    if parts < 2:
        _dequantize_tiles(blocks, tensor_type, out, _CPU_TILE)
        return
    share = -(-blocks.shape[0] // parts)
    futures = [
        _threads().submit(_dequantize_tiles, blocks[start : start + share], tensor_type, out[start : start + share])
        for start in range(share, blocks.shape[0], share)
    ]
    _dequantize_tiles(blocks[:share], tensor_type, out[:share])
    for future in futures:
        future.result()


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=max(1, torch.get_num_threads() - 1), thread_name_prefix="gguf-dequantize")


@torch.inference_mode()
def _dequantize_tiles(
    blocks: torch.Tensor, tensor_type: TensorType, out: torch.Tensor, tile_values: int = _CPU_TILE
) -> None:
    codec = CODECS[tensor_type]
    tile = max(1, tile_values // out.shape[1])
    run = tile * _TILES_PER_RUN
    scratch = None if out.dtype == torch.float32 else torch.empty(tile, out.shape[1], device=blocks.device)
    for first in range(0, blocks.shape[0], run):
        factors = codec.factors(blocks[first : first + run]) if codec.factors else None
        for start in range(first, min(first + run, blocks.shape[0]), tile):
            target = out[start : start + tile]
            values = target if scratch is None else scratch[: target.shape[0]]
            codec.write_integers(blocks[start : start + tile], values)
            if factors is not None:
                _apply(values, factors, slice(start - first, start - first + tile))
            if scratch is not None:
                target.copy_(values)


def _apply(values: torch.Tensor, factors: Factors, blocks: slice) -> None:
    scale, offset = factors
    sub_blocks = values.view(values.shape[0], scale.shape[1], -1)
    sub_blocks.mul_(scale[blocks].unsqueeze(2))
    if offset is not None:
        sub_blocks.add_(offset[blocks].unsqueeze(2))
