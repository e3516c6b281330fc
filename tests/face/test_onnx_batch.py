"""Batches freed in graphs with the kinds of operator that fix them; plain onnxruntime on the file is the reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from flux_face.nodes.face.runtime.onnx_batch import difference, fixed_inputs, free_batch, probe
from flux_face.nodes.face.runtime.onnx_model import model_bytes, read_model
from flux_face.nodes.face.runtime.ort_session import OrtSession
from flux_face.nodes.face.runtime.session import TensorSpec, run_batched

from . import graphs

Build = Callable[[Path], Path]


def of_file(path: Path, feeds: dict[str, Tensor]) -> list[Tensor]:
    """What the file itself gives for each item."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    shared = {value.name for value in session.get_inputs() if len(value.shape) < 2}
    runs = []
    for index in range(len(next(value for name, value in feeds.items() if name not in shared))):
        item = {n: value if n in shared else value[index : index + 1] for n, value in feeds.items()}
        runs.append(session.run(None, {name: value.numpy() for name, value in item.items()}))
    return [torch.from_numpy(np.concatenate(values)) for values in zip(*runs, strict=True)]


def some(session: OrtSession, count: int = 3) -> dict[str, Tensor]:
    """Random inputs for `count` items."""
    random = torch.Generator().manual_seed(1)
    return {
        spec.name: torch.randn([count, *(size or 96 for size in spec.shape[1:])], generator=random)
        for spec in session.inputs
    }


def written(
    path: Path,
    nodes: list[onnx.NodeProto],
    *,
    shape: list[int | str] | None = None,
    ir_version: int = 8,
    opset: int = 13,
    **constants: Any,
) -> Path:
    """A graph from ``x`` ``[1, 4, 8, 8]`` to ``y``, whose shape onnx infers, as exporters write it."""
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape or [1, 4, 8, 8])]
    if ir_version < 4:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in initializers]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", inputs, [output], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    onnx.save_model(model, str(path))
    return path


def shape_node(name: str, *sizes: int) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(sizes, np.int64)))


def ints(*values: int) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)


node = helper.make_node

RELEASED: dict[str, Build] = {
    "inswapper": lambda path: graphs.swapper(path, emap=graphs.random_emap()),
    "hyperswap": lambda path: graphs.swapper(path, 256, source_first=True, mask=True, signed=True),
    "blendswap": lambda path: graphs.photo_swapper(path, 256, 112),
    "crossface": graphs.converter,
    "xseg": lambda path: graphs.occluder(path, 128),
    "gfpgan": lambda path: graphs.restorer(path, 128),
}


@pytest.mark.parametrize("name", RELEASED)
def test_released_kinds_run_as_one_batch(name: str, tmp_path: Path) -> None:
    path = RELEASED[name](tmp_path / "model.onnx")
    session = OrtSession(path, "cpu")
    assert session.note == ""
    assert all(spec.shape[0] is None for spec in (*session.inputs, *session.outputs))
    feeds = some(session)
    for ours, theirs in zip(session.run(feeds).values(), of_file(path, feeds), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


def test_scrfd_takes_several_pictures(tmp_path: Path) -> None:
    """Its outputs hold the pictures' rows by turns, two anchors to each cell; a batch of one is as before."""
    path = graphs.scrfd(tmp_path / "det_10g.onnx")
    session = OrtSession(path, "cpu")
    assert session.note == ""
    assert session.inputs[0].shape == (None, 3, None, None)
    feeds = some(session)
    names = [spec.name for spec in session.outputs]
    for name, theirs in zip(names, of_file(path, feeds), strict=True):
        ours = session.run(feeds)[name]
        rows = ours.reshape(-1, 3, 2, ours.shape[-1]).transpose(0, 1).reshape(theirs.shape)
        torch.testing.assert_close(rows, theirs, atol=2e-5, rtol=1e-4)


def test_free_files_are_left_alone(tmp_path: Path) -> None:
    session = OrtSession(graphs.arcface(tmp_path / "w600k_r50.onnx"), "cpu")
    assert fixed_inputs(session.inputs) == set()
    assert session.inputs[0].shape[0] is None
    model = read_model(graphs.arcface(tmp_path / "again.onnx"))
    before = model_bytes(model)
    free_batch(model)
    assert model_bytes(model) == before


def test_a_setting_is_no_batch(tmp_path: Path) -> None:
    """CodeFormer's weight is one number for all pictures."""
    path = graphs.restorer(tmp_path / "codeformer.onnx", 64, weight=True)
    session = OrtSession(path, "cpu")
    assert {spec.name: spec.shape for spec in session.inputs} == {"input": (None, 3, 64, 64), "weight": (1,)}
    pictures, weight = some(session)["input"], torch.tensor([0.7], dtype=torch.float64)
    ours = session.run({"input": pictures, "weight": weight})["output"]
    torch.testing.assert_close(ours, of_file(path, {"input": pictures, "weight": weight})[0], atol=2e-5, rtol=1e-4)


# What fixes a batch, by operator. Freed at its inputs alone, each graph fails with two items, except for two that hold
# a leading 1 which is no batch and must stay.
BAKED: dict[str, tuple[list[onnx.NodeProto], dict[str, Any]]] = {
    "reshape to sizes": ([node("Reshape", ["x", "s"], ["y"])], {"s": ints(1, 8, 4, 8)}),
    "reshape with a rest": ([node("Reshape", ["x", "s"], ["y"])], {"s": ints(1, -1)}),
    "reshape from a Constant node": ([shape_node("s", 1, 256), node("Reshape", ["x", "s"], ["y"])], {}),
    "one shape under two names": (
        [
            node("Identity", ["s"], ["t"]),
            node("Reshape", ["x", "t"], ["flat"]),
            node("Relu", ["flat"], ["r"]),
            node("Reshape", ["r", "s"], ["y"]),
        ],
        {"s": ints(1, -1)},
    ),
    "a constant's reshape, which must stay": (
        [node("Reshape", ["c", "s"], ["bias"]), node("Add", ["x", "bias"], ["y"])],
        {"c": np.arange(4, dtype=np.float32), "s": ints(1, 4, 1, 1)},
    ),
    "reshape of folded windows": (
        [
            node("Reshape", ["x", "w"], ["split"]),
            node("Transpose", ["split"], ["windows"], perm=[0, 2, 4, 3, 5, 1]),
            node("Reshape", ["windows", "f"], ["folded"]),
            node("Relu", ["folded"], ["active"]),
            node("Reshape", ["active", "s"], ["y"]),
        ],
        {"w": ints(1, 4, 2, 4, 2, 4), "f": ints(-1, 16, 4), "s": ints(1, 2, 2, 16, -1)},
    ),
    "expand and concat of a token": (
        [node("Expand", ["token", "s"], ["tokens"]), node("Concat", ["tokens", "x"], ["y"], axis=1)],
        {"token": np.ones((1, 1, 1, 8), np.float32), "s": ints(1, 1, 8, 8)},
    ),
    "constant of shape": (
        [
            node("ConstantOfShape", ["s"], ["zeros"], value=numpy_helper.from_array(np.array([2.0], np.float32))),
            node("Concat", ["x", "zeros"], ["y"], axis=1),
        ],
        {"s": ints(1, 2, 8, 8)},
    ),
    "tile of a constant": (
        [node("Tile", ["token", "s"], ["tiles"]), node("Concat", ["x", "tiles"], ["y"], axis=1)],
        {"token": np.ones((1, 1, 8, 4), np.float32), "s": ints(1, 1, 1, 2)},
    ),
    "a picture's tile, which must stay": ([node("Tile", ["x", "s"], ["y"])], {"s": ints(1, 1, 2, 2)}),
    "resize to sizes": (
        [node("Resize", ["x", "", "", "s"], ["y"], mode="linear")],
        {"s": ints(1, 4, 16, 16)},
    ),
    "shape joined at run time": (
        [
            node("Shape", ["x"], ["all"]),
            node("Slice", ["all", "from", "to"], ["rest"]),
            node("Concat", ["one", "rest"], ["s"], axis=0),
            node("Relu", ["x"], ["r"]),
            node("Reshape", ["r", "s"], ["y"]),
        ],
        {"from": ints(1), "to": ints(4), "one": ints(1)},
    ),
}


@pytest.mark.parametrize("ir_version", [3, 8])
@pytest.mark.parametrize("name", BAKED)
def test_what_fixes_a_batch_is_repaired(name: str, ir_version: int, tmp_path: Path) -> None:
    nodes, constants = BAKED[name]
    path = written(tmp_path / "model.onnx", nodes, ir_version=ir_version, **constants)
    session = OrtSession(path, "cpu")
    assert session.note == ""
    assert [spec.shape[0] for spec in session.inputs] == [None]
    feeds = some(session)
    torch.testing.assert_close(session.run(feeds)["y"], of_file(path, feeds)[0], atol=1e-6, rtol=1e-6)
    one = {"x": feeds["x"][:1]}
    torch.testing.assert_close(session.run(one)["y"], of_file(path, one)[0], atol=1e-6, rtol=1e-6)


# Networks that look across the batch, or lose it.
BOUND: dict[str, tuple[list[onnx.NodeProto], dict[str, Any]]] = {
    "statistics of the whole batch": (
        [node("ReduceMean", ["x"], ["mean"], axes=[0, 2, 3]), node("Sub", ["x", "mean"], ["y"])],
        {},
    ),
    "a trace of the others": (
        [
            node("ReduceMean", ["x"], ["mean"], axes=[0, 2, 3]),
            node("Mul", ["mean", "little"], ["trace"]),
            node("Add", ["x", "trace"], ["y"]),
        ],
        {"little": np.array(0.05, np.float32)},
    ),
    "the first item only": (
        [
            node("Gather", ["x", "zero"], ["item"], axis=0),
            node("Unsqueeze", ["item", "axes"], ["back"]),
            node("Relu", ["back"], ["y"]),
        ],
        {"zero": np.array(0, np.int64), "axes": ints(0)},
    ),
    "the first item added to all": (
        [
            node("Gather", ["x", "zero"], ["item"], axis=0),
            node("Add", ["x", "item"], ["y"]),
        ],
        {"zero": np.array(0, np.int64)},
    ),
    "squeezed": (
        [node("Squeeze", ["x", "axes"], ["item"]), node("Relu", ["item"], ["y"])],
        {"axes": ints(0)},
    ),
    "kernels made from the picture": (
        [
            node("Reshape", ["x", "s"], ["kernel"]),
            node("Conv", ["x", "kernel"], ["y"], pads=[1, 1, 1, 1]),
        ],
        {"s": ints(4, 4, 4, 4)},
    ),
    "noise": (
        [node("RandomNormalLike", ["x"], ["noise"]), node("Add", ["x", "noise"], ["y"])],
        {},
    ),
    "nothing of the input": (
        [node("Mul", ["x", "zero"], ["none"]), node("Add", ["none", "one"], ["y"])],
        {"zero": np.array(0, np.float32), "one": np.array(1, np.float32)},
    ),
}


@pytest.mark.parametrize("name", BOUND)
def test_networks_that_mix_items_keep_a_batch_of_one(name: str, tmp_path: Path) -> None:
    nodes, constants = BOUND[name]
    path = written(tmp_path / "model.onnx", nodes, **constants)
    session = OrtSession(path, "cpu")
    assert session.inputs[0].shape[0] == 1
    assert "model.onnx runs one item at a time" in session.note
    if name != "noise":
        feeds = some(session)
        torch.testing.assert_close(run_batched(session, feeds)[0], of_file(path, feeds)[0], atol=1e-6, rtol=1e-6)


def test_a_file_the_reader_does_not_take_keeps_its_batch(tmp_path: Path) -> None:
    """Weights in a second file: onnxruntime reads them, the editing does not."""
    path = graphs.converter(tmp_path / "whole.onnx")
    split = tmp_path / "split.onnx"
    onnx.save_model(onnx.load(str(path)), str(split), save_as_external_data=True, location="weights", size_threshold=0)
    session = OrtSession(split, "cpu")
    assert session.inputs[0].shape == (1, 512)
    assert "one item at a time" in session.note
    feeds = some(session)
    torch.testing.assert_close(run_batched(session, feeds)[0], of_file(path, feeds)[0])


def test_inputs_too_large_to_try_keep_their_batch(tmp_path: Path) -> None:
    path = written(tmp_path / "model.onnx", [node("Relu", ["x"], ["y"])], shape=[1, 3, 100_000, 100_000])
    assert OrtSession(path, "cpu").inputs[0].shape[0] == 1


def test_the_check_tells_a_mixed_up_order() -> None:
    a, b = {"y": torch.tensor([[1.0, 2.0]])}, {"y": torch.tensor([[3.0, 4.0]])}
    both = torch.cat([a["y"], b["y"]])
    assert difference([a, b], {"y": both}, exact=True) == ""
    assert "'y'" in difference([a, b], {"y": both.flip(0)}, exact=True)
    assert "'y'" in difference([a, b], {"y": both + 0.05}, exact=True)
    assert "'y'" in difference([a, b], {"y": both * torch.nan}, exact=True)
    assert difference([a, a], {"y": torch.cat([a["y"], a["y"]])}, exact=True) != ""


def test_probe_batches_pictures_and_shares_settings() -> None:
    items, both = probe([TensorSpec("x", (1, 3, None, None)), TensorSpec("free", (None, 5)), TensorSpec("w", (1,))])
    assert {name: tuple(value.shape) for name, value in both.items()} == {
        "x": (2, 3, 64, 64),
        "free": (2, 5),
        "w": (1,),
    }
    assert torch.equal(torch.cat([item["x"] for item in items]), both["x"])
    assert torch.equal(items[0]["w"], items[1]["w"])
    assert not torch.equal(items[0]["free"], items[1]["free"])
