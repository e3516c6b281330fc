"""Whole graphs by torch against onnxruntime, and what a session promises beside its numbers."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from flux_face.nodes.errors import UserInputError
from flux_face.nodes.face.runtime.onnx_model import DataType, OnnxFileError, parse_model
from flux_face.nodes.face.runtime.session import TensorSpec
from flux_face.nodes.face.runtime.torch_ops.registry import TORCH_TYPES
from flux_face.nodes.face.runtime.torch_program import Program, UnsupportedGraphError
from flux_face.nodes.face.runtime.torch_session import TorchSession

from . import graphs, torch_graphs

CPU = torch.device("cpu")
GRAPHS: dict[str, tuple[Callable[[], bytes], dict[str, tuple[int, ...]]]] = {
    "residual": (torch_graphs.residual, {"x": (2, 3, 28, 28)}),
    "pyramid": (torch_graphs.pyramid, {"x": (2, 3, 48, 40)}),
    "modulated": (torch_graphs.modulated, {"style": (1, 16)}),
    "transformer": (torch_graphs.transformer, {"x": (3, 3, 8, 8)}),
    "channels_last": (torch_graphs.channels_last, {"x": (2, 16, 16, 3)}),
}
FAMILIES: dict[str, tuple[Callable[[Path], Path], dict[str, tuple[int, ...]]]] = {
    "scrfd": (graphs.scrfd, {"input.1": (1, 3, 96, 64)}),
    "arcface": (graphs.arcface, {"input.1": (2, 3, 112, 112)}),
    "swapper": (graphs.swapper, {"target": (1, 3, 128, 128), "source": (1, 512)}),
}


@pytest.fixture(params=[*GRAPHS, *FAMILIES])
def model_and_feeds(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    """Every graph as a file, and inputs for it."""
    path = tmp_path / f"{request.param}.onnx"
    if request.param in GRAPHS:
        make, shapes = GRAPHS[request.param]
        path.write_bytes(make())
    else:
        save, shapes = FAMILIES[request.param]
        save(path)
    generator = torch.Generator().manual_seed(5)
    return path, {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def by_onnxruntime(path: Path, feeds: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    values = session.run(names, {name: value.numpy() for name, value in feeds.items()})
    return {name: torch.from_numpy(value) for name, value in zip(names, values, strict=True)}


def test_whole_graphs_agree_with_onnxruntime(model_and_feeds: tuple[Path, dict[str, torch.Tensor]]) -> None:
    path, feeds = model_and_feeds
    ours = TorchSession(path, CPU).run(feeds)
    theirs = by_onnxruntime(path, feeds)
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-4, atol=1e-4)


def test_half_precision_stays_close(model_and_feeds: tuple[Path, dict[str, torch.Tensor]]) -> None:
    path, feeds = model_and_feeds
    session = TorchSession(path, CPU, "float16")
    assert session.provider == "torch cpu float16"
    assert all(weight.dtype == torch.float16 for weight in session.module.parameters())
    ours, exact = session.run(feeds), by_onnxruntime(path, feeds)
    codes = path.stem == "transformer"
    for name, value in ours.items():
        assert value.dtype == torch.float32
        if codes and name == "out0":
            # A code that is nearly as good as the best makes another picture.
            continue
        spread = exact[name].std().clamp(min=0.1)
        assert ((value - exact[name]).abs().max() / spread).item() < 0.05


def test_nothing_waits_for_the_device(model_and_feeds: tuple[Path, dict[str, torch.Tensor]]) -> None:
    path, feeds = model_and_feeds
    model = parse_model(path.read_bytes())
    # Tensors of this device have a shape and no values: reading one, or mixing it with the CPU's, is an error.
    program = Program(model, torch.device("meta"))
    values = program({name: value.to("meta") for name, value in feeds.items()})
    expected = TorchSession(path, CPU).run(feeds)
    assert [value.shape for value in values] == [value.shape for value in expected.values()]
    assert all(value.is_meta for value in values)
    # Weights that were moved away come back for the run.
    program.to_empty(device="cpu")
    assert all(value.is_meta for value in program({name: value.to("meta") for name, value in feeds.items()}))


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: dict[str, Any],
    outputs: dict[str, Any],
    constants: dict[str, Any] | None = None,
    kind: int = TensorProto.FLOAT,
    opset: int = 17,
) -> Path:
    infos = [
        [helper.make_tensor_value_info(name, kind if index == 0 else TensorProto.FLOAT, shape) for name, shape in table]
        for index, table in enumerate((inputs.items(), outputs.items()))
    ]
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(nodes, "g", *infos, weights)
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]), str(path))
    return path


def test_the_module_holds_what_the_graph_uses_and_nothing_else(tmp_path: Path) -> None:
    path = graphs.swapper(tmp_path / "m.onnx", emap=graphs.random_emap(np.float16))
    module = TorchSession(path, CPU).module
    model = parse_model(path.read_bytes())
    read = {name for node in model.graph.nodes for name in node.inputs}
    expected = [t.values.size for t in model.graph.initializers if t.name in read and t.data_type == DataType.FLOAT]
    assert sorted(weight.numel() for weight in module.parameters()) == sorted(expected)
    assert max(expected) < 512 * 512
    assert not any(weight.requires_grad for weight in module.parameters())
    # The projection that no node reads is half, and does not make the graph one of half precision.
    half = TorchSession(path, CPU, "float16").module
    assert {weight.dtype for weight in half.parameters()} == {torch.float16}


def test_normalisations_go_into_the_convolutions(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(torch_graphs.residual())
    labels = [step.label for step in TorchSession(tmp_path / "m.onnx", CPU).module.steps]
    # Those before a convolution or behind a matrix product remain, as a scale and an offset.
    assert not any(label.startswith("BatchNormalization") for label in labels)
    assert sum("ScaleShift" in label for label in labels) == 6


def test_the_model_that_was_given_stays_as_it_was() -> None:
    data = torch_graphs.residual()
    model = parse_model(data)
    first = TorchSession.from_model(model, Path("edited.onnx"), CPU)
    assert [node.op_type for node in model.graph.nodes] == [node.op_type for node in parse_model(data).graph.nodes]
    assert [node.inputs for node in model.graph.nodes] == [node.inputs for node in parse_model(data).graph.nodes]
    feeds = {"x": torch.ones(1, 3, 28, 28)}
    second = TorchSession.from_model(model, Path("edited.onnx"), CPU)
    assert first.path == Path("edited.onnx")
    assert torch.equal(first.run(feeds)["out0"], second.run(feeds)["out0"])


def test_weights_as_read_are_let_go(tmp_path: Path) -> None:
    model = parse_model(torch_graphs.pyramid())
    read = [weakref.ref(tensor.values) for tensor in model.graph.initializers if tensor.values.ndim == 4]
    session = TorchSession.from_model(model, tmp_path, CPU, "float16")
    del model
    gc.collect()
    assert len(read) > 5
    assert all(reference() is None for reference in read)
    assert session.module is not None


class _Alive(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts tensors of a size that exist at once."""

    def __init__(self, numel: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.numel = numel
        self.seen: list[weakref.ref[torch.Tensor]] = []
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.numel() == self.numel:
            self.seen.append(weakref.ref(result))
        self.most = max(self.most, sum(reference() is not None for reference in self.seen))
        return result


def test_values_are_let_go_after_their_last_use(tmp_path: Path) -> None:
    names = ["x", *(f"v{index}" for index in range(20))]
    nodes = [helper.make_node("Sin", [a], [b]) for a, b in itertools.pairwise(names)]
    session = TorchSession(save(tmp_path / "m.onnx", nodes, {"x": [1000]}, {names[-1]: [1000]}), CPU)
    with _Alive(1000) as alive:
        session.run({"x": torch.ones(1000)})
    assert len(alive.seen) >= 20
    # The caller's input, which is seen twice, a step's input and its output.
    assert alive.most <= 4


def test_a_fixed_batch_takes_others(tmp_path: Path) -> None:
    session = TorchSession(graphs.swapper(tmp_path / "m.onnx", size=32), CPU)
    assert session.inputs == (TensorSpec("target", (1, 3, 32, 32)), TensorSpec("source", (1, 512)))
    target, source = torch.rand(3, 3, 32, 32), torch.randn(3, 512)
    together = session.run({"target": target, "source": source})["output"]
    single = [session.run({"target": target[i : i + 1], "source": source[i : i + 1]})["output"] for i in range(3)]
    torch.testing.assert_close(together, torch.cat(single))


def test_outputs_belong_to_the_caller(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["c"], ["z"])]
    path = save(tmp_path / "m.onnx", nodes, {"x": [2]}, {"y": [2], "z": [2]}, {"c": np.array([1, 2], np.float32)})
    session = TorchSession(path, CPU)
    x = torch.tensor([5.0, 6.0])
    first = session.run({"x": x})
    for value in first.values():
        value += 1
    assert x.tolist() == [5, 6]
    assert session.run({"x": x})["z"].tolist() == [1, 2]


def test_sizes_are_computed_in_single_precision(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Cast", ["s"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "one"], ["m"]),
        helper.make_node("Cast", ["m"], ["i"], to=TensorProto.INT64),
        helper.make_node("ConstantOfShape", ["i"], ["zeros"]),
        helper.make_node("Add", ["zeros", "one"], ["y"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"x": ["n"]}, {"y": ["n"]}, {"one": np.float32(1)})
    # Half precision would make 4002 of it, and 4000.
    y = TorchSession(path, CPU, "float16").run({"x": torch.zeros(4001)})["y"]
    assert y.shape == (4001,)
    assert y.eq(1).all()


def test_numbers_made_from_sizes_join_half_precision(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Squeeze", ["s"], ["n"]),
        helper.make_node("Cast", ["n"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Range", ["zero", "f", "one"], ["r"]),
        helper.make_node("Pad", ["r", "pads", "least"], ["p"]),
        helper.make_node("Clip", ["p", "zero"], ["c"]),
        helper.make_node("Div", ["c", "f"], ["d"]),
        helper.make_node("MatMul", ["d", "w"], ["y"]),
    ]
    constants = {
        "zero": np.float32(0),
        "one": np.float32(1),
        "pads": np.array([1, 0], np.int64),
        "least": np.float32(-1e9),
        "w": np.ones((5, 1), np.float32),
    }
    path = save(tmp_path / "m.onnx", nodes, {"x": ["n"]}, {"y": [1]}, constants)
    for precision in ("float32", "float16"):
        assert TorchSession(path, CPU, precision).run({"x": torch.zeros(4)})["y"].tolist() == [1.5]
    program = Program(parse_model(path.read_bytes()), torch.device("meta"), {**TORCH_TYPES, DataType.FLOAT: torch.half})
    assert program({"x": torch.zeros(4, device="meta")})[0].dtype == torch.half


@pytest.mark.parametrize(("weights", "result"), [(np.float16, 1000.0), (np.float32, float("inf"))])
def test_half_precision_keeps_what_a_graph_keeps_single(tmp_path: Path, weights: Any, result: float) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(weights))
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=kind),
        helper.make_node("Mul", ["h", "w"], ["m"]),
        helper.make_node("Cast", ["m"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "f"], ["square"]),
        helper.make_node("Sqrt", ["square"], ["y"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"x": [1]}, {"y": [1]}, {"w": np.array([10], weights)})
    assert TorchSession(path, CPU, "float16").run({"x": torch.tensor([100.0])})["y"].item() == result
    assert TorchSession(path, CPU, "float32").run({"x": torch.tensor([100.0])})["y"].item() == 1000.0


def test_inputs_are_taken_in_the_graphs_type(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Mul", ["w", "half"], ["d"]),
        helper.make_node("Cast", ["d"], ["y"], to=TensorProto.FLOAT),
    ]
    path = save(
        tmp_path / "m.onnx",
        nodes,
        {"w": [1]},
        {"y": [1]},
        {"half": np.array([0.5], np.float64)},
        kind=TensorProto.DOUBLE,
    )
    assert TorchSession(path, CPU).run({"w": torch.tensor([3.0])})["y"].tolist() == [1.5]


def test_weights_that_old_files_list_as_inputs_are_no_inputs(tmp_path: Path) -> None:
    node = helper.make_node("Add", ["x", "w"], ["y"])
    path = save(tmp_path / "m.onnx", [node], {"x": [2], "w": [2]}, {"y": [2]}, {"w": np.array([1, 2], np.float32)})
    session = TorchSession(path, CPU)
    assert [spec.name for spec in session.inputs] == ["x"]
    assert session.run({"x": torch.zeros(2)})["y"].tolist() == [1, 2]


def test_inputs_of_open_rank_take_any(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], {"x": None}, {"y": None})
    assert TorchSession(path, CPU).run({"x": torch.ones(2, 3)})["y"].shape == (2, 3)


def test_folding_takes_no_name_that_the_graph_has(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "one", "zero", "zero", "four"], ["n"], epsilon=0.0),
        helper.make_node("Add", ["n", "n/weight"], ["y"]),
        helper.make_node("BatchNormalization", ["y", "one", "zero", "zero", "four"], ["z"], epsilon=0.0),
        helper.make_node("Add", ["z", "z/scale"], ["device:z"]),
    ]
    constants = {
        "w": np.full((1, 1, 1, 1), 6, np.float32),
        "n/weight": np.float32(10),
        "z/scale": np.float32(100),
        "one": np.ones(1, np.float32),
        "zero": np.zeros(1, np.float32),
        "four": np.full(1, 4, np.float32),
    }
    path = save(tmp_path / "m.onnx", nodes, {"x": [1, 1, 1, 1]}, {"device:z": [1, 1, 1, 1]}, constants)
    result = TorchSession(path, CPU).run({"x": torch.ones(1, 1, 1, 1)})["device:z"]
    assert result.item() == (6 / 2 + 10) / 2 + 100


def test_wrong_inputs_are_named(tmp_path: Path) -> None:
    session = TorchSession(graphs.arcface(tmp_path / "m.onnx"), CPU)
    with pytest.raises(ValueError, match=r"takes \['input\.1'\], not \['data'\]"):
        session.run({"data": torch.zeros(1, 3, 112, 112)})
    with pytest.raises(ValueError, match=r"input 'input\.1' has shape \(1, 3, 64, 64\)"):
        session.run({"input.1": torch.zeros(1, 3, 64, 64)})
    with pytest.raises(ValueError, match="has shape"):
        session.run({"input.1": torch.zeros(3, 112, 112)})


def test_a_step_that_fails_is_named(tmp_path: Path) -> None:
    node = helper.make_node("Reshape", ["x", "s"], ["y"], name="baked")
    path = save(tmp_path / "m.onnx", [node], {"x": ["n", 4]}, {"y": [1, 4]}, {"s": np.array([1, 4], np.int64)})
    with pytest.raises(RuntimeError, match=r"m\.onnx: Reshape \(baked\) failed"):
        TorchSession(path, CPU).run({"x": torch.zeros(2, 4)})


def test_everything_that_is_not_implemented_is_named_at_once(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonMaxSuppression", ["x", "x"], ["a"], name="nms"),
        helper.make_node("Gelu", ["x"], ["b"], domain="com.microsoft"),
        helper.make_node("Softmax", ["x"], ["c"], temperature=2.0),
        helper.make_node("Cast", ["s"], ["d"], to=TensorProto.UINT64),
    ]
    outputs: dict[str, Any] = dict.fromkeys("abcd")
    path = save(tmp_path / "m.onnx", nodes, {"x": [1]}, outputs, {"s": np.float32(1), "u": np.array([1], np.uint16)})
    with pytest.raises(UserInputError) as caught:
        TorchSession(path, CPU)
    assert caught.value.code == "onnx_unsupported"
    assert caught.value.field == "m.onnx"
    for words in (
        "NonMaxSuppression (nms)",
        "com.microsoft.Gelu (b)",
        "Softmax (c) with attribute temperature",
        "Cast (d) with element type uint64",
        "initializer u with element type uint16",
    ):
        assert words in caught.value.problem


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([helper.make_node("Relu", ["nowhere"], ["y"])], "reads 'nowhere', which nothing before it makes"),
        ([helper.make_node("Relu", ["x"], ["z"])], "nothing makes the output 'y'"),
        ([helper.make_node("Relu", ["x"], ["x"])], "makes 'x' a second time"),
        ([helper.make_node("Reshape", ["c", "s"], ["y"])], r"Reshape \(y\) cannot run"),
        ([helper.make_node("ConstantOfShape", ["huge"], ["y"])], r"ConstantOfShape \(y\) cannot run"),
        ([helper.make_node("Relu", [], ["y"])], r"Relu \(y\) cannot run"),
    ],
)
def test_graphs_that_make_no_sense_are_refused(tmp_path: Path, nodes: list[onnx.NodeProto], words: str) -> None:
    constants = {"c": np.array([1, 2], np.float32), "s": np.array([3], np.int64), "huge": np.array([2**50], np.int64)}
    path = save(tmp_path / "m.onnx", nodes, {"x": [1]}, {"y": [1]}, constants)
    with pytest.raises(UserInputError, match=words) as caught:
        TorchSession(path, CPU)
    assert caught.value.code == "onnx_contract"


def test_files_that_are_no_models_are_refused(tmp_path: Path) -> None:
    path = graphs.arcface(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserInputError) as caught:
        TorchSession(path, CPU)
    assert caught.value.code == "onnx_contract"
    weight = helper.make_tensor("t", TensorProto.STRING, [1], [b"text"])
    onnx.save_model(helper.make_model(helper.make_graph([], "g", [], [], [weight])), str(path))
    with pytest.raises(UserInputError, match="tensor 't' is of type string") as caught:
        TorchSession(path, CPU)
    assert caught.value.code == "onnx_unsupported"


_DAMAGED = torch_graphs.channels_last()


@given(st.lists(st.tuples(st.integers(0, len(_DAMAGED) - 1), st.integers(0, 255)), min_size=1, max_size=12))
@settings(deadline=None, max_examples=60)
def test_damaged_graphs_fail_in_known_ways(changes: list[tuple[int, int]]) -> None:
    data = bytearray(_DAMAGED)
    for place, value in changes:
        data[place] = value
    try:
        program = Program(parse_model(bytes(data)), CPU)
        program({info.name: torch.ones(1, 16, 16, 3) for info in program.inputs})
    except (OnnxFileError, UnsupportedGraphError, RuntimeError):
        return
