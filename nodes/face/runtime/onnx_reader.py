"""Reads the parts of an ONNX model from their messages; field numbers are those of onnx.proto (IR version 14)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .onnx_types import STORED, Attribute, AttributeKind, DataType, Graph, Model, Node, Tensor, ValueInfo, type_name
from .onnx_wire import BYTES, VARINT, Field, OnnxFileError, OnnxUnsupportedError, fields, unpack_varints

# A hostile file must not become millions of objects: a released model has some ten thousand fields.
_MOST_FIELDS = 1_000_000
# Graphs inside attributes inside graphs.
_DEEPEST = 8
# More is a damaged file; numpy and torch end at 64.
_MOST_DIMENSIONS = 32


class Reader:
    """Reads one model; counts fields over the whole of it."""

    def __init__(self) -> None:
        self._left = _MOST_FIELDS

    def _fields(self, message: memoryview) -> Iterator[Field]:
        for item in fields(message):
            self._left -= 1
            if self._left < 0:
                raise OnnxFileError(f"it has more than {_MOST_FIELDS} fields")
            yield item

    def model(self, message: memoryview) -> Model:
        version, opsets, graphs, unknown = 0, {}, [], bytearray()
        for item in self._fields(message):
            match item.number, item.kind:
                case 1, 0:
                    version = item.integer
                case 7, 2:
                    graphs.append(item.data)
                case 8, 2:
                    domain, number = self._opset(item.data)
                    opsets[domain] = number
                case _:
                    unknown += item.raw
        if len(graphs) != 1:
            raise OnnxFileError(f"not an ONNX file: it has {len(graphs)} graphs")
        return Model(version, opsets, self.graph(graphs[0], 0), unknown)

    def initializers_of_shape(self, message: memoryview, shape: tuple[int, ...]) -> list[Tensor]:
        return [
            self.tensor(tensor.data)
            for part in self._fields(message)
            if part.number == 7 and part.kind == BYTES
            for tensor in self._fields(part.data)
            if tensor.number == 5 and tensor.kind == BYTES and self._dims(tensor.data) == shape
        ]

    def _opset(self, message: memoryview) -> tuple[str, int]:
        domain, version = "", 1
        for item in self._fields(message):
            match item.number, item.kind:
                case 1, 2:
                    domain = _text(item)
                case 2, 0:
                    version = item.integer
                case _:
                    pass
        return domain, version

    def graph(self, message: memoryview, depth: int) -> Graph:
        if depth > _DEEPEST:
            raise OnnxFileError(f"its graphs are nested more than {_DEEPEST} deep")
        graph = Graph([], [], [])
        for item in self._fields(message):
            match item.number, item.kind:
                case 1, 2:
                    graph.nodes.append(self._node(item.data, depth))
                case 2, 2:
                    graph.name = _text(item)
                case 5, 2:
                    graph.initializers.append(self.tensor(item.data))
                case 11, 2:
                    graph.inputs.append(self._value_info(item.data))
                case 12, 2:
                    graph.outputs.append(self._value_info(item.data))
                case 13, 2:
                    graph.value_info.append(self._value_info(item.data))
                case _:
                    graph.unknown += item.raw
        return graph

    def _node(self, message: memoryview, depth: int) -> Node:
        node = Node("", [], [])
        for item in self._fields(message):
            match item.number, item.kind:
                case 1, 2:
                    node.inputs.append(_text(item))
                case 2, 2:
                    node.outputs.append(_text(item))
                case 3, 2:
                    node.name = _text(item)
                case 4, 2:
                    node.op_type = _text(item)
                case 5, 2:
                    attribute = self._attribute(item.data, depth)
                    node.attributes[attribute.name] = attribute
                case 7, 2:
                    node.domain = _text(item)
                case _:
                    node.unknown += item.raw
        return node

    def _attribute(self, message: memoryview, depth: int) -> Attribute:
        name, kind, unknown = "", 0, bytearray()
        single: dict[int, Any] = {}
        several: dict[int, list[Any]] = {number: [] for number in (7, 8, 9, 10, 11)}
        for item in self._fields(message):
            match item.number, item.kind:
                case 1, 2:
                    name = _text(item)
                case 20, 0:
                    kind = item.integer
                case 2, 5:
                    single[AttributeKind.FLOAT] = _floats(item)[0]
                case 3, 0:
                    single[AttributeKind.INT] = item.integer
                case 4, 2:
                    single[AttributeKind.STRING] = bytes(item.data)
                case 5, 2:
                    single[AttributeKind.TENSOR] = self.tensor(item.data)
                case 6, 2:
                    single[AttributeKind.GRAPH] = self.graph(item.data, depth + 1)
                case 7, (2 | 5):
                    several[7] += _floats(item)
                case 8, (0 | 2):
                    several[8] += _integers(item)
                case 9, 2:
                    several[9].append(bytes(item.data))
                case 10, 2:
                    several[10].append(self.tensor(item.data))
                case 11, 2:
                    several[11].append(self.graph(item.data, depth + 1))
                case _:
                    unknown += item.raw
        lists = {AttributeKind(number - 1): values for number, values in several.items()}
        if kind == 0:
            # Files of IR version 1 name no kind.
            kind = next((k for k in (*single, *(k for k, v in lists.items() if v))), 0)
        if kind not in AttributeKind.__members__.values():
            raise OnnxUnsupportedError(f"attribute {name!r} is of kind {kind}, which is not read")
        chosen = AttributeKind(kind)
        default = {AttributeKind.FLOAT: 0.0, AttributeKind.INT: 0, AttributeKind.STRING: b""}
        value = lists[chosen] if chosen in lists else single.get(chosen, default.get(chosen))
        if value is None:
            raise OnnxFileError(f"attribute {name!r} has no value")
        return Attribute(name, chosen, value, unknown)

    def _value_info(self, message: memoryview) -> ValueInfo:
        info = ValueInfo("", None, None)
        for item in self._fields(message):
            match item.number, item.kind:
                case 1, 2:
                    info.name = _text(item)
                case 2, 2:
                    self._type(item.data, info)
                case _:
                    info.unknown += item.raw
        return info

    def _type(self, message: memoryview, info: ValueInfo) -> None:
        for kind in self._fields(message):
            if kind.number != 1 or kind.kind != BYTES:
                continue
            number, shape = 0, None
            for item in self._fields(kind.data):
                if item.number == 1 and item.kind == VARINT:
                    number = item.integer
                elif item.number == 2 and item.kind == BYTES:
                    shape = item.data
            if number in DataType.__members__.values():
                info.data_type = DataType(number)
                info.dims = None if shape is None else self._shape(shape)
            else:
                info.other_name = type_name(number)
        if info.data_type is None:
            info.other_type = bytes(message)

    def _shape(self, message: memoryview) -> list[int | str | None]:
        dims: list[int | str | None] = []
        for dim in self._fields(message):
            if dim.number != 1 or dim.kind != BYTES:
                continue
            size: int | str | None = None
            for item in self._fields(dim.data):
                if item.number == 1 and item.kind == VARINT:
                    size = item.integer
                elif item.number == 2 and item.kind == BYTES:
                    size = _text(item)
            dims.append(size)
        return dims

    def _dims(self, message: memoryview) -> tuple[int, ...]:
        return tuple(
            size
            for item in self._fields(message)
            if item.number == 1 and item.kind in (VARINT, BYTES)
            for size in _integers(item)
        )

    def tensor(self, message: memoryview) -> Tensor:
        dims: list[int] = []
        kind, name, raw, unknown = 0, "", None, bytearray()
        typed: dict[int, list[npt.NDArray[Any]]] = {4: [], 5: [], 7: [], 10: [], 11: []}
        external = False
        for item in self._fields(message):
            match item.number, item.kind:
                case 1, (0 | 2):
                    dims += _integers(item)
                case 2, 0:
                    kind = item.integer
                case 8, 2:
                    name = _text(item)
                case 9, 2:
                    raw = item.data
                case (5 | 7 | 11) as number, (0 | 2):
                    typed[number].append(_integer_array(item))
                case 4, (2 | 5):
                    typed[4].append(_array(item, "<f4"))
                case 10, (1 | 2):
                    typed[10].append(_array(item, "<f8"))
                case 14, 0:
                    external = item.integer != 0
                case 13, 2:
                    external = True
                case _:
                    unknown += item.raw
        if external:
            raise OnnxUnsupportedError(f"tensor {name!r} lies in another file; models in one file are read")
        if kind not in STORED:
            raise OnnxUnsupportedError(f"tensor {name!r} is of type {type_name(kind)}, which is not read")
        data_type = DataType(kind)
        if len(dims) > _MOST_DIMENSIONS or any(size < 0 for size in dims):
            raise OnnxFileError(f"tensor {name!r} has shape {dims[:_MOST_DIMENSIONS]}")
        stored = _from_raw(raw, data_type) if raw is not None else _from_typed(typed, data_type)
        if stored.size != math.prod(dims):
            raise OnnxFileError(f"tensor {name!r} of shape {dims} holds {stored.size} values")
        return Tensor(name, data_type, stored.reshape(dims), unknown)


def _text(item: Field) -> str:
    try:
        return str(item.data, "utf-8")
    except UnicodeDecodeError:
        raise OnnxFileError("not an ONNX file: a name is no UTF-8 text") from None


def _integers(item: Field) -> list[int]:
    return [int(value) for value in _integer_array(item)]


def _integer_array(item: Field) -> npt.NDArray[np.int64]:
    return np.array([item.integer], dtype=np.int64) if item.kind == VARINT else unpack_varints(item.data)


def _floats(item: Field) -> list[float]:
    return [float(value) for value in _array(item, "<f4")]


def _array(item: Field, dtype: str) -> npt.NDArray[Any]:
    if len(item.data) % np.dtype(dtype).itemsize:
        raise OnnxFileError("not an ONNX file: a list of numbers is cut short")
    return np.frombuffer(item.data, dtype=dtype)


def _from_raw(raw: memoryview, data_type: DataType) -> npt.NDArray[Any]:
    dtype = np.dtype(STORED[data_type])
    if len(raw) % dtype.itemsize:
        raise OnnxFileError(f"a tensor of {data_type.name} holds {len(raw)} bytes")
    if data_type == DataType.BOOL:
        # Not as it lies there: a byte may hold more than 0 and 1.
        return np.frombuffer(raw, dtype="u1").astype(np.bool_)
    return np.frombuffer(raw, dtype=dtype).copy()


# The typed field each element type is kept in where there is no raw_data (TensorProto's comments).
_FIELD = {
    DataType.FLOAT: 4,
    DataType.COMPLEX64: 4,
    DataType.INT64: 7,
    DataType.DOUBLE: 10,
    DataType.COMPLEX128: 10,
    DataType.UINT32: 11,
    DataType.UINT64: 11,
}


def _from_typed(typed: dict[int, list[npt.NDArray[Any]]], data_type: DataType) -> npt.NDArray[Any]:
    dtype = np.dtype(STORED[data_type])
    parts = typed[_FIELD.get(data_type, 5)]
    values = np.concatenate(parts) if parts else np.empty(0, dtype)
    if data_type == DataType.FLOAT16:
        return values.astype(np.uint16).view(dtype)
    if dtype.kind == "c":
        if values.size % 2:
            raise OnnxFileError("a complex tensor holds half a number")
        return values.view(dtype).copy()
    return values.astype(dtype)
