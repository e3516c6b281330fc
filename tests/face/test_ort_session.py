"""Sessions of onnxruntime on graphs of our own; a plain onnxruntime session is the reference."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from flux_face.nodes.errors import UserInputError
from flux_face.nodes.face.runtime.ort_providers import GPU_PROVIDERS
from flux_face.nodes.face.runtime.ort_session import OrtSession

from . import graphs

MIB = 1 << 20
node = helper.make_node
Table = dict[str, tuple[int, list[int | str]]]


def written(path: Path, nodes: list[onnx.NodeProto], inputs: Table, outputs: Table, **constants: Any) -> Path:
    def values(table: Table) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in table.items()]

    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", values(inputs), values(outputs), initializers)
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


def reference(path: Path, feeds: dict[str, Tensor]) -> dict[str, Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    values = session.run(None, {name: value.numpy() for name, value in feeds.items()})
    return {
        output.name: torch.from_numpy(value.astype(np.float32))
        for output, value in zip(session.get_outputs(), values, strict=True)
    }


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def weights(path: Path, megabytes: int) -> Path:
    """``y = x @ w`` with a matrix of this size."""
    columns = megabytes * MIB // 4 // 512
    matrix = np.random.default_rng(0).standard_normal((512, columns)).astype(np.float32)
    kind = TensorProto.FLOAT
    return written(
        path,
        [node("MatMul", ["x", "w"], ["y"])],
        {"x": (kind, ["n", 512])},
        {"y": (kind, ["n", columns])},
        w=matrix,
    )


def memory() -> float:
    gc.collect()
    return float(psutil.Process().memory_info().rss) / MIB


def test_outputs_equal_those_of_a_plain_session(tmp_path: Path) -> None:
    path = graphs.scrfd(tmp_path / "det_10g.onnx")
    session = OrtSession(path, "cpu")
    assert session.device == torch.device("cpu")
    assert (session.provider, session.note) == ("CPUExecutionProvider", "")
    # The first run of a size, where onnxruntime makes the outputs, and later ones, which write to torch's memory.
    for run, side in enumerate((64, 96, 64, 96, 64)):
        feeds = {"input.1": random(1, 3, side, side, seed=run)}
        torch.testing.assert_close(session.run(feeds), reference(path, feeds), atol=0, rtol=0)


def test_inputs_need_not_be_contiguous_or_of_the_graphs_type(tmp_path: Path) -> None:
    path = graphs.swapper(tmp_path / "inswapper_128.onnx")
    session = OrtSession(path, "cpu")
    picture, source = random(1, 128, 128, 3).permute(0, 3, 1, 2), random(1, 512).half()
    expected = reference(path, {"target": picture.contiguous(), "source": source.float()})
    for _ in range(2):
        ours = session.run({"target": picture, "source": source})
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0)


def test_every_element_type_goes_in_and_comes_out_as_float32(tmp_path: Path) -> None:
    kinds = {
        "half": TensorProto.FLOAT16,
        "double": TensorProto.DOUBLE,
        "long": TensorProto.INT64,
        "int": TensorProto.INT32,
        "byte": TensorProto.UINT8,
        "bool": TensorProto.BOOL,
    }
    path = written(
        tmp_path / "types.onnx",
        [node("Identity", [name], [f"{name}_out"]) for name in kinds],
        {name: (kind, ["n", 3]) for name, kind in kinds.items()},
        {f"{name}_out": (kind, ["n", 3]) for name, kind in kinds.items()},
    )
    session = OrtSession(path, "cpu")
    assert session.half
    value = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    for _ in range(2):
        ours = session.run(dict.fromkeys(kinds, value))
        assert all(output.dtype == torch.float32 and torch.equal(output, value) for output in ours.values())


def test_a_half_graph_computes_in_half(tmp_path: Path) -> None:
    matrix = random(8, 4).numpy().astype(np.float16)
    path = written(
        tmp_path / "half.onnx",
        [node("MatMul", ["x", "w"], ["y"])],
        {"x": (TensorProto.FLOAT16, [1, 8])},
        {"y": (TensorProto.FLOAT16, [1, 4])},
        w=matrix,
    )
    session = OrtSession(path, "cpu")
    assert session.inputs[0].shape == (None, 8)
    value = random(3, 8)
    expected = value.half().float() @ torch.from_numpy(matrix).float()
    torch.testing.assert_close(session.run({"x": value})["y"], expected, atol=1e-2, rtol=1e-2)


def test_outputs_whose_size_depends_on_the_values(tmp_path: Path) -> None:
    path = written(
        tmp_path / "nonzero.onnx",
        [node("NonZero", ["x"], ["y"])],
        {"x": (TensorProto.FLOAT, ["n", 4])},
        {"y": (TensorProto.INT64, [2, "found"])},
    )
    session = OrtSession(path, "cpu")
    for ones in (3, 5, 0, 8):
        value = torch.zeros(8)
        value[:ones] = 1
        feeds = {"x": value.reshape(2, 4)}
        torch.testing.assert_close(session.run(feeds), reference(path, feeds))


def test_outputs_whose_declared_size_is_wrong(tmp_path: Path) -> None:
    """w600k_r50 takes any batch and declares an output of one."""
    path = written(
        tmp_path / "w600k_r50.onnx",
        [node("Relu", ["x"], ["y"])],
        {"x": (TensorProto.FLOAT, ["None", 5])},
        {"y": (TensorProto.FLOAT, [1, 5])},
    )
    session = OrtSession(path, "cpu")
    for count in (1, 3, 3, 1):
        feeds = {"x": random(count, 5, seed=count)}
        torch.testing.assert_close(session.run(feeds)["y"], feeds["x"].relu())


def test_results_outlive_the_session(tmp_path: Path) -> None:
    path = weights(tmp_path / "w.onnx", 4)
    feeds = {"x": random(2, 512)}
    expected = reference(path, feeds)["y"]
    session = OrtSession(path, "cpu")
    results = [session.run(feeds)["y"] for _ in range(3)]
    session.release()
    del session
    other = OrtSession(path, "cpu")
    other.run({"x": random(2, 512, seed=9)})
    for result in results:
        torch.testing.assert_close(result, expected)


def test_a_released_session_comes_back(tmp_path: Path) -> None:
    path = graphs.swapper(tmp_path / "hyperswap.onnx", mask=True)
    session = OrtSession(path, "cpu")
    feeds = {"target": random(2, 3, 128, 128), "source": random(2, 512)}
    before = session.run(feeds)
    session.release()
    assert not session.loaded
    after = session.run(feeds)
    assert session.loaded
    torch.testing.assert_close(after, before, atol=0, rtol=0)


def test_a_file_that_was_changed_is_not_loaded_in_its_place(tmp_path: Path) -> None:
    path = graphs.converter(tmp_path / "converter.onnx")
    session = OrtSession(path, "cpu")
    session.release()
    graphs.converter(path, seed=99)
    os.utime(path, ns=(1, 1))
    with pytest.raises(UserInputError, match="changed") as caught:
        session.run({"input": random(1, 512)})
    assert caught.value.code == "onnx_contract"
    path.unlink()
    with pytest.raises(UserInputError, match="cannot be read") as caught:
        session.run({"input": random(1, 512)})
    assert caught.value.code == "onnx_contract"


def test_sessions_leave_nothing_behind(tmp_path: Path) -> None:
    """Fifty of 16 MB each, released or dropped; the allocator's own ups and downs are about 100 MB."""
    path = weights(tmp_path / "w.onnx", 16)

    def cycle(count: int) -> None:
        for index in range(count):
            session = OrtSession(path, "cpu")
            session.run({"x": random(4, 512)})
            if index % 2:
                session.release()
                session.run({"x": random(4, 512)})

    cycle(5)
    before = memory()
    cycle(50)
    assert memory() - before < 200


def test_an_edited_graph_is_not_kept_beside_the_session(tmp_path: Path) -> None:
    """Of a file of 192 MB whose batch is freed, one copy stays in memory; allocators may keep some tens of MB more."""
    matrix = random(512, 98304).numpy()
    path = written(
        tmp_path / "w.onnx",
        [node("MatMul", ["x", "w"], ["y"])],
        {"x": (TensorProto.FLOAT, [1, 512])},
        {"y": (TensorProto.FLOAT, [1, 98304])},
        w=matrix,
    )
    OrtSession(graphs.converter(tmp_path / "warm.onnx"), "cpu")
    before = memory()
    session = OrtSession(path, "cpu")
    assert session.inputs[0].shape[0] is None
    assert memory() - before < 1.5 * 192


def test_memory_for_past_sizes_is_given_back(tmp_path: Path) -> None:
    """A run at 1024 pixels needs some 400 MB that one at 64 does not; onnxruntime by itself keeps them."""
    kind = TensorProto.FLOAT
    path = written(
        tmp_path / "wide.onnx",
        [
            node("Concat", ["x"] * 16, ["a"], axis=1),
            node("Relu", ["a"], ["b"]),
            node("Sigmoid", ["b"], ["c"]),
            node("ReduceMean", ["c"], ["y"], axes=[1]),
        ],
        {"x": (kind, ["n", 3, "h", "w"])},
        {"y": (kind, ["n", 1, "h", "w"])},
    )
    session = OrtSession(path, "cpu")
    session.run({"x": random(1, 3, 64, 64)})
    before = memory()
    for side in (512, 768, 1024, 640, 900, 64):
        session.run({"x": random(1, 3, side, side)})
    assert memory() - before < 200


@pytest.mark.parametrize("device", ["auto", "gpu"])
def test_a_provider_that_does_not_start(device: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import onnxruntime

    path = graphs.converter(tmp_path / "converter.onnx")
    missing = next(name for name in GPU_PROVIDERS if name not in onnxruntime.get_available_providers())
    if device == "gpu":
        with pytest.raises(UserInputError, match=f"{missing} did not start") as caught:
            OrtSession(path, "gpu", provider=missing)
        assert caught.value.code == "provider_inactive"
        return
    with caplog.at_level(logging.WARNING):
        session = OrtSession(path, "auto", provider=missing)
    assert session.provider == "CPUExecutionProvider"
    assert session.note.startswith(f"{missing} did not start")
    assert session.note.endswith("running on the CPU")
    assert f"converter.onnx: {session.note}" in caplog.text
    feeds = {"input": random(2, 512)}
    assert session.run(feeds)["output"].shape == (2, 512)


def test_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    import onnxruntime

    if any(name in GPU_PROVIDERS for name in onnxruntime.get_available_providers()):
        pytest.skip("this onnxruntime can use a GPU")
    path = graphs.converter(tmp_path / "converter.onnx")
    with pytest.raises(UserInputError, match="no GPU provider") as caught:
        OrtSession(path, "gpu")
    assert caught.value.code == "provider_inactive"
    assert "running on the CPU" in OrtSession(path, "auto").note
    assert OrtSession(path, "cpu").note == ""


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.7, 0.999])
def test_a_file_cut_short(share: float, tmp_path: Path) -> None:
    path = graphs.swapper(tmp_path / "inswapper_128.onnx", emap=graphs.random_emap())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserInputError, match="inswapper_128") as caught:
        OrtSession(path, "cpu")
    assert caught.value.code == "onnx_contract"


def _cycle(path: Path) -> Path:
    kind = TensorProto.FLOAT
    nodes = [node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"])]
    return written(path, nodes, {"x": (kind, [1, 4])}, {"b": (kind, [1, 4])})


def _unknown_operator(path: Path) -> Path:
    kind = TensorProto.FLOAT
    return written(path, [node("Evil", ["x"], ["y"])], {"x": (kind, [1, 4])}, {"y": (kind, [1, 4])})


def _text(path: Path) -> Path:
    kind = TensorProto.STRING
    return written(path, [node("Identity", ["x"], ["y"])], {"x": (kind, [1, 4])}, {"y": (kind, [1, 4])})


def _missing_input(path: Path) -> Path:
    kind = TensorProto.FLOAT
    return written(path, [node("Add", ["x", "w"], ["y"])], {"x": (kind, [1, 4])}, {"y": (kind, [1, 4])})


def _garbage(path: Path) -> Path:
    path.write_bytes(bytes(range(256)) * 40)
    return path


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize("build", [_cycle, _unknown_operator, _text, _missing_input, _garbage, _folder])
def test_graphs_that_cannot_be_loaded(build: Callable[[Path], Path], tmp_path: Path) -> None:
    path = build(tmp_path / "bad.onnx")
    with pytest.raises(UserInputError, match=r"bad\.onnx") as caught:
        OrtSession(path, "cpu")
    assert caught.value.code == "onnx_contract"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match=r"gone\.onnx") as caught:
        OrtSession(tmp_path / "gone.onnx", "cpu")
    assert caught.value.code == "onnx_contract"


def test_inputs_that_do_not_fit(tmp_path: Path) -> None:
    session = OrtSession(graphs.converter(tmp_path / "converter.onnx"), "cpu")
    with pytest.raises(UserInputError, match="cannot run it") as caught:
        session.run({"input": random(1, 300)})
    assert caught.value.code == "onnx_contract"
    assert session.run({"input": random(1, 512)})["output"].shape == (1, 512)


def test_a_graph_that_asks_for_all_memory(tmp_path: Path) -> None:
    """It loads, cannot be tried and fails as memory that ran out, which ComfyUI answers by freeing its models."""
    kind = TensorProto.FLOAT
    nodes = [
        node("ConstantOfShape", ["s"], ["huge"]),
        node("ReduceSum", ["huge"], ["sum"], keepdims=0),
        node("Add", ["x", "sum"], ["y"]),
    ]
    shape = np.array([1 << 20, 1 << 20, 1 << 8], np.int64)
    path = written(tmp_path / "huge.onnx", nodes, {"x": (kind, [1, 4])}, {"y": (kind, [1, 4])}, s=shape)
    session = OrtSession(path, "cpu")
    assert session.inputs[0].shape[0] == 1
    with pytest.raises(torch.OutOfMemoryError, match=r"huge\.onnx"):
        session.run({"x": random(1, 4)})


@pytest.mark.parametrize("fixed", [True, False])
def test_the_file_is_not_kept_open(fixed: bool, tmp_path: Path) -> None:
    """Windows neither replaces nor deletes files that are."""
    build = graphs.swapper if fixed else graphs.arcface
    path = build(tmp_path / "model.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(path.read_bytes()[:-100])
    session = OrtSession(path, "cpu")
    with pytest.raises(UserInputError) as caught:
        OrtSession(broken, "cpu")
    process = psutil.Process()
    assert not {Path(file.path).name for file in process.open_files()} & {path.name, broken.name}
    maps = process.memory_maps() if hasattr(process, "memory_maps") else []
    assert not {Path(entry.path).name for entry in maps} & {path.name, broken.name}
    path.unlink()
    broken.unlink()
    assert caught.value.code == "onnx_contract"
    assert session.loaded
