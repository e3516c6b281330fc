"""An ONNX model's parts as values, with the numbers that onnx.proto (IR version 14) gives them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import torch


class DataType(IntEnum):
    """The element types that are read, with ``TensorProto.DataType``'s numbers."""

    FLOAT = 1
    UINT8 = 2
    INT8 = 3
    UINT16 = 4
    INT16 = 5
    INT32 = 6
    INT64 = 7
    BOOL = 9
    FLOAT16 = 10
    DOUBLE = 11
    UINT32 = 12
    UINT64 = 13
    COMPLEX64 = 14
    COMPLEX128 = 15
    BFLOAT16 = 16


# Elements as they lie in raw_data; numpy has no bfloat16.
STORED: dict[DataType, str] = {
    DataType.FLOAT: "<f4",
    DataType.UINT8: "u1",
    DataType.INT8: "i1",
    DataType.UINT16: "<u2",
    DataType.INT16: "<i2",
    DataType.INT32: "<i4",
    DataType.INT64: "<i8",
    DataType.BOOL: "?",
    DataType.FLOAT16: "<f2",
    DataType.DOUBLE: "<f8",
    DataType.UINT32: "<u4",
    DataType.UINT64: "<u8",
    DataType.COMPLEX64: "<c8",
    DataType.COMPLEX128: "<c16",
    DataType.BFLOAT16: "<u2",
}
UNREAD = {
    8: "string",
    **dict.fromkeys((17, 18, 19, 20, 24), "float8"),
    21: "uint4",
    22: "int4",
    23: "float4",
    25: "uint2",
    26: "int2",
    27: "float6",
    28: "float6",
}


def type_name(number: int) -> str:
    """An element type's name for a message."""
    known = number in DataType.__members__.values()
    return DataType(number).name.lower() if known else UNREAD.get(number, f"number {number}")


class AttributeKind(IntEnum):
    """``AttributeProto.AttributeType``, those that are read."""

    FLOAT = 1
    INT = 2
    STRING = 3
    TENSOR = 4
    GRAPH = 5
    FLOATS = 6
    INTS = 7
    STRINGS = 8
    TENSORS = 9
    GRAPHS = 10


@dataclass(eq=False)
class Tensor:
    """A constant.

    Attributes:
        values: the elements in their shape; bfloat16 as the 16 bits of each.
        unknown: fields that are not represented, as read.
    """

    name: str
    data_type: DataType
    values: npt.NDArray[Any]
    unknown: bytearray = field(default_factory=bytearray)

    def to_torch(self) -> torch.Tensor:
        """The same values, which share memory with `values` where torch allows it."""
        values = np.require(self.values, requirements=["C", "W"])
        if self.data_type == DataType.BFLOAT16:
            return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(values)


@dataclass(eq=False)
class Attribute:
    """An operator's setting.

    Attributes:
        value: float, int, bytes, Tensor or Graph, or a list of one of them, as `kind` says.
    """

    name: str
    kind: AttributeKind
    value: Any
    unknown: bytearray = field(default_factory=bytearray)


@dataclass(eq=False)
class Node:
    """One operator; an empty input or output name stands for one that is left out."""

    op_type: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Attribute] = field(default_factory=dict)
    domain: str = ""
    name: str = ""
    unknown: bytearray = field(default_factory=bytearray)


@dataclass(eq=False)
class ValueInfo:
    """Name, type and shape of an input, an output or a value between nodes.

    Attributes:
        data_type: None where it is no tensor of a type that is read.
        dims: a size, a name or None for each dimension; None where the rank is open.
        other_type: the type as read where `data_type` is None.
        other_name: what that is, for messages.
    """

    name: str
    data_type: DataType | None
    dims: list[int | str | None] | None
    other_type: bytes = b""
    other_name: str = "no tensor"
    unknown: bytearray = field(default_factory=bytearray)


@dataclass(eq=False)
class Graph:
    """Nodes in an order in which they can run."""

    nodes: list[Node]
    inputs: list[ValueInfo]
    outputs: list[ValueInfo]
    initializers: list[Tensor] = field(default_factory=list)
    value_info: list[ValueInfo] = field(default_factory=list)
    name: str = ""
    unknown: bytearray = field(default_factory=bytearray)


@dataclass(eq=False)
class Model:
    """A graph and the versions of the operator sets it is written in, by domain; the standard domain is empty."""

    ir_version: int
    opsets: dict[str, int]
    graph: Graph
    unknown: bytearray = field(default_factory=bytearray)
