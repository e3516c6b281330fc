"""Runs of an onnxruntime session on torch's tensors, without copies where both can share memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from .ort_providers import CPU, CUDA, SILENT, onnxruntime, tensor_device
from .session import TensorSpec

_DTYPES: dict[str, tuple[torch.dtype, type[np.generic]]] = {
    "tensor(float)": (torch.float32, np.float32),
    "tensor(float16)": (torch.float16, np.float16),
    "tensor(double)": (torch.float64, np.float64),
    "tensor(int64)": (torch.int64, np.int64),
    "tensor(int32)": (torch.int32, np.int32),
    "tensor(uint8)": (torch.uint8, np.uint8),
    "tensor(bool)": (torch.bool, np.bool_),
}
# Input sizes whose output sizes are remembered.
_REMEMBERED = 64


class ElementTypeError(ValueError):
    """An input or output is no tensor of numbers."""


@dataclass(frozen=True)
class _Port:
    name: str
    torch_type: torch.dtype
    numpy_type: type[np.generic]
    # The shape as declared: sizes, names of sizes, or None.
    declared: tuple[int | str | None, ...]

    @property
    def spec(self) -> TensorSpec:
        sizes = (size if isinstance(size, int) and size > 0 else None for size in self.declared)
        return TensorSpec(self.name, tuple(sizes))


class BoundSession:
    """An ``onnxruntime.InferenceSession`` whose inputs and outputs are torch tensors.

    Inputs are bound where they lie, in the graph's own element types. Outputs are written into torch's memory once a
    run has shown how large they are for inputs of these sizes; until then, and where their size may depend on the
    values, onnxruntime makes them and they are copied within the device.

    Attributes:
        provider: the execution provider that runs it.
        device: where inputs had best lie and where outputs lie: the GPU for CUDA, else the CPU.
        inputs, outputs: in the graph's order.
        half: whether any of them is float16.
    """

    def __init__(self, session: Any) -> None:
        """session: an ``onnxruntime.InferenceSession``.

        Raises:
            ElementTypeError: an input or output is no tensor of numbers.
        """
        self._session = session
        self.provider: str = session.get_providers()[0]
        self.device = tensor_device(self.provider)
        self._inputs = [_port(value) for value in session.get_inputs()]
        self._outputs = [_port(value) for value in session.get_outputs()]
        self.inputs = tuple(port.spec for port in self._inputs)
        self.outputs = tuple(port.spec for port in self._outputs)
        self.half = any(port.torch_type == torch.float16 for port in (*self._inputs, *self._outputs))
        self._names = {size for port in self._inputs for size in port.declared if isinstance(size, str)}
        self._sizes: dict[tuple[torch.Size, ...], dict[str, tuple[int, ...]]] = {}
        self._last: tuple[torch.Size, ...] | None = None

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All outputs by name, float32, on `device`.

        Raises:
            Exception: any of onnxruntime's, where the inputs do not fit the graph or memory runs out.
        """
        binding = self._session.io_binding()
        tensors = [feeds[port.name].to(self.device, port.torch_type).contiguous() for port in self._inputs]
        sizes = tuple(tensor.shape for tensor in tensors)
        for port, tensor in zip(self._inputs, tensors, strict=True):
            self._bind(binding.bind_input, port, tensor)
        known = self._sizes.get(sizes, {})
        made = {}
        for port in self._outputs:
            if port.name in known:
                made[port.name] = torch.empty(known[port.name], dtype=port.torch_type, device=self.device)
                self._bind(binding.bind_output, port, made[port.name])
            else:
                binding.bind_output(port.name, self.device.type, self.device.index or 0)
        if self.device.type == "cuda":
            # onnxruntime has a stream of its own; what torch's has queued must be in memory before it starts.
            torch.cuda.current_stream(self.device).synchronize()
        binding.synchronize_inputs()
        self._session.run_with_iobinding(binding, self._run_options(sizes))
        binding.synchronize_outputs()
        self._last = sizes
        for port, value in zip(self._outputs, binding.get_outputs(), strict=True):
            if port.name not in made:
                made[port.name] = _copied(value).to(self.device)
        if sizes not in self._sizes and len(self._sizes) < _REMEMBERED:
            shapes = {port.name: tuple(made[port.name].shape) for port in self._outputs}
            self._sizes[sizes] = {
                port.name: shapes[port.name] for port in self._outputs if self._settled(port, shapes[port.name])
            }
        return {port.name: made[port.name].float() for port in self._outputs}

    def _settled(self, port: _Port, shape: tuple[int, ...]) -> bool:
        """Whether an output of this shape has it whenever the inputs have their present sizes.

        A named size that no input has may depend on the values, and memory of a shape other than the declared one is
        refused, even if that is the true one.
        """
        fits = len(shape) == len(port.declared) and 0 not in shape
        return fits and all(size in (have, *self._names) for size, have in zip(port.declared, shape, strict=True))

    def _bind(self, bind: Any, port: _Port, tensor: Tensor) -> None:
        place = (self.device.type, self.device.index or 0)
        bind(port.name, *place, port.numpy_type, tuple(tensor.shape), tensor.data_ptr())

    def _run_options(self, sizes: Sequence[torch.Size]) -> Any:
        options = onnxruntime().RunOptions()
        options.log_severity_level = SILENT
        if sizes != self._last and self.provider in (CPU, CUDA):
            # Blocks that fitted the last sizes would stay in the arena beside those for the new ones.
            arena = f"gpu:{self.device.index or 0}" if self.provider == CUDA else "cpu:0"
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", arena)
        return options


def _port(value: Any) -> _Port:
    if value.type not in _DTYPES:
        raise ElementTypeError(f"{value.name!r} is a {value.type}, not a tensor of numbers")
    return _Port(value.name, *_DTYPES[value.type], tuple(value.shape))


def _copied(value: Any) -> Tensor:
    """The tensor in an ``OrtValue``, in torch's memory on the same device: onnxruntime's may go with its session."""
    inner = value._ortvalue
    if hasattr(inner, "to_dlpack"):
        shared: Tensor = from_dlpack(inner.to_dlpack())
        return shared.clone()
    # onnxruntime before 1.21 has no dlpack and hands out arrays of the CPU only.
    return torch.tensor(value.numpy())
