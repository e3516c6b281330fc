"""Random valid blocks of every tensor type: gguf-py has no quantiser for most of them."""

from __future__ import annotations

import gguf
import numpy as np
from gguf import GGMLQuantizationType as GType
from numpy.typing import NDArray


def random_blocks(tensor_type: GType, values: int, seed: int, scale: float = 0.01) -> NDArray[np.uint8]:
    """Random blocks with every bit in use and float16 scales of about ``scale``: uint8 ``[blocks, bytes]``."""
    block_values, block_bytes = gguf.GGML_QUANT_SIZES[tensor_type]
    rng = np.random.default_rng(seed)
    count = values // block_values
    blocks = rng.integers(0, 256, (count, block_bytes), dtype=np.uint8)
    for start in HALF_OFFSETS.get(tensor_type, ()):
        halves = rng.uniform(0.5, 1.5, count) * rng.choice([-1, 1], count) * scale
        blocks[:, start : start + 2] = halves.astype("<f2").view(np.uint8).reshape(count, 2)
    if tensor_type == GType.MXFP4:
        blocks[:, 0] = rng.integers(110, 130, count)
    return blocks


# Where the float16 scales of a block are.
HALF_OFFSETS: dict[GType, tuple[int, ...]] = {
    GType.Q4_0: (0,),
    GType.Q4_1: (0, 2),
    GType.Q5_0: (0,),
    GType.Q5_1: (0, 2),
    GType.Q8_0: (0,),
    GType.Q2_K: (80, 82),
    GType.Q3_K: (108,),
    GType.Q4_K: (0, 2),
    GType.Q5_K: (0, 2),
    GType.Q6_K: (208,),
    GType.IQ4_NL: (0,),
    GType.IQ4_XS: (0,),
    GType.TQ1_0: (52,),
    GType.TQ2_0: (64,),
    GType.IQ2_XXS: (0,),
    GType.IQ2_XS: (0,),
    GType.IQ2_S: (0,),
    GType.IQ3_XXS: (0,),
    GType.IQ3_S: (0,),
    GType.IQ1_S: (0,),
}
