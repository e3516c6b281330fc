"""Small ONNX graphs of our own with the released face models' inputs, outputs and kinds of operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Floats = npt.NDArray[np.float32]

_OPSET = 11


class _Graph:
    """Collects nodes and initializers."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, name: str, values: npt.NDArray[np.generic]) -> str:
        self.initializers.append(numpy_helper.from_array(values, name))
        return name

    def random(self, name: str, *shape: int, scale: float = 1.0) -> str:
        return self.constant(name, (scale * self.rng.standard_normal(shape)).astype(np.float32))

    def add(self, kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{kind}_{len(self.nodes)}", **attributes))
        return output

    def save(self, path: Path, inputs: dict[str, list[int | str]], outputs: dict[str, list[int | str]]) -> Path:
        def values(table: dict[str, list[int | str]]) -> list[onnx.ValueInfoProto]:
            return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in table.items()]

        graph = helper.make_graph(self.nodes, "face", values(inputs), values(outputs), self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
        onnx.checker.check_model(model)
        onnx.save_model(model, str(path))
        return path


def scrfd(path: Path, seed: int = 1) -> Path:
    """SCRFD with landmarks: nine outputs for strides 8, 16 and 32, two anchors, no batch in the outputs."""
    graph = _Graph(seed)
    outputs: dict[str, list[int | str]] = {}
    heads = {"score": (1, 0.6, -0.35), "bbox": (4, 0.5, 2.0), "kps": (10, 0.8, 0.0)}
    made: dict[str, list[str]] = {name: [] for name in heads}
    for stride in (8, 16, 32):
        pooled = graph.add(
            "AveragePool", ["input.1"], f"pool{stride}", kernel_shape=[stride, stride], strides=[stride, stride]
        )
        weight = graph.random(f"w{stride}", 8, 3, 3, 3, scale=0.5)
        feature = graph.add("Conv", [pooled, weight], f"c{stride}", pads=[1, 1, 1, 1])
        feature = graph.add("Relu", [feature], f"f{stride}")
        for head, (width, scale, shift) in heads.items():
            kernel = graph.random(f"{head}w{stride}", 2 * width, 8, 1, 1, scale=scale)
            bias = graph.constant(f"{head}b{stride}", np.full(2 * width, shift, dtype=np.float32))
            value = graph.add("Conv", [feature, kernel, bias], f"{head}c{stride}")
            value = graph.add("Transpose", [value], f"{head}t{stride}", perm=[2, 3, 0, 1])
            shape = graph.constant(f"{head}s{stride}", np.array([-1, width], dtype=np.int64))
            value = graph.add("Reshape", [value, shape], f"{head}r{stride}")
            if head == "score":
                value = graph.add("Sigmoid", [value], f"{head}_{stride}")
            made[head].append(value)
    for head, (width, _, _) in heads.items():
        for name in made[head]:
            outputs[name] = [f"n{name}", width]
    return graph.save(path, {"input.1": [1, 3, "h", "w"]}, outputs)


def arcface(path: Path, seed: int = 2) -> Path:
    """ArcFace: ``[N, 3, 112, 112]`` to ``[N, 512]``."""
    graph = _Graph(seed)
    value = graph.add("Conv", ["input.1", graph.random("w", 8, 3, 8, 8, scale=0.05)], "c", strides=[8, 8])
    value = graph.add("PRelu", [value, graph.constant("slope", np.full((8, 1, 1), 0.25, dtype=np.float32))], "p")
    value = graph.add("Flatten", [value], "flat")
    value = graph.add("Gemm", [value, graph.random("g", 8 * 14 * 14, 512, scale=0.05)], "683")
    return graph.save(path, {"input.1": ["None", 3, 112, 112]}, {value: ["None", 512]})


def swapper(
    path: Path,
    size: int = 128,
    emap: npt.NDArray[np.floating[Any]] | None = None,
    *,
    emap_last: bool = True,
    batch: int | str = 1,
    source_first: bool = False,
    mask: bool = False,
    seed: int = 3,
) -> Path:
    """inswapper: ``target [1, 3, size, size]`` and ``source [1, 512]`` to a picture. It leaves the emap unused."""
    graph = _Graph(seed)
    if emap is not None and not emap_last:
        graph.constant("buff2fs", emap)
    style = graph.add("Gemm", ["source", graph.random("style_w", 512, 6, scale=1.5)], "style")
    shape = graph.constant("style_shape", np.array([-1, 6, 1, 1], dtype=np.int64))
    style = graph.add("Reshape", [style, shape], "style4")
    features = graph.add("Conv", ["target", graph.random("w1", 6, 3, 3, 3, scale=0.3)], "features", pads=[1, 1, 1, 1])
    features = graph.add("Add", [features, style], "styled")
    features = graph.add("LeakyRelu", [features], "active", alpha=0.2)
    drawn = graph.add("Conv", [features, graph.random("w2", 3, 6, 3, 3, scale=0.3)], "drawn", pads=[1, 1, 1, 1])
    graph.add("Sigmoid", [drawn], "output")
    outputs: dict[str, list[int | str]] = {"output": [batch, 3, size, size]}
    if mask:
        graph.add("Sigmoid", [graph.add("ReduceMean", ["drawn"], "mean", axes=[1])], "mask")
        outputs["mask"] = [batch, 1, size, size]
    if emap is not None and emap_last:
        graph.constant("buff2fs", emap)
    inputs: dict[str, list[int | str]] = {"target": [batch, 3, size, size], "source": [batch, 512]}
    if source_first:
        inputs = dict(reversed(inputs.items()))
    return graph.save(path, inputs, outputs)


def random_emap(dtype: type[np.floating[Any]] = np.float32) -> npt.NDArray[np.floating[Any]]:
    """A 512 x 512 projection of the size of the real one's entries."""
    return (np.random.default_rng(7).standard_normal((512, 512)) / 22.6).astype(dtype)
