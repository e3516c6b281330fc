"""Block decoding: for every tensor type the integers of its blocks, and the factors that turn them into weights.

A weight is ``integer * scale + offset``. The two parts are apart because they differ in size by the length of a
sub-block: factors are few, integers are what costs. The arithmetic is float32 in the order of gguf-py's ``quants.py``,
so results are equal bit for bit. Integers are unpacked in uint8, a quarter of the memory traffic of float32.
"""

from __future__ import annotations

from ..tensor_types import TensorType
from . import k_quants, legacy, lookup, ternary
from .codec import Codec

CODECS: dict[TensorType, Codec] = {
    TensorType.F32: legacy.F32,
    TensorType.F16: legacy.F16,
    TensorType.BF16: legacy.BF16,
    TensorType.Q4_0: legacy.Q4_0,
    TensorType.Q4_1: legacy.Q4_1,
    TensorType.Q5_0: legacy.Q5_0,
    TensorType.Q5_1: legacy.Q5_1,
    TensorType.Q8_0: legacy.Q8_0,
    TensorType.Q2_K: k_quants.Q2_K,
    TensorType.Q3_K: k_quants.Q3_K,
    TensorType.Q4_K: k_quants.Q4_K,
    TensorType.Q5_K: k_quants.Q5_K,
    TensorType.Q6_K: k_quants.Q6_K,
    TensorType.IQ4_NL: lookup.IQ4_NL,
    TensorType.IQ4_XS: lookup.IQ4_XS,
    TensorType.MXFP4: lookup.MXFP4,
    TensorType.TQ1_0: ternary.TQ1_0,
    TensorType.TQ2_0: ternary.TQ2_0,
}
