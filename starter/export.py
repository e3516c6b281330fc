"""Writes trained weights in the files that ComfyUI loads: a Flux GGUF and a VAE safetensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from . import vae
from .flux import from_released, to_released

FLUX_FILE = "flux-face-starter-Q8_0.gguf"
VAE_FILE = "flux-face-starter-vae.safetensors"

# 32 weights share a scale in Q8_0, so a row has to be a multiple of it.
_Q8_BLOCK = 32


def write_flux(state: dict[str, Tensor], path: Path) -> None:
    """`state`: the twin's weights. The matrices of the blocks become Q8_0, other matrices F16, vectors F32.

    This is the choice of the released Flux GGUF files.
    """
    from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType
    from gguf.quants import quantize

    partial = path.with_name(path.name + ".partial")
    writer = GGUFWriter(partial, "flux")
    writer.add_name("Flux Face starter")
    writer.add_license("GPL-3.0")
    writer.add_quantization_version(2)
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0)
    for name, tensor in to_released(state).items():
        values = tensor.detach().float().numpy()
        if values.ndim == 2 and "_blocks." in name:
            assert values.shape[1] % _Q8_BLOCK == 0, name
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)
        elif values.ndim == 2:
            writer.add_tensor(name, values.astype(np.float16))
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.replace(path)


def write_vae(encoder: vae.Encoder, decoder: vae.Decoder, path: Path) -> None:
    partial = path.with_name(path.name + ".partial")
    # `save_file` would make the file readable by its owner only.
    partial.write_bytes(save(vae.state_dict(encoder, decoder), metadata={"format": "pt", "license": "GPL-3.0"}))
    partial.replace(path)


def read_flux(path: Path) -> dict[str, Tensor]:
    """The weights of a GGUF written by `write_flux`, dequantised to float32, in the twin's channel order."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    state = {}
    for tensor in GGUFReader(path).tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        state[tensor.name] = torch.from_numpy(values.reshape(tuple(int(n) for n in reversed(tensor.shape))))
    return from_released(state)
