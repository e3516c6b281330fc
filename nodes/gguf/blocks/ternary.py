"""The ternary types (TQ1_0, TQ2_0)."""

from __future__ import annotations

import torch
from torch import Tensor

from .codec import Codec, Factors, half


def _tq1_0_factors(blocks: Tensor) -> Factors:
    return half(blocks, 52), None


def _tq1_0(blocks: Tensor, out: Tensor) -> None:
    start = 0
    for first, last, digits in ((0, 32, 5), (32, 48, 5), (48, 52, 4)):
        packed = blocks[:, first:last]
        for power in range(digits):
            # A byte holds base-3 digits as a fraction of 256; multiplying modulo 256 moves one to the top.
            digit = ((packed * 3**power).to(torch.int16) * 3) >> 8
            out[:, start : start + last - first].copy_(digit - 1)
            start += last - first


def _tq2_0_factors(blocks: Tensor) -> Factors:
    return half(blocks, 64), None


def _tq2_0(blocks: Tensor, out: Tensor) -> None:
    target = out.view(-1, 2, 4, 32)
    packed = blocks[:, 0:64].unflatten(1, (2, 32))
    for field in range(4):
        target[:, :, field].copy_(((packed >> (2 * field)) & 3).view(torch.int8).sub_(1))


TQ1_0 = Codec(_tq1_0, _tq1_0_factors)
TQ2_0 = Codec(_tq2_0, _tq2_0_factors)
