"""Reads and writes ONNX models without the onnx package.

What has no place in the parts below (producer, documentation, metadata, functions) is kept as it was read and written
again.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..types import FloatArray
from .onnx_reader import Reader
from .onnx_types import Attribute, AttributeKind, DataType, Graph, Model, Node, Tensor, ValueInfo
from .onnx_wire import OnnxFileError, OnnxUnsupportedError
from .onnx_writer import model_bytes

__all__ = [
    "Attribute",
    "AttributeKind",
    "DataType",
    "Graph",
    "Model",
    "Node",
    "OnnxFileError",
    "OnnxUnsupportedError",
    "Tensor",
    "ValueInfo",
    "matrix_of_shape",
    "model_bytes",
    "parse_model",
    "read_model",
]

T = TypeVar("T")


def read_model(path: Path) -> Model:
    """The model in a file.

    Raises:
        OnnxFileError: the file is no ONNX model, is damaged or keeps tensors in another file.
        OnnxUnsupportedError: it holds element types that are not read.
    """
    return _mapped(path, lambda data: Reader().model(data))


def parse_model(data: bytes) -> Model:
    """The model in a file's bytes; raises like `read_model`."""
    return Reader().model(memoryview(data))


def matrix_of_shape(path: Path, rows: int, columns: int) -> FloatArray:
    """The only initializer of this shape, as float32; the other tensors are not read.

    Raises:
        OnnxFileError: none, or several that differ, or not floating point.
    """
    found = _mapped(path, lambda data: Reader().initializers_of_shape(data, (rows, columns)))
    if not found:
        raise OnnxFileError(f"{path.name} has no {rows}x{columns} initializer")
    if any(tensor.data_type not in (DataType.FLOAT, DataType.FLOAT16) for tensor in found):
        raise OnnxFileError(f"{path.name}: the {rows}x{columns} initializer is not float or float16")
    if any(not np.array_equal(found[0].values, other.values) for other in found[1:]):
        raise OnnxFileError(f"{path.name} has {len(found)} different {rows}x{columns} initializers")
    return found[0].values.astype(np.float32)


def _mapped(path: Path, read: Callable[[memoryview], T]) -> T:
    """What `read` makes of the file's bytes, without a copy of them; errors name the file."""
    if path.stat().st_size == 0:
        raise OnnxFileError(f"{path.name}: it is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return read(memoryview(data))
        except OnnxFileError as error:
            # Raised again below: its traceback holds views of the map, which could then not close.
            kind, problem = type(error), str(error)
    raise kind(f"{path.name}: {problem}")
