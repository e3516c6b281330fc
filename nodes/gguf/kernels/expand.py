"""The kernel around the decoders: packed blocks in, dense values out, each byte of memory read and written once."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from ..tensor_types import GEOMETRY, TensorType
from .decode import DECODERS

# Values per program: sixteen for each thread of four warps, two 16-byte stores of bfloat16. On Hopper most types then
# need at most 32 registers, with which a multiprocessor runs as many warps as it can hold. Speed was not measured.
_TILE = 2048

OPTIONS = {
    "num_warps": 4,
    "enable_fp_fusion": False,  # products are rounded before they are added to, as in gguf-py
}


@triton.jit(do_not_specialize=["blocks"])
def expand_kernel(
    packed: tl.tensor,
    out: tl.tensor,
    blocks: tl.tensor,
    decode: tl.constexpr,
    block_bytes: tl.constexpr,
    parts: tl.constexpr,
    width: tl.constexpr,
    tile: tl.constexpr,
) -> None:
    """Expands ``tile`` of ``blocks`` blocks; each consists of ``parts`` parts of ``width`` values."""
    # Tensors may exceed 2 ** 31 bytes, tiles do not.
    first = tl.program_id(0).to(tl.int64) * tile
    packed += first * block_bytes
    out += first * (parts * width)
    row = tl.arange(0, tile * parts)
    lane = tl.arange(0, width)
    # Beyond the end the last block is decoded again, and not stored, so that no read needs a mask.
    last = (tl.minimum(blocks - first, tile) - 1).to(tl.int32)
    values = decode(packed + tl.minimum(row // parts, last) * block_bytes, row % parts, lane)
    target = out + (row * width)[:, None] + lane[None, :]
    tl.store(target, values.to(out.dtype.element_ty), mask=(row // parts <= last)[:, None])


def constants(tensor_type: TensorType) -> dict[str, Any]:
    """What a type's kernel is compiled for."""
    geometry = GEOMETRY[tensor_type]
    decoder = DECODERS[tensor_type]
    return {
        "decode": decoder.function,
        "block_bytes": geometry.bytes,
        "parts": geometry.values // decoder.width,
        "width": decoder.width,
        "tile": _TILE // geometry.values,
    }


def expand(packed: torch.Tensor, tensor_type: TensorType, out: torch.Tensor) -> None:
    """The values of ``packed`` into ``out``.

    Args:
        packed: uint8, contiguous; blocks in file order.
        tensor_type: a key of ``DECODERS``.
        out: float32, bfloat16 or float16, contiguous, on the same device; float32 values are rounded once, to nearest
            even.
    """
    fixed = constants(tensor_type)
    blocks = packed.numel() // fixed["block_bytes"]
    with torch.cuda.device_of(packed):  # Triton launches on the current device
        expand_kernel[(triton.cdiv(blocks, fixed["tile"]),)](packed, out, blocks, **fixed, **OPTIONS)
