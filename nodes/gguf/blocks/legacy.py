"""Plain types and the 32-value block types (Q4_0, Q4_1, Q5_0, Q5_1, Q8_0)."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from .codec import Codec, Factors, half, nibbles, part


def _scale(blocks: Tensor) -> Factors:
    return half(blocks, 0), None


def _scale_and_offset(blocks: Tensor) -> Factors:
    return half(blocks, 0), half(blocks, 2)


def _f32(blocks: Tensor, out: Tensor) -> None:
    out.copy_(blocks.view(torch.float32))


def _f16(blocks: Tensor, out: Tensor) -> None:
    out.copy_(blocks.view(torch.float16))


def _bf16(blocks: Tensor, out: Tensor) -> None:
    out.copy_(blocks.view(torch.bfloat16))


def _q8_0(blocks: Tensor, out: Tensor) -> None:
    out.copy_(blocks[:, 2:].view(torch.int8))


def _q4_0(blocks: Tensor, out: Tensor) -> None:
    out.copy_(nibbles(part(blocks, 2, 18), 1).view(torch.int8).sub_(8).view(-1, 32))


def _q4_1(blocks: Tensor, out: Tensor) -> None:
    out.copy_(nibbles(part(blocks, 4, 20), 1).view(-1, 32))


def _q5_0(blocks: Tensor, out: Tensor) -> None:
    out.copy_(_five_bits(part(blocks, 2, 6), part(blocks, 6, 22)).view(torch.int8).sub_(16))


def _q5_1(blocks: Tensor, out: Tensor) -> None:
    out.copy_(_five_bits(part(blocks, 4, 8), part(blocks, 8, 24)))


def _five_bits(high: Tensor, low: Tensor) -> Tensor:
    """uint8 ``[n, 32]`` of 0..31 from 32 fifth bits ``[n, 4]`` and 32 nibbles ``[n, 16]``."""
    fifth = _fifth_bits(high.device).index_select(0, high.view(-1).to(torch.int32))
    return nibbles(low, 1).view(-1, 32).bitwise_or_(fifth.view(torch.uint8).view(-1, 32))


@cache
def _fifth_bits(device: torch.device) -> Tensor:
    """int64 ``[256]``: for every byte, its eight bits as eight bytes of 0 or 16 in memory order."""
    bits = [[16 if byte >> bit & 1 else 0 for bit in range(8)] for byte in range(256)]
    return torch.tensor(bits, dtype=torch.uint8).view(torch.int64).view(-1).to(device)


F32 = Codec(_f32, None)
F16 = Codec(_f16, None)
BF16 = Codec(_bf16, None)
Q4_0 = Codec(_q4_0, _scale)
Q4_1 = Codec(_q4_1, _scale_and_offset)
Q5_0 = Codec(_q5_0, _scale)
Q5_1 = Codec(_q5_1, _scale_and_offset)
Q8_0 = Codec(_q8_0, _scale)
