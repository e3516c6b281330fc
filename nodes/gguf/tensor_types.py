"""The tensor types of GGUF: their ids, names and block geometry (ggml.h, ``enum ggml_type``)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class TensorType(IntEnum):
    """A tensor type by its id in the file. Ids 4, 5, 31 to 33 and 36 to 38 were withdrawn from the format."""

    F32 = 0
    F16 = 1
    Q4_0 = 2
    Q4_1 = 3
    Q5_0 = 6
    Q5_1 = 7
    Q8_0 = 8
    Q8_1 = 9
    Q2_K = 10
    Q3_K = 11
    Q4_K = 12
    Q5_K = 13
    Q6_K = 14
    Q8_K = 15
    IQ2_XXS = 16
    IQ2_XS = 17
    IQ3_XXS = 18
    IQ1_S = 19
    IQ4_NL = 20
    IQ3_S = 21
    IQ2_S = 22
    IQ4_XS = 23
    I8 = 24
    I16 = 25
    I32 = 26
    I64 = 27
    F64 = 28
    IQ1_M = 29
    BF16 = 30
    TQ1_0 = 34
    TQ2_0 = 35
    MXFP4 = 39
    NVFP4 = 40


@dataclass(frozen=True)
class BlockGeometry:
    """Values per block and bytes per block. Plain types have one value per block."""

    values: int
    bytes: int


GEOMETRY: dict[TensorType, BlockGeometry] = {
    TensorType.F32: BlockGeometry(1, 4),
    TensorType.F16: BlockGeometry(1, 2),
    TensorType.Q4_0: BlockGeometry(32, 18),
    TensorType.Q4_1: BlockGeometry(32, 20),
    TensorType.Q5_0: BlockGeometry(32, 22),
    TensorType.Q5_1: BlockGeometry(32, 24),
    TensorType.Q8_0: BlockGeometry(32, 34),
    TensorType.Q8_1: BlockGeometry(32, 40),
    TensorType.Q2_K: BlockGeometry(256, 84),
    TensorType.Q3_K: BlockGeometry(256, 110),
    TensorType.Q4_K: BlockGeometry(256, 144),
    TensorType.Q5_K: BlockGeometry(256, 176),
    TensorType.Q6_K: BlockGeometry(256, 210),
    TensorType.Q8_K: BlockGeometry(256, 292),
    TensorType.IQ2_XXS: BlockGeometry(256, 66),
    TensorType.IQ2_XS: BlockGeometry(256, 74),
    TensorType.IQ3_XXS: BlockGeometry(256, 98),
    TensorType.IQ1_S: BlockGeometry(256, 50),
    TensorType.IQ4_NL: BlockGeometry(32, 18),
    TensorType.IQ3_S: BlockGeometry(256, 110),
    TensorType.IQ2_S: BlockGeometry(256, 82),
    TensorType.IQ4_XS: BlockGeometry(256, 136),
    TensorType.I8: BlockGeometry(1, 1),
    TensorType.I16: BlockGeometry(1, 2),
    TensorType.I32: BlockGeometry(1, 4),
    TensorType.I64: BlockGeometry(1, 8),
    TensorType.F64: BlockGeometry(1, 8),
    TensorType.IQ1_M: BlockGeometry(256, 56),
    TensorType.BF16: BlockGeometry(1, 2),
    TensorType.TQ1_0: BlockGeometry(256, 54),
    TensorType.TQ2_0: BlockGeometry(256, 66),
    TensorType.MXFP4: BlockGeometry(32, 17),
    TensorType.NVFP4: BlockGeometry(64, 36),
}
