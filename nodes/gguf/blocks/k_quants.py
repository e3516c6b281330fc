"""The 256-value K-quant super-blocks (Q2_K to Q6_K)."""

from __future__ import annotations

import torch
from torch import Tensor

from .codec import Codec, Factors, bit_planes, half, nibbles, part


def _q2_k_factors(blocks: Tensor) -> Factors:
    scales = blocks[:, 0:16]
    return (scales & 15).float() * half(blocks, 80), ((scales >> 4).float() * half(blocks, 82)).neg_()


def _q2_k(blocks: Tensor, out: Tensor) -> None:
    _write_quarters(part(blocks, 16, 80), out)


def _q3_k_factors(blocks: Tensor) -> Factors:
    low, high = blocks[:, 96:104], blocks[:, 104:108]
    scales = torch.cat([low & 15, low >> 4], dim=1)
    scales |= torch.cat([(high >> shift) & 3 for shift in (0, 2, 4, 6)], dim=1) << 4
    return (scales.view(torch.int8) - 32).float() * half(blocks, 108), None


def _q3_k(blocks: Tensor, out: Tensor) -> None:
    _write_quarters(part(blocks, 32, 96), out)
    # The third bit is stored inverted: set means "no 4 to subtract".
    out.add_(bit_planes(part(blocks, 0, 32), 4)).sub_(4)


def _q4_k(blocks: Tensor, out: Tensor) -> None:
    packed = part(blocks, 16, 144)
    target = out.view(-1, 4, 2, 32)
    target[:, :, 0].copy_((packed & 15).view(-1, 4, 32))
    target[:, :, 1].copy_((packed >> 4).view(-1, 4, 32))


def _q5_k(blocks: Tensor, out: Tensor) -> None:
    values = nibbles(part(blocks, 48, 176), 4).view(-1, 256)
    out.copy_(values.bitwise_or_(bit_planes(part(blocks, 16, 48), 16)))


def _q6_k_factors(blocks: Tensor) -> Factors:
    return blocks[:, 192:208].view(torch.int8).float() * half(blocks, 208), None


def _q6_k(blocks: Tensor, out: Tensor) -> None:
    low, high = part(blocks, 0, 128), part(blocks, 128, 192)
    values = low.new_empty(low.shape[0], 2, 4, 32)
    # Bits 2 * field and 2 * field + 1 of every high byte, moved to bits 4 and 5.
    for field, moved in enumerate((high << 4, high << 2, high, high >> 2)):
        values[:, :, field].copy_((moved & 48).view(-1, 2, 32))
    values.view(-1, 256).bitwise_or_(nibbles(low, 2).view(-1, 256))
    out.copy_(values.view(torch.int8).sub_(32).view(-1, 256))


def _write_quarters(packed: Tensor, out: Tensor) -> None:
    """The four fields of two bits in ``packed`` ``[n, 64]``, field by field for each half."""
    target = out.view(-1, 2, 4, 32)
    for field in range(4):
        value = packed >> (2 * field) if field else packed
        target[:, :, field].copy_((value & 3).view(-1, 2, 32))


def _scales_and_minima(blocks: Tensor) -> Factors:
    """Scales and minima of the eight sub-blocks of Q4_K and Q5_K.

    Sub-blocks 0 to 3 keep their six bits in bytes 4 to 11; sub-blocks 4 to 7 keep four bits in bytes 12 to 15 and
    two in the tops of the former.
    """
    first_scale, first_minimum, rest = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scale = torch.cat([first_scale & 63, (rest & 15) | ((first_scale >> 2) & 48)], dim=1)
    minimum = torch.cat([first_minimum & 63, (rest >> 4) | ((first_minimum >> 2) & 48)], dim=1)
    return scale.float() * half(blocks, 0), (minimum.float() * half(blocks, 2)).neg_()


Q2_K = Codec(_q2_k, _q2_k_factors)
Q3_K = Codec(_q3_k, _q3_k_factors)
Q4_K = Codec(_q4_k, _scales_and_minima)
Q5_K = Codec(_q5_k, _scales_and_minima)
Q6_K = Codec(_q6_k, _q6_k_factors)
