"""Runs the Triton kernels on given blocks.

As a script it does so on the CPU, in Triton's interpreter: ``TRITON_INTERPRET`` decides what Triton makes of every
kernel it meets, so it must be set for a whole process. The argument is a file of jobs, which the results replace.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch

from flux_face.nodes.gguf.kernels.expand import expand
from flux_face.nodes.gguf.tensor_types import GEOMETRY, TensorType

# Type id, blocks (uint8), dtype of the values, and how many elements past an aligned address both tensors start.
Job = tuple[int, torch.Tensor, torch.dtype, int]

# What lies before and after the values in memory, and must stay.
MARGIN = 32
MARK = 7.0


def run(jobs: Sequence[Job], device: str) -> list[torch.Tensor]:
    """For every job its values between two margins."""
    results = []
    for type_id, blocks, dtype, offset in jobs:
        geometry = GEOMETRY[TensorType(type_id)]
        packed = torch.cat([torch.zeros(offset, dtype=torch.uint8), blocks.reshape(-1)]).to(device)[offset:]
        values = packed.numel() // geometry.bytes * geometry.values
        frame = torch.full((offset + values + 2 * MARGIN,), MARK, dtype=dtype, device=device)
        framed = frame[offset:]
        expand(packed, TensorType(type_id), framed[MARGIN:-MARGIN])
        results.append(framed.cpu().clone())
    return results


def _float32_to_bfloat16(values: Any, *_dtypes: object) -> Any:
    return torch.from_numpy(values).bfloat16().view(torch.uint16).numpy()


if __name__ == "__main__":
    import triton.runtime.interpreter

    # The interpreter's own cuts off what GPUs round to nearest even.
    triton.runtime.interpreter._convert_float = _float32_to_bfloat16
    torch.save(run(torch.load(sys.argv[1]), "cpu"), sys.argv[1])
