"""Small ONNX graphs of our own with the released face models' inputs, outputs and kinds of operator.

Names, shapes and the fixed batch of one are those of the released files; widths and depths are as small as will do.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Floats = npt.NDArray[np.float32]
Shape = list[int | str]

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

    def add(self, kind: str, inputs: list[str], output: str, name: str = "", **attributes: object) -> str:
        name = name or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=name, **attributes))
        return output

    def save(
        self,
        path: Path,
        inputs: dict[str, Shape],
        outputs: dict[str, Shape],
        double: tuple[str, ...] = (),
    ) -> Path:
        def values(table: dict[str, Shape]) -> list[onnx.ValueInfoProto]:
            return [
                helper.make_tensor_value_info(name, TensorProto.DOUBLE if name in double else TensorProto.FLOAT, shape)
                for name, shape in table.items()
            ]

        graph = helper.make_graph(self.nodes, "face", values(inputs), values(outputs), self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
        onnx.checker.check_model(model)
        onnx.save_model(model, str(path))
        return path


def scrfd(path: Path, seed: int = 1) -> Path:
    """SCRFD with landmarks: nine outputs for strides 8, 16 and 32, two anchors, no batch in the outputs."""
    graph = _Graph(seed)
    outputs: dict[str, Shape] = {}
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


def genderage(path: Path, seed: int = 4) -> Path:
    """insightface's sex and age: ``data [N, 3, 96, 96]`` in levels of 255 to ``fc1 [N, 3]``."""
    return _attribute(path, 96, 3, scale=0.004, shift=0.3, seed=seed)


def contour(path: Path, seed: int = 5) -> Path:
    """insightface's 106 points: ``data [N, 3, 192, 192]`` in levels of 255 to ``fc1 [N, 212]``, -1..1."""
    return _attribute(path, 192, 212, scale=0.004, shift=0.0, seed=seed)


def _attribute(path: Path, side: int, width: int, scale: float, shift: float, seed: int) -> Path:
    graph = _Graph(seed)
    # By this node's name insightface knows that the network normalises by itself.
    statistics = [
        graph.constant("gamma", np.ones(3, np.float32)),
        graph.constant("beta", np.zeros(3, np.float32)),
        graph.constant("mean", np.full(3, 127.5, np.float32)),
        graph.constant("variance", np.full(3, 128.0**2, np.float32)),
    ]
    value = graph.add("BatchNormalization", ["data", *statistics], "bn", name="bn_data")
    value = graph.add("Conv", [value, graph.random("w", 4, 3, 8, 8, scale=0.1)], "c", strides=[8, 8])
    value = graph.add("PRelu", [value, graph.constant("slope", np.full((4, 1, 1), 0.25, np.float32))], "p")
    value = graph.add("Flatten", [value], "flat")
    weight = graph.random("g", 4 * (side // 8) ** 2, width, scale=scale)
    graph.add("Gemm", [value, weight, graph.constant("bias", np.full(width, shift, np.float32))], "fc1")
    return graph.save(path, {"data": ["None", 3, side, side]}, {"fc1": ["None", width]})


def swapper(
    path: Path,
    size: int = 128,
    emap: npt.NDArray[np.floating[Any]] | None = None,
    *,
    emap_last: bool = True,
    batch: int | str = 1,
    source_first: bool = False,
    mask: bool = False,
    signed: bool = False,
    names: tuple[str, str] = ("target", "source"),
    seed: int = 3,
) -> Path:
    """inswapper: ``target [1, 3, size, size]`` and ``source [1, 512]`` to a picture. It leaves the emap unused.

    The source sets the scale and shift of normalised features, as in all these networks.

    Args:
        signed: the picture is -1..1 rather than 0..1, as ghost, hififace and HyperSwap give it.
        mask: a second output ``mask``, as HyperSwap's exporter gives it.
        names: of the inputs.
    """
    graph = _Graph(seed)
    target, source = names
    if emap is not None and not emap_last:
        graph.constant("buff2fs", emap)
    style = graph.add("Gemm", [source, graph.random("style_w", 512, 12, scale=1.5)], "style")
    features = _features(graph, target)
    scale = graph.add("Unsqueeze", [_sliced(graph, style, 0, 6)], "scale", axes=[2, 3])
    shift = graph.add("Unsqueeze", [_sliced(graph, style, 6, 12)], "shift", axes=[2, 3])
    features = graph.add("Add", [graph.add("Mul", [features, scale], "scaled"), shift], "styled")
    outputs = _picture(graph, features, size, batch, mask=mask, signed=signed)
    if emap is not None and emap_last:
        graph.constant("buff2fs", emap)
    inputs: dict[str, Shape] = {target: [batch, 3, size, size], source: [batch, 512]}
    if source_first:
        inputs = dict(reversed(inputs.items()))
    return graph.save(path, inputs, outputs)


def photo_swapper(
    path: Path, size: int, source_size: int, *, signed: bool = False, names: tuple[str, str] = ("target", "source")
) -> Path:
    """blendswap and uniface: the source is a picture ``[1, 3, source_size, source_size]``."""
    graph = _Graph(6)
    target, source = names
    weight = graph.random("source_w", 6, 3, 4, 4, scale=0.5)
    style = graph.add("Conv", [source, weight], "source_features", strides=[4, 4])
    style = graph.add("GlobalAveragePool", [graph.add("Relu", [style], "source_active")], "style")
    features = graph.add("Mul", [_features(graph, target), style], "styled")
    outputs = _picture(graph, features, size, 1, mask=False, signed=signed)
    return graph.save(path, {target: [1, 3, size, size], source: [1, 3, source_size, source_size]}, outputs)


def copying_swapper(path: Path, size: int) -> Path:
    """A swapper that gives the target back, to the bit."""
    graph = _Graph(0)
    graph.add("Identity", ["target"], "output")
    return graph.save(path, {"target": [1, 3, size, size], "source": [1, 512]}, {"output": [1, 3, size, size]})


def _features(graph: _Graph, picture: str) -> str:
    """Six features, centred and scaled over the picture, as in adaptive instance normalisation."""
    pads = graph.constant("pads", np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    padded = graph.add("Pad", [picture, pads], "padded", mode="reflect")
    features = graph.add("Conv", [padded, graph.random("w1", 6, 3, 3, 3, scale=0.3)], "features")
    mean = graph.add("ReduceMean", [features], "mean", axes=[2, 3], keepdims=1)
    centred = graph.add("Sub", [features, mean], "centred")
    square = graph.add("Mul", [centred, centred], "square")
    variance = graph.add("ReduceMean", [square], "variance", axes=[2, 3], keepdims=1)
    # Far larger than in a trained network: flat parts of a crop must not be amplified until its rounding shows.
    variance = graph.add("Add", [variance, graph.constant("epsilon", np.array(0.25, np.float32))], "variance_safe")
    return graph.add("Div", [centred, graph.add("Sqrt", [variance], "deviation")], "normalised")


def _sliced(graph: _Graph, value: str, start: int, end: int) -> str:
    limits = [
        graph.constant(f"{name}_{start}", np.array([number], np.int64))
        for name, number in (("start", start), ("end", end), ("axis", 1))
    ]
    return graph.add("Slice", [value, *limits], f"part_{start}")


def _picture(
    graph: _Graph, features: str, size: int, batch: int | str, *, mask: bool, signed: bool
) -> dict[str, Shape]:
    """The outputs drawn from features ``[1, 6, size, size]``."""
    active = graph.add("LeakyRelu", [features], "active", alpha=0.2)
    drawn = graph.add("Conv", [active, graph.random("w2", 3, 6, 3, 3, scale=0.15)], "drawn", pads=[1, 1, 1, 1])
    if signed:
        graph.add("Tanh", [drawn], "output")
    else:
        graph.add("Sigmoid", [drawn], "output")
    outputs: dict[str, Shape] = {"output": [batch, 3, size, size]}
    if mask:
        graph.add("Sigmoid", [graph.add("ReduceMean", ["drawn"], "grey", axes=[1])], "mask")
        outputs["mask"] = [batch, 1, size, size]
    return outputs


def converter(path: Path, seed: int = 8) -> Path:
    """CrossFace: ``input [1, 512]`` to ``output [1, 512]``."""
    graph = _Graph(seed)
    value = graph.add("Gemm", ["input", graph.random("w1", 512, 64, scale=0.05)], "hidden")
    value = graph.add("LeakyRelu", [value], "active", alpha=0.1)
    graph.add("Gemm", [value, graph.random("w2", 64, 512, scale=0.3)], "output")
    return graph.save(path, {"input": [1, 512]}, {"output": [1, 512]})


def occluder(path: Path, side: int = 256, seed: int = 9) -> Path:
    """XSeg: ``input [1, side, side, 3]``, BGR 0..1, to ``output [1, side, side, 1]``."""
    graph = _Graph(seed)
    value = graph.add("Transpose", ["input"], "planes", perm=[0, 3, 1, 2])
    value = graph.add("Conv", [value, graph.random("w", 4, 3, 5, 5, scale=0.4)], "c", pads=[2, 2, 2, 2])
    value = graph.add("Relu", [value], "r")
    value = graph.add("Conv", [value, graph.random("w2", 1, 4, 1, 1, scale=1.0)], "c2")
    value = graph.add("Transpose", [value], "back", perm=[0, 2, 3, 1])
    graph.add("Sigmoid", [value], "output")
    return graph.save(path, {"input": [1, side, side, 3]}, {"output": [1, side, side, 1]})


def parser(path: Path, side: int = 512, seed: int = 10) -> Path:
    """BiSeNet: ``input [1, 3, side, side]`` to scores ``[1, 19, side, side]``, and two more heads used in training."""
    graph = _Graph(seed)
    value = graph.add("Conv", ["input", graph.random("w", 8, 3, 8, 8, scale=0.1)], "c", strides=[8, 8])
    value = graph.add("Relu", [value], "r")
    region = graph.constant("region", np.zeros(0, np.float32))
    scales = graph.constant("scales", np.array([1, 1, 8, 8], np.float32))
    outputs: dict[str, Shape] = {}
    for number, name in enumerate(("output", "output16", "output32")):
        scores = graph.add("Conv", [value, graph.random(f"head{number}", 19, 8, 1, 1)], f"scores{number}")
        graph.add(
            "Resize",
            [scores, region, scales],
            name,
            mode="linear",
            coordinate_transformation_mode="align_corners",
        )
        outputs[name] = [1, 19, side, side]
    return graph.save(path, {"input": [1, 3, side, side]}, outputs)


def restorer(path: Path, side: int = 512, *, weight: bool = False, seed: int = 11) -> Path:
    """GFPGAN, GPEN and RestoreFormer: ``input [1, 3, side, side]``, -1..1, to ``output``, the same.

    weight: CodeFormer's second input ``weight [1]`` of doubles.
    """
    graph = _Graph(seed)
    kernel = np.zeros((3, 3, 3, 3), np.float32)
    for channel in range(3):
        kernel[channel, channel] = -0.1
        kernel[channel, channel, 1, 1] = 1.8
    detail = graph.add("Conv", ["input", graph.constant("sharpen", kernel)], "detail", pads=[1, 1, 1, 1])
    inputs: dict[str, Shape] = {"input": [1, 3, side, side]}
    if weight:
        single = graph.add("Cast", ["weight"], "weight32", to=TensorProto.FLOAT)
        faithful = graph.add("Mul", [graph.add("Sub", ["input", detail], "loss"), single], "faithful")
        detail = graph.add("Add", [detail, faithful], "mixed")
        inputs["weight"] = [1]
    graph.add("Tanh", [detail], "output")
    return graph.save(path, inputs, {"output": [1, 3, side, side]}, double=("weight",))


def pack(folder: Path) -> Path:
    """A detector and a recogniser in a new folder, with the manifest of insightface's newer packs."""
    folder.mkdir(parents=True)
    scrfd(folder / "finder.onnx")
    arcface(folder / "teller.onnx")
    manifest = {
        "manifest_version": 2,
        "model_id": folder.name,
        "license": "MODEL.LICENSE",
        "tasks": {"detection": {"file": "finder.onnx"}, "recognition": {"file": "teller.onnx"}},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def random_emap(dtype: type[np.floating[Any]] = np.float32) -> npt.NDArray[np.floating[Any]]:
    """A 512 x 512 projection of the size of the real one's entries."""
    return (np.random.default_rng(7).standard_normal((512, 512)) / 22.6).astype(dtype)
