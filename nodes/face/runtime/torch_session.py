"""Graphs run by torch, on whatever device it has; neither onnx nor onnxruntime is needed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ...errors import UserInputError
from .onnx_model import DataType, Model, OnnxFileError, OnnxUnsupportedError, ValueInfo, read_model
from .session import TensorSpec
from .torch_ops.registry import TORCH_TYPES
from .torch_program import Program, UnsupportedGraphError

Precision = Literal["float32", "float16"]


class TorchSession:
    """A ``session.Session``.

    Attributes:
        path: the file.
        provider: device and precision, e.g. ``torch cuda:0 float16``.
        note: empty; whoever chose the device and the precision may say why.
        device: where it computes, and where outputs lie.
        module: holds the weights. They are created on `device`, may be moved away between runs, and are then
            fetched one by one while a graph runs.
    """

    note: str

    def __init__(self, path: Path, device: torch.device, precision: Precision = "float32") -> None:
        """Reads a file and plans its graph.

        Raises:
            UserInputError: ``onnx_contract`` for a file that is no sound ONNX model, ``onnx_unsupported`` for one with
                operators, attributes or element types that are not implemented, naming all of them.
        """
        try:
            model = read_model(path)
        except OnnxUnsupportedError as error:
            raise _unsupported(path, str(error)) from error
        except OnnxFileError as error:
            raise _broken(path, str(error)) from error
        self._load(model, path, device, precision)

    @classmethod
    def from_model(
        cls, model: Model, path: Path, device: torch.device, precision: Precision = "float32"
    ) -> TorchSession:
        """A session for a model that was read, and perhaps edited; `path` is where it came from.

        On the CPU in its own precision the session shares the model's memory. Raises like the constructor.
        """
        session = cls.__new__(cls)
        session._load(model, path, device, precision)
        return session

    def _load(self, model: Model, path: Path, device: torch.device, precision: Precision) -> None:
        types = _types(model, device, precision)
        try:
            self.module = Program(model, device, types)
        except UnsupportedGraphError as error:
            raise _unsupported(path, f"it needs {error}") from error
        except OnnxFileError as error:
            raise _broken(path, str(error)) from error
        self.path = path
        self.note = ""
        self.device = device
        self.provider = f"torch {device} {precision}"
        self.inputs = tuple(_spec(info) for info in self.module.inputs)
        self.outputs = tuple(_spec(info) for info in self.module.outputs)

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See ``session.Session``. A batch of another size than the graph's works where its operators allow it.

        Raises:
            ValueError: an input is missing, unknown or of another shape.
            RuntimeError: a step failed; the text names it.
        """
        expected = [spec.name for spec in self.inputs]
        if set(feeds) != set(expected):
            raise ValueError(f"{self.path.name} takes {expected}, not {sorted(feeds)}")
        for spec, info in zip(self.inputs, self.module.inputs, strict=True):
            shape = tuple(feeds[spec.name].shape)
            free = (None, *spec.shape[1:]) if spec.shape else ()
            fits = len(shape) == len(free) and all(b in (None, a) for a, b in zip(shape, free, strict=True))
            # Without dims the rank is open.
            if info.dims is not None and not fits:
                raise ValueError(f"{self.path.name}: input {spec.name!r} has shape {shape}, not {spec.shape}")
        try:
            with torch.inference_mode():
                values = self.module(feeds)
        except torch.OutOfMemoryError:
            # ComfyUI knows this error and frees memory.
            raise
        except RuntimeError as error:
            raise RuntimeError(f"{self.path.name}: {error}") from error
        # Copies made outside inference mode may be written to, and share no memory with weights or inputs.
        return {
            spec.name: value.to(self.device, torch.float32, copy=True)
            for spec, value in zip(self.outputs, values, strict=True)
        }


def _types(model: Model, device: torch.device, precision: Precision) -> dict[DataType, torch.dtype]:
    """The torch types that stand for the graph's element types.

    In single precision every kind of half stands for single. In half precision single stands for half, unless the
    graph has weights in half itself: then its own choice of what stays single is kept.
    """
    types = dict(TORCH_TYPES)
    if device.type == "mps":
        # Metal has no double precision.
        types[DataType.DOUBLE] = torch.float32
    if precision == "float32":
        types[DataType.FLOAT16] = types[DataType.BFLOAT16] = torch.float32
    elif not _has_half_weights(model):
        types[DataType.FLOAT] = torch.float16
    return types


def _has_half_weights(model: Model) -> bool:
    # Only those that are read: inswapper's files carry a projection, of any type, that no node uses.
    read = {name for node in model.graph.nodes for name in node.inputs}
    return any(tensor.data_type == DataType.FLOAT16 and tensor.name in read for tensor in model.graph.initializers)


def _spec(info: ValueInfo) -> TensorSpec:
    return TensorSpec(
        info.name, tuple(size if isinstance(size, int) and size > 0 else None for size in info.dims or ())
    )


def _unsupported(path: Path, problem: str) -> UserInputError:
    return UserInputError(
        "onnx_unsupported",
        path.name,
        f"the torch engine cannot run it: {problem}",
        "Choose another model of this kind, or a runtime that knows its operators: onnxruntime",
    )


def _broken(path: Path, problem: str) -> UserInputError:
    return UserInputError("onnx_contract", path.name, problem, "Download the file again")
