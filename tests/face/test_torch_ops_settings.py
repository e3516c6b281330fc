"""Operators of older sets, and in settings that the node tests leave out, against onnxruntime."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper

from flux_face.nodes.face.runtime.onnx_model import parse_model
from flux_face.nodes.face.runtime.torch_program import Program

Array = npt.NDArray[Any]
CPU = torch.device("cpu")


def node_model(
    kind: str,
    opset: int,
    inputs: dict[str, Array],
    constants: dict[str, Array] | None = None,
    outputs: int = 1,
    order: Sequence[str] | None = None,
    **attributes: Any,
) -> bytes:
    """A model of one node; inputs in `order`, or as given with the constants last."""
    constants = constants or {}
    names = list(order) if order is not None else [*inputs, *constants]
    made = [f"y{index}" for index in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node(kind, names, made, **attributes)],
        "g",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in inputs.items()
        ],
        [onnx.ValueInfoProto(name=name) for name in made],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model)
    data: bytes = model.SerializeToString()
    return data


def check_against_onnxruntime(model: bytes, inputs: dict[str, Array]) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    expected = session.run(None, inputs)
    program = Program(parse_model(model), CPU)
    with torch.inference_mode():
        got = program({name: torch.from_numpy(value) for name, value in inputs.items()})
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, torch.from_numpy(np.asarray(theirs)), rtol=1e-4, atol=1e-5)


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def int64(*values: int) -> Array:
    return np.array(values, dtype=np.int64)


def float32(*values: float) -> Array:
    return np.array(values, dtype=np.float32)


_IMAGE = {"x": floats(2, 4, 6, 5)}

Settings = tuple[str, int, dict[str, Array], dict[str, Any]]
SETTINGS: list[Settings] = [
    ("Clip", 10, _IMAGE, {"min": -0.5, "max": 0.25}),
    ("Clip", 7, _IMAGE, {"min": 0.1}),
    ("Squeeze", 11, {"x": floats(1, 3, 1, 2)}, {"axes": [0, -2]}),
    ("Squeeze", 11, {"x": floats(1, 3, 1, 2)}, {}),
    ("Unsqueeze", 11, {"x": floats(3, 2)}, {"axes": [0, -1]}),
    ("ReduceMean", 11, _IMAGE, {"axes": [2, -1], "keepdims": 0}),
    ("ReduceMean", 17, _IMAGE, {}),
    ("ReduceSum", 11, _IMAGE, {"axes": [1]}),
    ("ReduceL2", 13, _IMAGE, {"axes": [1], "keepdims": 1}),
    ("ReduceMax", 12, _IMAGE, {"axes": [-1], "keepdims": 0}),
    ("Pad", 10, _IMAGE, {"mode": "reflect", "pads": [0, 0, 2, 1, 0, 0, 1, 2]}),
    ("Pad", 10, _IMAGE, {"mode": "edge", "pads": [0, 0, 2, 1, 0, 0, 1, 2]}),
    ("Pad", 10, _IMAGE, {"pads": [0, 1, 2, 1, 0, 0, 1, 0], "value": 1.5}),
    ("Pad", 11, _IMAGE, {"constants": {"p": int64(0, 0, -1, 1, 0, 0, 1, -2)}}),
    ("Slice", 9, _IMAGE, {"starts": [1, -4], "ends": [3, 100], "axes": [1, 2]}),
    ("Slice", 9, _IMAGE, {"starts": [1, -4], "ends": [3, 100]}),
    (
        "Slice",
        13,
        _IMAGE,
        {"constants": {"s": int64(-1, 0), "e": int64(-99, 5), "a": int64(2, -1), "t": int64(-2, 3)}},
    ),
    ("Slice", 13, _IMAGE, {"constants": {"s": int64(2), "e": int64(2), "a": int64(2), "t": int64(-1)}}),
    ("Split", 11, _IMAGE, {"outputs": 2, "axis": 1, "split": [1, 3]}),
    ("Split", 11, _IMAGE, {"outputs": 2, "axis": -2}),
    ("Split", 18, {"x": floats(7, 2)}, {"outputs": 3, "num_outputs": 3}),
    ("Softmax", 11, _IMAGE, {}),
    ("Softmax", 11, _IMAGE, {"axis": 3}),
    ("Softmax", 11, _IMAGE, {"axis": -2}),
    ("LogSoftmax", 12, _IMAGE, {"axis": 2}),
    ("Dropout", 10, _IMAGE, {"ratio": 0.9}),
    ("Upsample", 7, _IMAGE, {"scales": [1.0, 1.0, 2.0, 3.0]}),
    ("Upsample", 9, _IMAGE, {"mode": "linear", "constants": {"s": float32(1, 1, 2, 2)}}),
    ("Upsample", 9, _IMAGE, {"mode": "nearest", "constants": {"s": float32(1, 1, 1.7, 2.5)}}),
    ("Resize", 10, _IMAGE, {"constants": {"s": float32(1, 1, 2, 2)}}),
    ("Resize", 10, _IMAGE, {"constants": {"s": float32(1, 1, 0.5, 0.6)}}),
    ("Resize", 10, _IMAGE, {"mode": "linear", "constants": {"s": float32(1, 1, 1.5, 0.6)}}),
    ("TopK", 9, {"x": floats(3, 5)}, {"outputs": 2, "k": 2}),
    ("TopK", 10, {"x": floats(3, 5)}, {"outputs": 2, "axis": 0, "constants": {"k": int64(2)}}),
    (
        "BatchNormalization",
        7,
        _IMAGE,
        {
            "constants": {
                "s": floats(4, seed=1),
                "b": floats(4, seed=2),
                "m": floats(4, seed=3),
                "v": floats(4, seed=4) ** 2,
            },
            "epsilon": 1e-3,
        },
    ),
    ("PRelu", 9, _IMAGE, {"constants": {"slope": floats(4, 1, 1, seed=1)}}),
    ("PRelu", 9, _IMAGE, {"constants": {"slope": floats(1, seed=1)}}),
    ("PRelu", 9, _IMAGE, {"constants": {"slope": floats(5, seed=1)}}),
    ("Gather", 13, _IMAGE, {"axis": 2, "constants": {"i": np.array(-1, dtype=np.int64)}}),
    ("Gather", 13, _IMAGE, {"axis": -1, "constants": {"i": np.array([[0, -1], [2, 2]], dtype=np.int64)}}),
    ("Pow", 13, _IMAGE, {"constants": {"p": np.array(2, dtype=np.float32)}}),
    ("Pow", 13, {"x": floats(2, 3) ** 2}, {"constants": {"p": float32(0.5)}}),
    ("Pow", 13, {"x": np.array(3, dtype=np.float32)}, {"constants": {"p": float32(2)}}),
    ("Conv", 11, _IMAGE, {"constants": {"w": floats(6, 4, 3, 2)}, "pads": [1, 0, 2, 1], "strides": [2, 1]}),
    ("Conv", 11, _IMAGE, {"constants": {"w": floats(4, 2, 3, 3)}, "group": 2, "dilations": [2, 1]}),
    ("Conv", 11, _IMAGE, {"constants": {"w": floats(4, 4, 2, 2)}, "auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    ("Conv", 11, {"x": floats(2, 3, 9)}, {"constants": {"w": floats(4, 3, 3), "b": floats(4)}, "pads": [1, 1]}),
    ("Conv", 11, {"x": floats(1, 2, 4, 5, 6)}, {"constants": {"w": floats(3, 2, 2, 2, 2)}}),
    (
        "ConvTranspose",
        11,
        _IMAGE,
        {
            "constants": {"w": floats(4, 3, 3, 3), "b": floats(6)},
            "group": 2,
            "strides": [2, 2],
            "pads": [1, 1, 1, 1],
            "output_padding": [1, 1],
        },
    ),
    (
        "ConvTranspose",
        11,
        _IMAGE,
        {"constants": {"w": floats(4, 3, 4, 3), "b": floats(3)}, "strides": [2, 1], "pads": [0, 1, 2, 0]},
    ),
    (
        "ConvTranspose",
        11,
        _IMAGE,
        {"constants": {"w": floats(4, 3, 3, 3)}, "strides": [2, 2], "output_shape": [12, 10]},
    ),
    (
        "ConvTranspose",
        11,
        _IMAGE,
        {"constants": {"w": floats(4, 3, 3, 3)}, "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    ),
    ("AveragePool", 11, _IMAGE, {"kernel_shape": [3, 2], "pads": [1, 0, 0, 1], "strides": [2, 2]}),
    (
        "AveragePool",
        19,
        _IMAGE,
        {
            "kernel_shape": [3, 3],
            "pads": [1, 1, 1, 1],
            "strides": [2, 2],
            "ceil_mode": 1,
            "count_include_pad": 1,
        },
    ),
    ("MaxPool", 11, _IMAGE, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2], "ceil_mode": 1}),
    ("MaxPool", 11, _IMAGE, {"kernel_shape": [2, 3], "pads": [1, 2, 0, 0], "outputs": 2}),
    ("MaxPool", 11, _IMAGE, {"kernel_shape": [2, 2], "strides": [1, 2], "outputs": 2, "storage_order": 1}),
    ("GlobalMaxPool", 11, {"x": floats(2, 3, 7)}, {}),
    ("LRN", 11, _IMAGE, {"size": 3, "alpha": 0.1, "beta": 0.5, "bias": 2.0}),
    ("InstanceNormalization", 11, {"x": floats(2, 3, 1, 1)}, {"constants": {"s": floats(3), "b": floats(3)}}),
    ("DepthToSpace", 11, {"x": floats(1, 8, 2, 3)}, {"blocksize": 2, "mode": "CRD"}),
    ("Flatten", 11, _IMAGE, {"axis": -1}),
    ("Gemm", 11, {"a": floats(3, 2)}, {"constants": {"b": floats(3, 4)}, "transA": 1, "alpha": 0.5}),
    (
        "Gemm",
        11,
        {"a": floats(2, 3)},
        {"constants": {"b": floats(4, 3), "c": floats(2, 1)}, "transB": 1, "beta": 2.0},
    ),
    ("CumSum", 14, _IMAGE, {"constants": {"a": np.array(-1, dtype=np.int32)}, "exclusive": 1, "reverse": 1}),
]


@pytest.mark.parametrize(
    ("kind", "opset", "inputs", "settings"), SETTINGS, ids=[f"{index}-{row[0]}" for index, row in enumerate(SETTINGS)]
)
def test_older_sets_and_other_settings_agree_with_onnxruntime(
    kind: str, opset: int, inputs: dict[str, Array], settings: dict[str, Any]
) -> None:
    check_against_onnxruntime(node_model(kind, opset, inputs, **settings), inputs)


_COORDINATES = ["half_pixel", "pytorch_half_pixel", "asymmetric", "half_pixel_symmetric"]
_SCALES = [(2.0, 2.0), (1.5, 3.0), (0.5, 0.7), (1.0, 2.0)]


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize(
    ("coordinates", "scales"),
    # With align_corners onnxruntime takes the rounded length where ONNX's reference takes the exact one.
    [*itertools.product(_COORDINATES, _SCALES), ("align_corners", (2.0, 2.0)), ("align_corners", (1.5, 3.0))],
)
def test_resize_agrees_with_onnxruntime(mode: str, coordinates: str, scales: tuple[float, float]) -> None:
    constants = {"s": float32(1, 1, *scales)}
    model = node_model(
        "Resize",
        19,
        _IMAGE,
        constants,
        order=["x", "", "s"],
        mode=mode,
        coordinate_transformation_mode=coordinates,
        nearest_mode="floor",
    )
    check_against_onnxruntime(model, _IMAGE)


@pytest.mark.parametrize(("opset", "mode"), [(16, "bilinear"), (16, "bicubic"), (20, "linear"), (20, "nearest")])
def test_grid_sample_agrees_with_onnxruntime(opset: int, mode: str) -> None:
    inputs = {"x": floats(2, 3, 5, 4), "grid": floats(2, 6, 7, 2)}
    for padding in ("zeros", "border", "reflection"):
        check_against_onnxruntime(node_model("GridSample", opset, inputs, mode=mode, padding_mode=padding), inputs)
