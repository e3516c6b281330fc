"""Writes an ONNX model's parts as messages; field numbers are those of onnx.proto (IR version 14)."""

from __future__ import annotations

from .onnx_types import Attribute, AttributeKind, Graph, Model, Node, Tensor, ValueInfo
from .onnx_wire import Chunks, array_field, bytes_field, float_field, integer_field, message_field


def model_bytes(model: Model) -> bytes:
    """The model as an ONNX file's bytes."""
    chunks: Chunks = [integer_field(1, model.ir_version)]
    chunks += message_field(7, _graph(model.graph))
    for domain, version in model.opsets.items():
        chunks += message_field(8, [*_name(1, domain), integer_field(2, version)])
    return b"".join([*chunks, model.unknown])


def _name(number: int, text: str) -> Chunks:
    return bytes_field(number, text.encode()) if text else []


def _graph(graph: Graph) -> Chunks:
    chunks: Chunks = []
    for node in graph.nodes:
        chunks += message_field(1, _node(node))
    chunks += _name(2, graph.name)
    for tensor in graph.initializers:
        chunks += message_field(5, _tensor(tensor))
    for number, infos in ((11, graph.inputs), (12, graph.outputs), (13, graph.value_info)):
        for info in infos:
            chunks += message_field(number, _value_info(info))
    return [*chunks, graph.unknown]


def _node(node: Node) -> Chunks:
    chunks: Chunks = []
    for number, names in ((1, node.inputs), (2, node.outputs)):
        for name in names:
            chunks += bytes_field(number, name.encode())
    chunks += [*_name(3, node.name), *_name(4, node.op_type)]
    for attribute in node.attributes.values():
        chunks += message_field(5, _attribute(attribute))
    return [*chunks, *_name(7, node.domain), node.unknown]


def _attribute(attribute: Attribute) -> Chunks:
    value = attribute.value
    chunks = _name(1, attribute.name)
    match attribute.kind:
        case AttributeKind.FLOAT:
            chunks.append(float_field(2, value))
        case AttributeKind.INT:
            chunks.append(integer_field(3, value))
        case AttributeKind.STRING:
            chunks += bytes_field(4, value)
        case AttributeKind.TENSOR:
            chunks += message_field(5, _tensor(value))
        case AttributeKind.GRAPH:
            chunks += message_field(6, _graph(value))
        case AttributeKind.FLOATS:
            chunks += [float_field(7, item) for item in value]
        case AttributeKind.INTS:
            chunks += [integer_field(8, item) for item in value]
        case AttributeKind.STRINGS:
            for item in value:
                chunks += bytes_field(9, item)
        case AttributeKind.TENSORS:
            for item in value:
                chunks += message_field(10, _tensor(item))
        case AttributeKind.GRAPHS:
            for item in value:
                chunks += message_field(11, _graph(item))
    return [*chunks, integer_field(20, attribute.kind), attribute.unknown]


def _value_info(info: ValueInfo) -> Chunks:
    chunks = _name(1, info.name)
    if info.data_type is not None:
        tensor: Chunks = [integer_field(1, info.data_type)]
        if info.dims is not None:
            shape: Chunks = []
            for size in info.dims:
                dim = [] if size is None else _name(2, size) if isinstance(size, str) else [integer_field(1, size)]
                shape += message_field(1, dim)
            tensor += message_field(2, shape)
        chunks += message_field(2, message_field(1, tensor))
    elif info.other_type:
        chunks += bytes_field(2, info.other_type)
    return [*chunks, info.unknown]


def _tensor(tensor: Tensor) -> Chunks:
    chunks: Chunks = [integer_field(1, size) for size in tensor.values.shape]
    chunks += [integer_field(2, tensor.data_type), *_name(8, tensor.name)]
    return [*chunks, *array_field(9, tensor.values), tensor.unknown]
