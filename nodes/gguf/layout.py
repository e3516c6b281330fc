"""GGUF blocks as a comfy-kitchen quantized tensor.

A packed weight is one ``QuantizedTensor`` under the layout name ``FluxFaceGGUFLayout``: its data stay uint8 blocks
wherever ComfyUI moves them (offload, pinned memory, streaming), and any operation that does not know the layout
dequantises and goes on. The name is our own because the registry keeps the last writer of a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from comfy_kitchen.tensor import BaseLayoutParams, QuantizedLayout, QuantizedTensor, register_layout_class

from .dequantize import dequantize
from .tensor_types import TensorType

LAYOUT_NAME = "FluxFaceGGUFLayout"


@dataclass(frozen=True)
class GGUFParams(BaseLayoutParams):
    """``orig_dtype`` is the dtype a dequantised copy gets; ``scale`` is unused, the scales are in the blocks."""

    tensor_type: TensorType = TensorType.Q8_0

    def _tensor_fields(self) -> list[str]:
        return []


class GGUFLayout(QuantizedLayout):
    """``qdata``: uint8 ``[rows, bytes per row]`` for a logical ``[rows, columns]`` weight."""

    Params = GGUFParams

    @classmethod
    def quantize(cls, tensor: torch.Tensor, **kwargs: Any) -> tuple[torch.Tensor, GGUFParams]:
        raise NotImplementedError("GGUF blocks are made by a converter; a weight cannot be packed again here")

    @classmethod
    def dequantize(cls, qdata: torch.Tensor, params: GGUFParams) -> torch.Tensor:
        return dequantize(qdata, params.tensor_type, params.orig_shape, params.orig_dtype)

    @classmethod
    def get_plain_tensors(cls, qtensor: QuantizedTensor) -> tuple[torch.Tensor, ...]:
        return (qtensor._qdata,)

    @classmethod
    def state_dict_tensors(cls, qdata: torch.Tensor, params: GGUFParams) -> dict[str, torch.Tensor]:
        return {"": cls.dequantize(qdata, params)}


register_layout_class(LAYOUT_NAME, GGUFLayout)


def pack(packed: torch.Tensor, tensor_type: TensorType, shape: tuple[int, int], dtype: torch.dtype) -> QuantizedTensor:
    """Wraps the blocks of a ``[rows, columns]`` weight (uint8, flat) that dequantises to ``dtype`` by default."""
    params = GGUFParams(scale=None, orig_dtype=dtype, orig_shape=shape, tensor_type=tensor_type)
    return QuantizedTensor(packed.view(shape[0], -1), LAYOUT_NAME, params)


def is_packed(value: object) -> bool:
    """True for a weight held as GGUF blocks."""
    return isinstance(value, QuantizedTensor) and value._layout_cls == LAYOUT_NAME


def dequantize_rows(weight: QuantizedTensor, rows: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """``weight[rows]`` dense, on the device of `rows`: ``[*rows.shape, columns]``.

    Only the wanted rows are moved, packed, and unpacked.
    """
    params: GGUFParams = weight._params
    columns = params.orig_shape[1]
    packed = weight._qdata.index_select(0, rows.reshape(-1).to(weight._qdata.device)).to(rows.device)
    return dequantize(packed, params.tensor_type, (*rows.shape, columns), dtype)
