"""The ONNX reader and writer against the onnx package, and against damaged and hostile files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper, numpy_helper

from flux_face.nodes.face.runtime import onnx_reader
from flux_face.nodes.face.runtime.onnx_model import (
    AttributeKind,
    DataType,
    Graph,
    OnnxFileError,
    OnnxUnsupportedError,
    matrix_of_shape,
    model_bytes,
    parse_model,
    read_model,
)
from flux_face.nodes.face.runtime.onnx_types import STORED
from flux_face.nodes.face.runtime.onnx_wire import bytes_field, integer_field, message_field

from . import graphs

_NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
_INT64 = st.integers(-(2**63), 2**63 - 1)
_FLOAT32 = st.floats(width=32, allow_nan=False)


@st.composite
def tensors(draw: st.DrawFn) -> onnx.TensorProto:
    """Constants of every element type, their values in raw_data or in the typed field."""
    data_type = draw(st.sampled_from(list(DataType)))
    dtype = helper.tensor_dtype_to_np_dtype(data_type)
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    if data_type == DataType.BFLOAT16:
        values = draw(hnp.arrays(np.float32, shape, elements=st.floats(-100, 100, width=32))).astype(dtype)
    else:
        values = draw(hnp.arrays(dtype, shape))
    name = draw(_NAMES)
    if draw(st.booleans()):
        return numpy_helper.from_array(values, name)
    flat = values.reshape(-1)
    if data_type in (DataType.FLOAT16, DataType.BFLOAT16):
        # The typed field has the bits; helper.make_tensor would warn where rounding overflows.
        tensor = TensorProto(name=name, data_type=data_type, dims=values.shape)
        tensor.int32_data.extend(flat.view(np.uint16).tolist())
        return tensor
    return helper.make_tensor(name, data_type, values.shape, flat.tolist())


_ATTRIBUTES = st.one_of(
    _INT64,
    _FLOAT32,
    st.binary(max_size=6),
    tensors(),
    st.lists(_INT64, min_size=1, max_size=4),
    st.lists(_FLOAT32, min_size=1, max_size=4),
    st.lists(st.binary(max_size=4), min_size=1, max_size=3),
    st.lists(tensors(), min_size=1, max_size=2),
)


@st.composite
def value_infos(draw: st.DrawFn) -> onnx.ValueInfoProto:
    dims = st.one_of(st.none(), st.integers(0, 2**40), _NAMES)
    shape = draw(st.one_of(st.none(), st.lists(dims, max_size=4)))
    return helper.make_tensor_value_info(draw(_NAMES), draw(st.sampled_from(list(DataType))), shape)


@st.composite
def models(draw: st.DrawFn) -> onnx.ModelProto:
    """Any values in every place, whether the graph makes sense or not."""
    nodes = []
    for _ in range(draw(st.integers(0, 3))):
        inputs, outputs = (draw(st.lists(st.one_of(st.just(""), _NAMES), max_size=3)) for _ in range(2))
        attributes = draw(st.dictionaries(_NAMES, _ATTRIBUTES, max_size=3))
        node = onnx.NodeProto(
            op_type=draw(_NAMES), input=inputs, output=outputs, domain=draw(st.sampled_from(["", "x"]))
        )
        node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
        nodes.append(node)
    infos = st.lists(value_infos(), max_size=2)
    graph = helper.make_graph(
        nodes, "g", draw(infos), draw(infos), draw(st.lists(tensors(), max_size=3)), value_info=draw(infos)
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in draw(_OPSETS).items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=draw(st.integers(1, 14)))


_OPSETS = st.dictionaries(st.sampled_from(["", "com.microsoft", "ai.onnx.ml"]), st.integers(1, 40), min_size=1)


def same_tensor(ours: Any, theirs: onnx.TensorProto) -> None:
    assert (ours.name, ours.data_type) == (theirs.name, theirs.data_type)
    expected = numpy_helper.to_array(theirs)
    assert ours.values.shape == expected.shape
    assert ours.values.tobytes() == expected.tobytes()


def same_graph(ours: Graph, theirs: onnx.GraphProto) -> None:
    for node, proto in zip(ours.nodes, theirs.node, strict=True):
        assert (node.op_type, node.domain, node.name) == (proto.op_type, proto.domain, proto.name)
        assert (node.inputs, node.outputs) == (list(proto.input), list(proto.output))
        for attribute, other in zip(node.attributes.values(), proto.attribute, strict=True):
            assert (attribute.name, attribute.kind) == (other.name, other.type)
            value = helper.get_attribute_value(other)
            match attribute.kind:
                case AttributeKind.TENSOR:
                    same_tensor(attribute.value, value)
                case AttributeKind.TENSORS:
                    for mine, other_tensor in zip(attribute.value, value, strict=True):
                        same_tensor(mine, other_tensor)
                case _:
                    assert attribute.value == (value if isinstance(value, (int, float, bytes)) else list(value))
    for tensor, other_tensor in zip(ours.initializers, theirs.initializer, strict=True):
        same_tensor(tensor, other_tensor)
    for infos, protos in (
        (ours.inputs, theirs.input),
        (ours.outputs, theirs.output),
        (ours.value_info, theirs.value_info),
    ):
        for info, proto in zip(infos, protos, strict=True):
            kind = proto.type.tensor_type
            assert (info.name, info.data_type) == (proto.name, kind.elem_type)
            dims = [getattr(dim, dim.WhichOneof("value") or "", None) for dim in kind.shape.dim]
            assert info.dims == (dims if kind.HasField("shape") else None)


@given(models())
@settings(deadline=None)
def test_reads_what_the_onnx_package_writes_and_the_other_way_round(model: onnx.ModelProto) -> None:
    read = parse_model(model.SerializeToString())
    assert read.ir_version == model.ir_version
    assert read.opsets == {item.domain: item.version for item in model.opset_import}
    same_graph(read.graph, model.graph)
    written = onnx.load_model_from_string(model_bytes(read))
    same_graph(read.graph, written.graph)
    assert {item.domain: item.version for item in written.opset_import} == read.opsets


@pytest.mark.parametrize("make", [graphs.scrfd, graphs.arcface, graphs.swapper])
def test_what_is_written_passes_the_checker(make: Any, tmp_path: Path) -> None:
    path = make(tmp_path / "m.onnx")
    written = onnx.load_model_from_string(model_bytes(read_model(path)))
    onnx.checker.check_model(written, full_check=True)
    assert onnx.printer.to_text(written.graph) == onnx.printer.to_text(onnx.load_model(str(path)).graph)


def test_what_is_not_represented_survives() -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"], doc_string="why")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1], doc_string="in")],
        [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)],
        doc_string="graph",
    )
    helper.set_model_props(model := helper.make_model(graph, producer_name="p", doc_string="d"), {"key": "value"})
    model.functions.append(helper.make_function("f", "F", ["a"], ["b"], [], []))
    written = onnx.load_model_from_string(model_bytes(parse_model(model.SerializeToString())))
    assert written.producer_name == "p"
    assert written.doc_string == "d"
    assert written.metadata_props[0].value == "value"
    assert written.functions[0].name == "F"
    assert written.graph.doc_string == "graph"
    assert written.graph.node[0].doc_string == "why"
    assert written.graph.input[0].doc_string == "in"
    assert written.graph.output[0] == graph.output[0]


def test_graphs_in_attributes_are_read() -> None:
    branch = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "b", [], [])
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    model = helper.make_model(helper.make_graph([node], "g", [], []))
    read = parse_model(model.SerializeToString())
    same_graph(read.graph.nodes[0].attributes["then_branch"].value, branch)
    written = onnx.load_model_from_string(model_bytes(read))
    same_graph(read.graph.nodes[0].attributes["else_branch"].value, written.graph.node[0].attribute[1].g)


@pytest.mark.parametrize("data_type", list(DataType))
def test_tensors_become_torch_tensors(data_type: DataType) -> None:
    values = np.array([[0, 1], [1, 3]]).astype(helper.tensor_dtype_to_np_dtype(data_type))
    graph = helper.make_graph([], "g", [], [], [numpy_helper.from_array(values, "t")])
    tensor = parse_model(helper.make_model(graph).SerializeToString()).graph.initializers[0].to_torch()
    assert str(tensor.dtype).removeprefix("torch.") == {"FLOAT": "float32", "DOUBLE": "float64"}.get(
        data_type.name, data_type.name.lower()
    )
    wide = torch.complex128 if tensor.is_complex() else torch.float64
    np.testing.assert_array_equal(
        tensor.to(wide).numpy(), values.astype(np.complex128 if tensor.is_complex() else float)
    )


def test_every_type_that_is_read_has_a_layout() -> None:
    assert set(STORED) == set(DataType)


def small_model() -> bytes:
    weight = numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), "w")
    shape = helper.make_tensor("s", TensorProto.INT64, [2], [-1, 300])
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["h"], alpha=0.5),
        helper.make_node("Transpose", ["h"], ["y"], perm=[1, 0]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, None])]
    data: bytes = helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, [weight, shape])).SerializeToString()
    return data


def test_a_file_that_is_cut_short_anywhere_is_refused_or_read() -> None:
    data = small_model()
    whole = parse_model(data)
    for length in range(len(data)):
        try:
            read = parse_model(data[:length])
        except OnnxFileError:
            continue
        # Only fields behind the graph may be missing.
        assert len(read.graph.nodes) == len(whole.graph.nodes)


@given(st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=6))
@settings(deadline=None)
def test_damaged_files_raise_one_kind_of_error(changes: list[tuple[int, int]]) -> None:
    data = bytearray(small_model())
    for place, value in changes:
        data[place % len(data)] = value
    try:
        parse_model(bytes(data))
    except OnnxFileError:
        return


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_noise_raises_one_kind_of_error(data: bytes) -> None:
    try:
        parse_model(data)
    except OnnxFileError:
        return


def tensor_model(fields: list[bytes | bytearray]) -> bytes:
    """A model with one initializer of these fields."""
    return b"".join(message_field(7, message_field(5, fields)))


@pytest.mark.parametrize("dims", [[2**40], [2**31, 2**31, 2**31], [-1], [3], [1] * 40])
def test_shapes_must_fit_what_a_tensor_holds(dims: list[int]) -> None:
    fields: list[bytes | bytearray] = [integer_field(1, size) for size in dims]
    with pytest.raises(OnnxFileError, match="big"):
        parse_model(tensor_model([*fields, integer_field(2, 1), *bytes_field(8, b"big"), *bytes_field(9, bytes(16))]))


def test_nested_graphs_end() -> None:
    inner: list[bytes | bytearray] = []
    for _ in range(2000):
        inner = [b"".join(message_field(1, message_field(5, message_field(6, inner))))]
    with pytest.raises(OnnxFileError, match="nested"):
        parse_model(b"".join(message_field(7, inner)))


def test_a_file_of_very_many_fields_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_reader, "_MOST_FIELDS", 1000)
    nodes: list[bytes | bytearray] = [b"".join(message_field(1, []))] * 1001
    with pytest.raises(OnnxFileError, match="more than 1000 fields"):
        parse_model(b"".join(message_field(7, nodes)))


@pytest.mark.parametrize("data", [b"", b"\x80" * 11, b"\x07", b"\x00\x01", b"\x3a\x05ab", b"\x3b"])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(OnnxFileError):
        parse_model(data)


def test_packed_integers_must_be_whole() -> None:
    for packed in (b"\x80", b"\x01\xff", b"\x80" * 11 + b"\x01"):
        with pytest.raises(OnnxFileError, match="integer"):
            parse_model(tensor_model([integer_field(2, 7), *bytes_field(7, packed)]))


def test_tensors_in_other_files_are_refused_by_name(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(small_model())
    onnx.save_model(model, str(tmp_path / "m.onnx"), save_as_external_data=True, location="w.bin", size_threshold=0)
    with pytest.raises(OnnxUnsupportedError, match=r"m\.onnx: tensor 'w' lies in another file"):
        read_model(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("data_type", "name"),
    [
        (TensorProto.STRING, "string"),
        (TensorProto.INT4, "int4"),
        (TensorProto.UINT4, "uint4"),
        (TensorProto.FLOAT8E4M3FN, "float8"),
        (TensorProto.FLOAT4E2M1, "float4"),
        (99, "number 99"),
    ],
)
def test_other_element_types_are_refused_by_name(data_type: int, name: str) -> None:
    data = tensor_model(
        [integer_field(1, 1), integer_field(2, data_type), *bytes_field(8, b"t"), *bytes_field(9, b"1")]
    )
    with pytest.raises(OnnxUnsupportedError, match=re.escape(f"tensor 't' is of type {name}, which")):
        parse_model(data)


def test_the_only_matrix_of_a_shape_is_found(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    matrix = np.arange(6, dtype=np.float16).reshape(2, 3)

    def save(*matrices: Any) -> None:
        tensors = [numpy_helper.from_array(values, f"t{index}") for index, values in enumerate(matrices)]
        onnx.save_model(helper.make_model(helper.make_graph([], "g", [], [], tensors)), str(path))

    save(matrix, matrix.T, matrix)
    found = matrix_of_shape(path, 2, 3)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, matrix)
    save(matrix, matrix + 1)
    with pytest.raises(OnnxFileError, match="2 different"):
        matrix_of_shape(path, 2, 3)
    save(matrix.T)
    with pytest.raises(OnnxFileError, match="has no"):
        matrix_of_shape(path, 2, 3)
    save(matrix.astype(np.int64))
    with pytest.raises(OnnxFileError, match="not float"):
        matrix_of_shape(path, 2, 3)


def test_files_are_let_go_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(small_model()[:40])
    with pytest.raises(OnnxFileError, match=r"m\.onnx"):
        read_model(path)
    # On Windows a file that is still mapped cannot be written.
    path.write_bytes(b"")
    with pytest.raises(OnnxFileError, match="empty"):
        read_model(path)
