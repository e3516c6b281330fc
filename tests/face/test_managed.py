"""Sessions under ComfyUI's model management, which is the real one, started on the CPU."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import comfy.model_management as management
import numpy as np
import onnx
import psutil
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from flux_face.nodes.errors import UserInputError
from flux_face.nodes.face.runtime.managed import ManagedSession, open_managed
from flux_face.nodes.face.runtime.ort_session import OrtSession
from flux_face.nodes.face.runtime.session import run_batched
from flux_face.nodes.face.runtime.sessions import Runtime, load_session
from flux_face.nodes.face.runtime.torch_session import TorchSession

from . import graphs

CPU = torch.device("cpu")
MIB = 1 << 20
RUNTIMES: list[Runtime] = ["onnxruntime", "torch"]


@pytest.fixture(autouse=True)
def nothing_loaded() -> Iterator[None]:
    management.unload_all_models()
    yield
    management.unload_all_models()


def swapper(path: Path) -> tuple[Path, dict[str, Tensor], Tensor]:
    """A file, inputs for two faces, and what plain onnxruntime makes of them."""
    import onnxruntime

    graphs.swapper(path)
    random = torch.Generator().manual_seed(3)
    feeds = {"target": torch.rand(2, 3, 128, 128, generator=random), "source": torch.randn(2, 512, generator=random)}
    plain = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    runs = [plain.run(None, {n: v[i : i + 1].numpy() for n, v in feeds.items()})[0] for i in range(2)]
    return path, feeds, torch.from_numpy(np.concatenate(runs))


def large(path: Path) -> Path:
    """A file of 64 MB."""
    matrix = torch.randn(512, 32768, generator=torch.Generator().manual_seed(4)).numpy()
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 512])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 32768])]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(matrix, "w")])
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


def memory() -> float:
    gc.collect()
    return float(psutil.Process().memory_info().rss) / MIB


def networks() -> list[Any]:
    """What ComfyUI has loaded of the face stage."""
    return [model for model in management.loaded_models() if type(model.model).__name__ == "FaceNetwork"]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_comfyui_counts_unloads_and_loads_again(runtime: Runtime, tmp_path: Path) -> None:
    path, feeds, expected = swapper(tmp_path / "inswapper_128.onnx")
    session = open_managed(path, runtime, "cpu", "float32")
    assert session.device == CPU
    assert session.note == ""
    assert [spec.shape for spec in session.inputs] == [(None, 3, 128, 128), (None, 512)]
    (patcher,) = networks()
    assert patcher.loaded_size() == patcher.model_size()
    assert 0.8 * path.stat().st_size < patcher.model_size() <= path.stat().st_size
    for _ in range(2):
        torch.testing.assert_close(session.run(feeds)["output"], expected, atol=2e-5, rtol=1e-4)
    assert networks() == [patcher]
    management.unload_all_models()
    assert networks() == []
    assert patcher.loaded_size() == 0
    torch.testing.assert_close(session.run(feeds)["output"], expected, atol=2e-5, rtol=1e-4)
    assert networks() == [patcher]
    assert patcher.loaded_size() == patcher.model_size()


def test_unloading_frees_an_onnxruntime_session(tmp_path: Path) -> None:
    path = large(tmp_path / "large.onnx")
    open_managed(graphs.converter(tmp_path / "warm.onnx"), "onnxruntime", "cpu", "float32")
    before = memory()
    session = open_managed(path, "onnxruntime", "cpu", "float32")
    feeds = {"x": torch.ones(1, 512)}
    expected = session.run(feeds)["y"]
    assert memory() - before > 60
    management.unload_all_models()
    assert memory() - before < 20
    torch.testing.assert_close(session.run(feeds)["y"], expected)


_ON_A_GPU = """
import os, runpy, sys
from pathlib import Path
runpy.run_path(sys.argv[1])["load_pack"]()
sys.path.append(os.environ["COMFYUI_PATH"])
import comfy.model_management as management
import torch
from flux_face.nodes.face.runtime.managed import open_managed
path, feeds = Path(sys.argv[2]), {"x": torch.ones(2, 512)}
session = open_managed(path, "torch", "gpu", "float32")
before = session.run(feeds)["y"]
assert before.device.type == "cuda", before.device
used = torch.cuda.memory_allocated()
assert used > 64e6, used
management.unload_all_models()
assert torch.cuda.memory_allocated() < used - 64e6, torch.cuda.memory_allocated()
assert torch.equal(session.run(feeds)["y"], before)
assert torch.cuda.memory_allocated() > 64e6
"""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_unloading_takes_a_torch_sessions_weights_off_the_gpu(tmp_path: Path) -> None:
    """In a process of its own: in this one ComfyUI is on the CPU."""
    pack = Path(__file__).resolve().parents[2] / "devtools" / "pack.py"
    command = [sys.executable, "-c", _ON_A_GPU, str(pack), str(large(tmp_path / "large.onnx"))]
    subprocess.run(command, check=True, cwd=tmp_path)


def test_comfyui_unloads_to_make_room(tmp_path: Path) -> None:
    """It asks for a part of what is needed; a network goes whole."""
    session = open_managed(large(tmp_path / "large.onnx"), "onnxruntime", "cpu", "float32")
    (patcher,) = networks()
    freed = management.free_memory(management.get_free_memory(CPU) + MIB, CPU)
    assert [loaded.model for loaded in freed] == [patcher]
    assert patcher.loaded_size() == 0
    assert session.run({"x": torch.ones(1, 512)})["y"].shape == (1, 32768)


def test_a_dropped_session_leaves_comfyuis_list(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    managed = ManagedSession(OrtSession(graphs.converter(tmp_path / "converter.onnx"), "cpu"))
    other = ManagedSession(OrtSession(graphs.arcface(tmp_path / "arcface.onnx"), "cpu"))
    gone = weakref.ref(managed)
    assert len(networks()) == 2
    del managed
    assert gone() is None
    assert len(networks()) == 1
    other.run({"input.1": torch.rand(1, 3, 112, 112)})
    assert "leak" not in caplog.text


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_opening_again_gives_the_same_session(runtime: Runtime, tmp_path: Path) -> None:
    path = graphs.converter(tmp_path / "converter.onnx")
    session = open_managed(path, runtime, "cpu", "float32")
    assert open_managed(path, runtime, "cpu", "float32") is session
    assert open_managed(path, "onnxruntime" if runtime == "torch" else "torch", "cpu", "float32") is not session
    assert open_managed(path, runtime, "auto", "float32") is not session
    feeds = {"input": torch.ones(1, 512)}
    before = session.run(feeds)["output"]
    graphs.converter(path, seed=99)
    os.utime(path, ns=(1, 1))
    changed = open_managed(path, runtime, "cpu", "float32")
    assert changed is not session
    assert not torch.allclose(changed.run(feeds)["output"], before)


def test_a_network_without_weights(tmp_path: Path) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 5]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
    path = tmp_path / "relu.onnx"
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    session = open_managed(path, "torch", "cpu", "float32")
    management.unload_all_models()
    assert session.run({"x": -torch.ones(2, 5)})["y"].sum() == 0


def test_few_sessions_are_kept(tmp_path: Path) -> None:
    """Opening many leaves the last sixteen in memory."""
    paths = [graphs.converter(tmp_path / f"{index}.onnx") for index in range(20)]
    first = weakref.ref(open_managed(paths[0], "onnxruntime", "cpu", "float32"))
    for path in paths[1:]:
        last = open_managed(path, "onnxruntime", "cpu", "float32")
    assert first() is None
    assert len(networks()) == 16
    assert open_managed(paths[-1], "onnxruntime", "cpu", "float32") is last


def test_auto_keeps_to_comfyuis_device(tmp_path: Path) -> None:
    session = open_managed(graphs.converter(tmp_path / "converter.onnx"), "auto", "auto", "float32")
    assert (session.device, session.note) == (CPU, "")


@pytest.mark.parametrize("runtime", ["auto", *RUNTIMES])
def test_a_gpu_that_is_not_there_is_an_error_or_a_note(runtime: Runtime, tmp_path: Path) -> None:
    import onnxruntime

    if torch.cuda.is_available() or "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine may have a GPU")
    path = graphs.converter(tmp_path / "converter.onnx")
    with pytest.raises(UserInputError) as caught:
        load_session(path, runtime, "gpu", "float32")
    assert caught.value.code == "provider_inactive"
    session = load_session(path, runtime, "auto", "float16")
    assert session.device == CPU
    assert "no GPU" in session.note
    assert "running on the CPU" in session.note
    assert "float32" in session.note
    assert load_session(path, runtime, "cpu", "float32").note == ""


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_both_runtimes_free_the_batch_and_agree(runtime: Runtime, tmp_path: Path) -> None:
    path, feeds, expected = swapper(tmp_path / "inswapper_128.onnx")
    session = load_session(path, runtime, "cpu", "float32")
    assert isinstance(session, TorchSession) == (runtime == "torch")
    assert all(spec.shape[0] is None for spec in (*session.inputs, *session.outputs))
    torch.testing.assert_close(session.run(feeds)["output"], expected, atol=2e-5, rtol=1e-4)


def test_torch_keeps_a_batch_that_cannot_be_freed(tmp_path: Path) -> None:
    """A mean over the batch is that of the item where there is one."""
    kind = TensorProto.FLOAT
    nodes = [helper.make_node("ReduceMean", ["x"], ["m"], axes=[0, 2]), helper.make_node("Sub", ["x", "m"], ["y"])]
    values = [helper.make_tensor_value_info(name, kind, [1, 3, 5]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:])
    path = tmp_path / "model.onnx"
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    session = load_session(path, "torch", "cpu", "float32")
    assert session.inputs[0].shape[0] == 1
    assert "one item at a time" in session.note
    value = torch.rand(4, 3, 5)
    torch.testing.assert_close(run_batched(session, {"x": value})[0], value - value.mean(2, keepdim=True))


@pytest.mark.parametrize("runtime", ["auto", *RUNTIMES])
def test_files_that_are_no_models(runtime: Runtime, tmp_path: Path) -> None:
    path = graphs.converter(tmp_path / "bad.onnx")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserInputError, match=r"bad\.onnx") as caught:
        open_managed(path, runtime, "cpu", "float32")
    assert caught.value.code == "onnx_contract"
    path.unlink()
    with pytest.raises(UserInputError, match=r"bad\.onnx") as caught:
        open_managed(path, runtime, "cpu", "float32")
    assert caught.value.code == "onnx_contract"
