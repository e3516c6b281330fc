"""Reads one initializer out of an ONNX file without the onnx package.

An ONNX file is a protocol-buffers message; of its wire format only what leads to an initializer is read: fields of
``ModelProto.graph`` (7), ``GraphProto.initializer`` (5) and ``TensorProto`` (dims 1, data_type 2, float_data 4,
raw_data 9, data_location 14), as in onnx.proto. Everything else is skipped by its length.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .types import FloatArray

_GRAPH, _INITIALIZER = 7, 5
_DIMS, _TYPE, _FLOATS, _RAW, _LOCATION = 1, 2, 4, 9, 14
_FLOAT, _FLOAT16 = 1, 10

Field = tuple[int, int, memoryview]


class OnnxFileError(ValueError):
    """The file is no ONNX model, or holds the initializer in a form that is not read."""


def matrix_of_shape(path: Path, rows: int, columns: int) -> FloatArray:
    """The only initializer of this shape, as float32.

    Raises:
        OnnxFileError: none, or several that differ, or not floating point.
    """
    problem = "it is empty" if path.stat().st_size == 0 else ""
    found: list[FloatArray] = []
    if not problem:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                found = _find(memoryview(data), rows, columns)
            except OnnxFileError as error:
                # Raised again below: its traceback holds views of the map, which could then not close.
                problem = str(error)
    if problem:
        raise OnnxFileError(f"{path.name}: {problem}")
    if not found:
        raise OnnxFileError(f"{path.name} has no {rows}x{columns} initializer")
    if any(not np.array_equal(found[0], other) for other in found[1:]):
        raise OnnxFileError(f"{path.name} has {len(found)} different {rows}x{columns} initializers")
    return found[0]


def _find(model: memoryview, rows: int, columns: int) -> list[FloatArray]:
    # In a function of its own: its views must be gone before the map closes.
    return [
        _values(tensor, rows, columns)
        for number, _, graph in _fields(model)
        if number == _GRAPH
        for inner, _, tensor in _fields(graph)
        if inner == _INITIALIZER and _shape(tensor) == (rows, columns)
    ]


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise OnnxFileError("not an ONNX file: broken variable-length integer")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data: memoryview) -> Iterator[Field]:
    """Number, integer value and bytes of every field of a message; the value or the bytes are empty."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value, memoryview(b"")
            continue
        if kind == 2:
            length, at = _varint(data, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise OnnxFileError(f"not an ONNX file: wire type {kind}")
        if at + length > len(data):
            raise OnnxFileError("not an ONNX file, or cut short")
        yield key >> 3, 0, data[at : at + length]
        at += length


def _shape(tensor: memoryview) -> tuple[int, ...]:
    shape: list[int] = []
    for number, value, data in _fields(tensor):
        if number == _DIMS:
            if not len(data):
                shape.append(value)
            at = 0
            while at < len(data):
                value, at = _varint(data, at)
                shape.append(value)
    return tuple(shape)


def _values(tensor: memoryview, rows: int, columns: int) -> FloatArray:
    kind, payload, single = 0, memoryview(b""), b""
    for number, value, data in _fields(tensor):
        if number == _TYPE:
            kind = value
        elif number == _RAW:
            payload = data
        elif number == _FLOATS:
            single += bytes(data)
        elif number == _LOCATION and value:
            raise OnnxFileError(f"the {rows}x{columns} initializer lies in another file")
    if kind not in (_FLOAT, _FLOAT16):
        raise OnnxFileError(f"the {rows}x{columns} initializer has data type {kind}, not float or float16")
    stored = np.frombuffer(bytes(payload) or single, dtype="<f4" if kind == _FLOAT else "<f2")
    if stored.size != rows * columns:
        raise OnnxFileError(f"the {rows}x{columns} initializer holds {stored.size} values")
    return stored.astype(np.float32).reshape(rows, columns)
