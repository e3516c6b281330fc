"""Networks with work like that of the released ones, and random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

_OPSET = 11
# As the released files: one crop and one vector per call.
_BATCH, _SIDE, _VECTOR = 1, 128, 512
# Channels at 128, 64 and 32 pixels.
_WIDTHS = (128, 256, 512)
_BLOCKS = 1


class _Builder:
    def __init__(self, prefix: str = "") -> None:
        """prefix: of every name, so that they are not those of another graph."""
        self._prefix = prefix
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._random = np.random.default_rng(0)

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """A node; gives its output's name."""
        from onnx import helper

        name = f"{self._prefix}v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def weight(self, *shape: int) -> str:
        """A random initializer, scaled so that values keep their size from layer to layer."""
        from onnx import numpy_helper

        name = f"{self._prefix}w{len(self.weights)}"
        scale = np.float32(np.prod(shape[1:]) ** -0.5)
        values = self._random.standard_normal(shape, dtype=np.float32) * scale
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def convolved(self, value: str, width: int, out: int, kernel: int = 3, stride: int = 1) -> str:
        """A convolution that keeps the picture's size, or divides it by the stride."""
        pads = [kernel // 2] * 4
        return self.add("Conv", value, self.weight(out, width, kernel, kernel), pads=pads, strides=[stride, stride])

    def styled(self, value: str, width: int) -> str:
        """Features normalised per channel, then scaled and shifted as the source says."""
        centred = self.add("Sub", value, self.add("ReduceMean", value, axes=[2, 3]))
        power = self.add("ReduceMean", self.add("Mul", centred, centred), axes=[2, 3])
        epsilon = self.constant(1e-8, np.float32)
        normal = self.add("Div", centred, self.add("Sqrt", self.add("Add", power, epsilon)))
        style = self.add("Gemm", "source", self.weight(2 * width, _VECTOR), transB=1)
        scale, shift = (
            self.add("Unsqueeze", self.add("Slice", style, *map(self.constant, span)), axes=[2, 3])
            for span in (([0], [width], [1]), ([width], [2 * width], [1]))
        )
        return self.add("Add", self.add("Mul", normal, scale), shift)

    def constant(self, value: float | list[int], kind: type = np.int64) -> str:
        """An initializer: whole numbers, or what `kind` says."""
        from onnx import numpy_helper

        name = f"{self._prefix}w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(value, kind), name))
        return name


def large_swapper(path: Path, emap: Any) -> Path:
    """Writes the network as `path`, about 35 GFLOP a face, with `emap` ``[512, 512]`` as its last initializer.

    inswapper_128 has ten times that work, by the layers of a network that was trained to take its place
    (somanchiu/ReSwapper, StyleTransferModel_128.py). With less, what is not the network's weighs more.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = _Builder()
    wide, wider, widest = _WIDTHS
    value = graph.add("Relu", graph.convolved("target", 3, wide, kernel=7))
    value = graph.add("Relu", graph.convolved(value, wide, wider, stride=2))
    value = graph.add("Relu", graph.convolved(value, wider, widest, stride=2))
    for _ in range(_BLOCKS):
        inner = graph.add("Relu", graph.styled(graph.convolved(value, widest, widest), widest))
        value = graph.add("Add", value, graph.styled(graph.convolved(inner, widest, widest), widest))
    for width, out in ((widest, wider), (wider, wide)):
        # The region of interest is unused, but not optional in this opset.
        value = graph.add(
            "Resize", value, graph.constant([], np.float32), graph.constant([1, 1, 2, 2], np.float32), mode="linear"
        )
        value = graph.add("Relu", graph.convolved(value, width, out))
    value = graph.add("Tanh", graph.convolved(value, wide, 3, kernel=7))
    half = graph.constant(0.5, np.float32)
    graph.add("Add", graph.add("Mul", value, half), half)
    graph.nodes[-1].output[0] = "output"
    picture = [_BATCH, 3, _SIDE, _SIDE]
    inputs = [
        helper.make_tensor_value_info("target", TensorProto.FLOAT, picture),
        helper.make_tensor_value_info("source", TensorProto.FLOAT, [_BATCH, _VECTOR]),
    ]
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, picture)]
    graph.weights.append(numpy_helper.from_array(emap, "emap"))
    made = helper.make_graph(graph.nodes, "swapper", inputs, outputs, graph.weights)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8), str(path))
    return path


def with_work(path: Path, width: int, stride: int, layers: int) -> Path:
    """Gives a small graph of pictures the work of a large one; what it answers stays the same.

    Beside its first convolution runs a stack of `layers` 3 x 3 convolutions of `width` channels on the picture at
    1/`stride` of its size; nothing of it is added to what the first one gives.
    """
    import onnx

    model = onnx.load(str(path))
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    graph = _Builder("work_")
    value = graph.convolved(model.graph.input[0].name, 3, width, stride=stride)
    for _ in range(layers):
        value = graph.add("Relu", graph.convolved(value, width, width))
    nothing = graph.add("Mul", graph.add("ReduceMean", value, axes=[1, 2, 3]), graph.constant(0.0, np.float32))
    plain, name = graph.add("Identity", f"{first.output[0]}_plain"), first.output[0]
    first.output[0] = f"{name}_plain"
    graph.nodes.append(onnx.helper.make_node("Add", [plain, nothing], [name]))
    place = next(i for i, node in enumerate(model.graph.node) if node is first) + 1
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*rest[:place], *graph.nodes, *rest[place:]])
    model.graph.initializer.extend(graph.weights)
    onnx.save(model, str(path))
    return path
