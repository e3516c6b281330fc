"""A Flux model of 5 million random weights, as GGUF files of any tensor type."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.ldm.flux.model
import comfy.ops
import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as GType
from numpy.typing import NDArray

from flux_face.tests.gguf.random_blocks import random_blocks

HIDDEN = 256
CONTEXT = 768
CHANNELS = 16

Choose = Callable[[str], GType]


def make_weights(seed: int = 0) -> dict[str, torch.Tensor]:
    """Random float32 weights under the names Flux files use."""
    config: dict[str, Any] = {
        "image_model": "flux",
        "in_channels": CHANNELS,
        "out_channels": CHANNELS,
        "patch_size": 2,
        "vec_in_dim": 768,
        "context_in_dim": CONTEXT,
        "hidden_size": HIDDEN,
        "mlp_ratio": 4.0,
        "num_heads": HIDDEN // 128,
        "depth": 1,
        "depth_single_blocks": 2,
        "axes_dim": [16, 56, 56],
        "theta": 10000,
        "qkv_bias": True,
        "guidance_embed": True,
        "txt_ids_dims": [],
    }
    generator = torch.Generator().manual_seed(seed)
    model = comfy.ldm.flux.model.Flux(**config, dtype=torch.float32, operations=comfy.ops.disable_weight_init)
    weights = {}
    for name, value in model.state_dict().items():
        file_name = name.replace("_norm.weight", "_norm.scale")
        if file_name.endswith("scale"):
            weights[file_name] = torch.ones(value.shape)
        else:
            spread = 0.4 / value.shape[-1] ** 0.5 if value.ndim == 2 else 0.02
            weights[file_name] = torch.randn(value.shape, generator=generator) * spread
    return weights


def packed(tensor_type: GType, value: torch.Tensor, seed: int) -> NDArray[np.uint8]:
    """``value`` quantised by gguf-py, or random blocks of a like size where gguf-py has no quantiser for the type."""
    data = value.numpy()
    try:
        quantised: NDArray[np.uint8] = gguf.quantize(data, tensor_type)
        return quantised.view(np.uint8)
    except NotImplementedError:
        blocks = random_blocks(tensor_type, data.size, seed, scale=float(data.std()) / 400)
        return blocks.reshape(data.shape[0], -1)


def write(
    path: Path,
    choose: Choose,
    *,
    prefix: str = "",
    architecture: str = "flux",
    weights: dict[str, torch.Tensor] | None = None,
) -> dict[str, torch.Tensor]:
    """Writes the model; matrices get the type that ``choose`` names where its blocks fit, vectors float32.

    Returns:
        the weights as gguf-py reads them back: float32.
    """
    writer = gguf.GGUFWriter(str(path), architecture)
    dense = {}
    for index, (name, value) in enumerate((weights or make_weights()).items()):
        tensor_type = choose(name) if value.ndim == 2 else GType.F32
        if value.shape[-1] % gguf.GGML_QUANT_SIZES[tensor_type][0]:
            tensor_type = GType.F32
        data = packed(tensor_type, value, index)
        writer.add_tensor(prefix + name, data, raw_dtype=tensor_type)
        dense[name] = torch.from_numpy(gguf.dequantize(data, tensor_type).reshape(value.shape).copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return dense
