"""Types whose integers come from a table (IQ4_NL, IQ4_XS, MXFP4)."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from .codec import Codec, Factors, half, part

_IQ4_VALUES = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
# E2M1 doubled; the block scale carries the half.
_FP4_VALUES = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)


def _iq4_nl_factors(blocks: Tensor) -> Factors:
    return half(blocks, 0), None


def _iq4_nl(blocks: Tensor, out: Tensor) -> None:
    _write_table_values(part(blocks, 2, 18), out.view(-1, 1, 2, 16), _IQ4_VALUES)


def _iq4_xs_factors(blocks: Tensor) -> Factors:
    scales_low, scales_high = blocks[:, 4:8], blocks[:, 2:4]
    low = torch.stack([scales_low & 15, scales_low >> 4], dim=2).view(-1, 8)
    high = torch.stack([(scales_high >> shift) & 3 for shift in (0, 2, 4, 6)], dim=2).view(-1, 8)
    return ((low | (high << 4)).view(torch.int8) - 32).float() * half(blocks, 0), None


def _iq4_xs(blocks: Tensor, out: Tensor) -> None:
    _write_table_values(part(blocks, 8, 136), out.view(-1, 8, 2, 16), _IQ4_VALUES)


def _mxfp4_factors(blocks: Tensor) -> Factors:
    exponent = blocks[:, 0:1].to(torch.int32)
    # Half of 2 ** (e - 127) as float32 bits; the two lowest exponents are subnormal.
    bits = torch.where(exponent < 2, 0x00200000 << exponent.clamp(max=1), (exponent - 1) << 23)
    return bits.view(torch.float32), None


def _mxfp4(blocks: Tensor, out: Tensor) -> None:
    _write_table_values(part(blocks, 1, 17), out.view(-1, 1, 2, 16), _FP4_VALUES)


def _write_table_values(packed: Tensor, out: Tensor, values: tuple[int, ...]) -> None:
    """Looks up both nibbles of every byte; ``packed`` uint8 ``[n, g * 16]``, ``out`` float32 ``[n, g, 2, 16]``."""
    # One look-up for both: the table's entry for a byte is a pair of int8.
    pairs = _pair_table(values, packed.device).index_select(0, packed.to(torch.int32).view(-1))
    out.copy_(pairs.view(torch.int8).view(-1, out.shape[1], 16, 2).transpose(2, 3))


@cache
def _pair_table(values: tuple[int, ...], device: torch.device) -> Tensor:
    """int16 ``[256]``: for every byte, the values of its low and its high nibble as two int8 in memory order."""
    pairs = [[values[byte & 15], values[byte >> 4]] for byte in range(256)]
    return torch.tensor(pairs, dtype=torch.int8).view(torch.int16).view(-1).to(device)


IQ4_NL = Codec(_iq4_nl, _iq4_nl_factors)
IQ4_XS = Codec(_iq4_xs, _iq4_xs_factors)
MXFP4 = Codec(_mxfp4, _mxfp4_factors)
