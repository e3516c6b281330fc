"""Block decoding on a GPU: the Triton counterpart of ``blocks``.

A block consists of parts, runs of 16 or 32 consecutive values that share their factors and the position of their bits
in a byte. Every decoder takes

- ``data``: pointers to the first byte of a block, ``[rows]``,
- ``part``: which part of its block each row is, int32 ``[rows]``,
- ``lane``: the positions in a part, int32 ``[width]``,

and returns the float32 values ``[rows, width]``. Factors stay one-dimensional to the end: in two dimensions every
thread would read them once for each of its values. Memory is read byte by byte, so blocks may lie at any address; the
compiler joins reads where it can prove them aligned. Products and sums are rounded one by one, in the order of
gguf-py's ``quants.py``, provided that the kernel is compiled without fused multiply-add.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import triton
import triton.language as tl

from ..tensor_types import TensorType


@triton.jit
def _byte(pointer: tl.tensor) -> tl.tensor:
    return tl.load(pointer).to(tl.int32)


@triton.jit
def _half(pointer: tl.tensor) -> tl.tensor:
    """The float16 at ``pointer``."""
    bits = _byte(pointer) | (_byte(pointer + 1) << 8)
    return bits.to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)


@triton.jit
def _fields(first: tl.tensor, lane: tl.tensor, shift: tl.tensor, mask: tl.constexpr) -> tl.tensor:
    """The field at bit ``shift``, ``[rows]``, of each byte from ``first`` on: int32 ``[rows, width]``."""
    return (_byte(first[:, None] + lane[None, :]) >> shift[:, None]) & mask


@triton.jit
def _scaled(integers: tl.tensor, scale: tl.tensor) -> tl.tensor:
    return integers.to(tl.float32) * scale[:, None]


@triton.jit
def _five_bits(high: tl.tensor, low: tl.tensor, part: tl.tensor, lane: tl.tensor) -> tl.tensor:
    """Nibbles at ``low``, completed by one bit per value from the four bytes at ``high``."""
    bits = _byte(high + 2 * part) | (_byte(high + 2 * part + 1) << 8)
    return _fields(low, lane, 4 * part, 15) | (((bits[:, None] >> lane[None, :]) & 1) << 4)


@triton.jit
def _q4_0(data: tl.tensor, part: tl.tensor, lane: tl.tensor) -> tl.tensor:
    return _scaled(_fields(data + 2, lane, 4 * part, 15) - 8, _half(data))


@triton.jit
def _q4_1(data: tl.tensor, part: tl.tensor, lane: tl.tensor) -> tl.tensor:
    return _scaled(_fields(data + 4, lane, 4 * part, 15), _half(data)) + _half(data + 2)[:, None]


@triton.jit
def _q5_0(data: tl.tensor, part: tl.tensor, lane: tl.tensor) -> tl.tensor:
    return _scaled(_five_bits(data + 2, data + 6, part, lane) - 16, _half(data))


@triton.jit
def _q5_1(data: tl.tensor, part: tl.tensor, lane: tl.tensor) -> tl.tensor:
    return _scaled(_five_bits(data + 4, data + 8, part, lane), _half(data)) + _half(data + 2)[:, None]


@triton.jit
def _q8_0(data: tl.tensor, _part: tl.tensor, lane: tl.tensor) -> tl.tensor:
    return _scaled(tl.load((data + 2)[:, None] + lane[None, :]).to(tl.int8, bitcast=True), _half(data))


@triton.jit
def _two_bits(quarters: tl.tensor, part: tl.tensor, lane: tl.tensor) -> tl.tensor:
    """One of the four fields of the bytes at ``quarters``: parts 0 to 7 are the fields of the first 32 bytes."""
    return _fields(quarters + 32 * (part // 8) + 16 * (part % 2), lane, 2 * (part // 2 % 4), 3)


@triton.jit
def _q2_k(data: tl.tensor, part: tl.tensor, lane: tl.tensor) -> tl.tensor:
    factors = _byte(data + part)
    scale = (factors & 15).to(tl.float32) * _half(data + 80)
    minimum = (factors >> 4).to(tl.float32) * _half(data + 82)
    return _scaled(_two_bits(data + 16, part, lane), scale) - minimum[:, None]


@triton.jit
def _q3_k(data: tl.tensor, part: tl.tensor, lane: tl.tensor) -> tl.tensor:
    low = (_byte(data + 96 + part % 8) >> (4 * (part // 8))) & 15
    high = (_byte(data + 104 + part % 4) >> (2 * (part // 4))) & 3
    scale = ((low | (high << 4)) - 32).to(tl.float32) * _half(data + 108)
    # The third bit is stored inverted: set means "no 4 to subtract".
    third = _fields(data + 16 * (part % 2), lane, part // 2, 1)
    return _scaled((_two_bits(data + 32, part, lane) | (third << 2)) - 4, scale)


@triton.jit
def _with_scale_and_minimum(integers: tl.tensor, data: tl.tensor, part: tl.tensor) -> tl.tensor:
    """Q4_K's and Q5_K's ``integers`` as values.

    Parts 0 to 3 keep the six bits of scale and minimum in bytes 4 to 11; parts 4 to 7 keep four bits in bytes 12 to 15
    and two in the tops of the former.
    """
    first_scale = _byte(data + 4 + part % 4)
    first_minimum = _byte(data + 8 + part % 4)
    rest = _byte(data + 12 + part % 4)
    scale = tl.where(part < 4, first_scale & 63, (rest & 15) | ((first_scale >> 2) & 48))
    minimum = tl.where(part < 4, first_minimum & 63, (rest >> 4) | ((first_minimum >> 2) & 48))
    offset = minimum.to(tl.float32) * _half(data + 2)
    return _scaled(integers, scale.to(tl.float32) * _half(data)) - offset[:, None]


@triton.jit
def _q4_k(data: tl.tensor, part: tl.tensor, lane: tl.tensor) -> tl.tensor:
    integers = _fields(data + 16 + 32 * (part // 2), lane, 4 * (part % 2), 15)
    return _with_scale_and_minimum(integers, data, part)


@triton.jit
def _q5_k(data: tl.tensor, part: tl.tensor, lane: tl.tensor) -> tl.tensor:
    low = _fields(data + 48 + 32 * (part // 2), lane, 4 * (part % 2), 15)
    return _with_scale_and_minimum(low | (_fields(data + 16, lane, part, 1) << 4), data, part)


@triton.jit
def _q6_k(data: tl.tensor, part: tl.tensor, lane: tl.tensor) -> tl.tensor:
    low = _fields(data + 64 * (part // 8) + 16 * (part % 4), lane, 4 * (part // 4 % 2), 15)
    scale = tl.load(data + 192 + part).to(tl.int8, bitcast=True).to(tl.float32) * _half(data + 208)
    return _scaled((low | (_two_bits(data + 128, part, lane) << 4)) - 32, scale)


@triton.jit
def _table_values(
    index: tl.tensor, first: tl.constexpr, second: tl.constexpr, third: tl.constexpr, fourth: tl.constexpr
) -> tl.tensor:
    """Entry ``index`` of sixteen int8 that are packed into four int32, the lowest byte first."""
    word = tl.where(index < 8, tl.where(index < 4, first, second), tl.where(index < 12, third, fourth))
    return (word >> (8 * (index % 4))).to(tl.int8)


@triton.jit
def _iq4_values(index: tl.tensor) -> tl.tensor:
    # -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113
    return _table_values(index, -1079142271, -152379953, 639175937, 1901675829)


@triton.jit
def _iq4_nl(data: tl.tensor, part: tl.tensor, lane: tl.tensor) -> tl.tensor:
    return _scaled(_iq4_values(_fields(data + 2, lane, 4 * part, 15)), _half(data))


@triton.jit
def _iq4_xs(data: tl.tensor, part: tl.tensor, lane: tl.tensor) -> tl.tensor:
    group = part // 2
    low = (_byte(data + 4 + group // 2) >> (4 * (group % 2))) & 15
    high = (_byte(data + 2 + group // 4) >> (2 * (group % 4))) & 3
    scale = ((low | (high << 4)) - 32).to(tl.float32) * _half(data)
    return _scaled(_iq4_values(_fields(data + 8 + 16 * group, lane, 4 * (part % 2), 15)), scale)


@triton.jit
def _mxfp4(data: tl.tensor, part: tl.tensor, lane: tl.tensor) -> tl.tensor:
    exponent = _byte(data)
    # Half of 2 ** (e - 127) as float32 bits; the two lowest exponents are subnormal.
    scale = tl.where(exponent < 2, 0x00200000 << exponent, (exponent - 1) << 23).to(tl.float32, bitcast=True)
    # E2M1 doubled: 0, 1, 2, 3, 4, 6, 8, 12 and the same negated.
    index = _fields(data + 1, lane, 4 * part, 15)
    return _scaled(_table_values(index, 50462976, 201852420, -33620224, -185009412), scale)


@dataclass(frozen=True)
class Decoder:
    """A block type's decoder and the number of values in one part."""

    function: Callable[..., Any]
    width: int


DECODERS: dict[TensorType, Decoder] = {
    TensorType.Q4_0: Decoder(_q4_0, 16),
    TensorType.Q4_1: Decoder(_q4_1, 16),
    TensorType.Q5_0: Decoder(_q5_0, 16),
    TensorType.Q5_1: Decoder(_q5_1, 16),
    TensorType.Q8_0: Decoder(_q8_0, 32),
    TensorType.Q2_K: Decoder(_q2_k, 16),
    TensorType.Q3_K: Decoder(_q3_k, 16),
    TensorType.Q4_K: Decoder(_q4_k, 32),
    TensorType.Q5_K: Decoder(_q5_k, 32),
    TensorType.Q6_K: Decoder(_q6_k, 16),
    TensorType.IQ4_NL: Decoder(_iq4_nl, 16),
    TensorType.IQ4_XS: Decoder(_iq4_xs, 16),
    TensorType.MXFP4: Decoder(_mxfp4, 16),
}
