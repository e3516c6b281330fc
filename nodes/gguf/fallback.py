"""Types that this pack does not decode itself (IQ1, IQ2, IQ3, NVFP4), through gguf-py if it is installed."""

from __future__ import annotations

import importlib
from pathlib import Path

import torch

from ..errors import UserInputError
from .container import TensorInfo


def dequantize_with_gguf_py(packed: torch.Tensor, info: TensorInfo, path: Path) -> torch.Tensor:
    """float32 values, flat.

    Raises:
        UserInputError: ``gguf_type`` if gguf-py is missing or does not know the type.
    """
    name = info.tensor_type.name
    try:
        gguf = importlib.import_module("gguf")
    except ImportError as error:
        raise UserInputError(
            "gguf_type",
            path.name,
            f"tensor {info.name!r} has the type {name}, which needs the Python package gguf",
            "Install it (pip install gguf) or use a file with other types, such as Q4_K, Q6_K or Q8_0",
        ) from error
    try:
        values = gguf.dequantize(packed.numpy(), gguf.GGMLQuantizationType[name])
    except (KeyError, NotImplementedError) as error:
        raise UserInputError(
            "gguf_type",
            path.name,
            f"tensor {info.name!r} has the type {name}, which cannot be dequantised",
            "Use a file with other types, such as Q4_K, Q6_K or Q8_0",
        ) from error
    return torch.from_numpy(values).reshape(-1)
