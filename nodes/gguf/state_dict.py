"""A GGUF file as a state dict: packed weights where the model can use them, dense tensors elsewhere."""

from __future__ import annotations

import logging
from collections import Counter

import torch

from ..errors import UserInputError
from .architectures import prefix_of, strip_prefix
from .blocks import CODECS
from .container import Container, TensorInfo
from .dequantize import dequantize
from .fallback import dequantize_with_gguf_py
from .layout import pack
from .tensor_types import TensorType

log = logging.getLogger(__name__)

_PLAIN = {TensorType.F32: torch.float32, TensorType.F16: torch.float16, TensorType.BF16: torch.bfloat16}
_ORIGINAL_SHAPE = "comfy.gguf.orig_shape."


def read_state_dict(container: Container, dtype: torch.dtype, *, own_memory: bool) -> dict[str, torch.Tensor]:
    """All tensors by name, without the checkpoint's prefix.

    Matrices named ``*.weight`` stay packed. Whatever else is quantised (convolutions, position tables, vectors) is
    dequantised to float32 here, once, because ComfyUI reads such weights in ways blocks cannot serve.

    Args:
        container: the file.
        dtype: what packed weights dequantise to unless a layer asks otherwise.
        own_memory: copy the data instead of keeping views of the mapped file.

    Raises:
        UserInputError: ``gguf_type`` if a tensor's type cannot be decoded, ``gguf_invalid`` if the metadata gives a
            tensor a shape that does not fit.
    """
    prefix = prefix_of(tensor.name for tensor in container.tensors)
    state: dict[str, torch.Tensor] = {}
    for info in container.tensors:
        if prefix and not info.name.startswith(prefix):
            continue
        state[strip_prefix(info.name, prefix)] = _tensor(container, info, dtype, own_memory)
    types = Counter(info.tensor_type.name for info in container.tensors)
    log.info("%s: %s", container.path.name, ", ".join(f"{count} {name}" for name, count in types.most_common()))
    return state


def _tensor(container: Container, info: TensorInfo, dtype: torch.dtype, own_memory: bool) -> torch.Tensor:
    shape = _shape(container, info)
    data = container.read(info) if own_memory else container.packed(info)
    plain = _PLAIN.get(info.tensor_type)
    if plain is not None:
        return data.view(plain).view(shape)
    if info.tensor_type not in CODECS:
        log.info("%s: %s is %s, dequantised once now", container.path.name, info.name, info.tensor_type.name)
        return dequantize_with_gguf_py(data, info, container.path).view(shape)
    if len(shape) == 2 and shape == info.shape and info.name.endswith(".weight"):
        packed: torch.Tensor = pack(data, info.tensor_type, (shape[0], shape[1]), dtype)
        return packed
    return dequantize(data, info.tensor_type, shape, torch.float32)


def _shape(container: Container, info: TensorInfo) -> tuple[int, ...]:
    """The tensor's shape; converters that flatten tensors note the true one in the metadata."""
    noted = container.metadata.get(_ORIGINAL_SHAPE + info.name)
    if noted is None:
        return info.shape
    if isinstance(noted, list):
        shape = tuple(size for size in noted if isinstance(size, int) and not isinstance(size, bool) and size > 0)
        if len(shape) == len(noted) and torch.Size(shape).numel() == info.parameters:
            return shape
    raise UserInputError(
        "gguf_invalid",
        container.path.name,
        f"the metadata gives {info.name!r} the shape {noted!r}, which does not hold its {info.parameters} values",
        "Convert the model anew",
    )
