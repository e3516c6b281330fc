"""Larger ONNX graphs of our own, each with the kinds of operator of one family of released face models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = Sequence[int | str]


class Builder:
    """Collects nodes and weights; every method returns the name of what it makes."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def _name(self, kind: str) -> str:
        return f"{kind}_{len(self.nodes)}_{len(self.weights)}"

    def constant(self, values: npt.NDArray[Any]) -> str:
        name = self._name("c")
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, dtype=np.int64))

    def scalar(self, value: float, dtype: type[np.generic] = np.float32) -> str:
        return self.constant(np.array(value, dtype=dtype))

    def random(self, *shape: int, scale: float = 1.0, shift: float = 0.0) -> str:
        return self.constant((shift + scale * self.rng.standard_normal(shape)).astype(np.float32))

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        return self.nodes_of(kind, 1, *inputs, **attributes)[0]

    def nodes_of(self, kind: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        outputs = [f"{self._name(kind)}_{index}" for index in range(count)]
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, name=outputs[0], **attributes))
        return outputs

    def conv(self, x: str, into: int, out: int, size: int = 3, bias: bool = False, **attributes: Any) -> str:
        groups = attributes.get("group", 1)
        weight = self.random(out, into // groups, size, size, scale=(size * size * into / groups) ** -0.5)
        extra = [self.random(out, scale=0.1)] if bias else []
        attributes.setdefault("pads", [size // 2] * 4)
        return self.node("Conv", x, weight, *extra, **attributes)

    def batch_norm(self, x: str, channels: int) -> str:
        scale, shift, mean = (self.random(channels, scale=0.3, shift=at) for at in (1.0, 0.0, 0.0))
        variance = self.constant(self.rng.uniform(0.3, 2.0, channels).astype(np.float32))
        return self.node("BatchNormalization", x, scale, shift, mean, variance, epsilon=2e-5)

    def linear(self, x: str, into: int, out: int) -> str:
        weight, bias = self.random(out, into, scale=into**-0.5), self.random(out, scale=0.1)
        return self.node("Gemm", x, weight, bias, transB=1)

    def model(self, opset: int, inputs: dict[str, Shape], outputs: dict[str, Shape]) -> bytes:
        renamed = dict(zip(outputs, (f"out{index}" for index in range(len(outputs))), strict=True))
        for name, new in renamed.items():
            self.nodes.append(helper.make_node("Identity", [name], [new]))
        infos = [
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in table.items()]
            for table in (inputs, {renamed[name]: shape for name, shape in outputs.items()})
        ]
        graph = helper.make_graph(self.nodes, "face", *infos, self.weights)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        onnx.checker.check_model(made)
        data: bytes = made.SerializeToString()
        return data


def residual(seed: int = 1) -> bytes:
    """ArcFace's residual network: normalisation before and after convolutions, PRelu, Dropout, a last BatchNorm1d."""
    b = Builder(seed)
    x = b.node("PRelu", b.batch_norm(b.conv("x", 3, 8), 8), b.random(8, 1, 1, scale=0.1, shift=0.25))
    for into, out, stride in ((8, 8, 1), (8, 16, 2), (16, 16, 1), (16, 24, 2)):
        y = b.batch_norm(x, into)
        y = b.node("PRelu", b.batch_norm(b.conv(y, into, out), out), b.random(out, 1, 1, scale=0.1, shift=0.25))
        y = b.batch_norm(b.conv(y, out, out, strides=[stride, stride], bias=True), out)
        if into != out or stride != 1:
            x = b.batch_norm(b.conv(x, into, out, 1, strides=[stride, stride], pads=[0] * 4), out)
        x = b.node("Add", y, x)
    x = b.node("Flatten", b.node("Dropout", b.batch_norm(x, 24), ratio=0.4))
    x = b.batch_norm(b.linear(x, 24 * 7 * 7, 32), 32)
    return b.model(11, {"x": ["n", 3, 28, 28]}, {x: ["n", 32]})


def pyramid(seed: int = 2) -> bytes:
    """SCRFD's feature pyramid: Resize to sizes read from shapes, and heads per anchor without a batch."""
    b = Builder(seed)
    levels = []
    x, channels = "x", 3
    for width in (8, 12, 16):
        x = b.node("Relu", b.batch_norm(b.conv(x, channels, width, strides=[2, 2]), width))
        x = b.node("Relu", b.batch_norm(b.conv(x, width, width, group=4), width))
        channels = width
        levels.append(b.conv(x, width, 8, 1, pads=[0] * 4, bias=True))
    merged = levels[-1]
    outputs: dict[str, Shape] = {}
    for level in reversed(levels):
        if level != merged:
            shape = b.node("Shape", level)
            sides = [b.node("Gather", shape, b.scalar(axis, np.int64), axis=0) for axis in (2, 3)]
            sides = [b.node("Unsqueeze", b.node("Cast", side, to=TensorProto.INT64), axes=[0]) for side in sides]
            front = b.node("Slice", b.node("Shape", merged), b.integers(0), b.integers(2), b.integers(0))
            target = b.node("Concat", front, *sides, axis=0)
            empty = b.constant(np.zeros(0, dtype=np.float32))
            merged = b.node(
                "Resize",
                merged,
                empty,
                empty,
                target,
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )
            merged = b.node("Add", level, merged)
        pooled = b.node("MaxPool", merged, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
        score = b.node("Sigmoid", b.conv(pooled, 8, 2, bias=True))
        score = b.node("Reshape", b.node("Transpose", score, perm=[2, 3, 0, 1]), b.integers(-1, 1))
        box = b.node("Mul", b.conv(merged, 8, 8), b.scalar(1.25))
        box = b.node("Reshape", b.node("Transpose", box, perm=[0, 2, 3, 1]), b.integers(0, -1, 4))
        outputs.update({score: ["a", 1], box: ["n", "a", 4]})
    return b.model(11, {"x": ["n", 3, "h", "w"]}, outputs)


def modulated(seed: int = 3) -> bytes:
    """GFPGAN's StyleGAN blocks: weights made from a style, run as one grouped convolution; bilinear growth."""
    b = Builder(seed)
    style = b.node("LeakyRelu", b.linear("style", 16, 16), alpha=0.2)
    batch = b.node("Gather", b.node("Shape", "style"), b.scalar(0, np.int64), axis=0)
    batch = b.node("Unsqueeze", batch, b.integers(0))
    x = b.node("Expand", b.random(1, 8, 4, 4), b.node("Concat", batch, b.integers(8, 4, 4), axis=0))
    rgb = ""
    for into, out in ((8, 8), (8, 6)):
        scale = b.node("Reshape", b.linear(style, 16, into), b.integers(-1, 1, into, 1, 1))
        weight = b.node("Mul", b.random(1, out, into, 3, 3, scale=0.3), scale)
        power = b.node("ReduceSum", b.node("Pow", weight, b.scalar(2.0)), b.integers(2, 3, 4), keepdims=1)
        inverse = b.node("Reciprocal", b.node("Sqrt", b.node("Add", power, b.scalar(1e-8))))
        weight = b.node("Reshape", b.node("Mul", weight, inverse), b.integers(-1, into, 3, 3))
        x = b.node(
            "Resize",
            x,
            "",
            b.constant(np.array([1, 1, 2, 2], dtype=np.float32)),
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        )
        sides = b.node("Slice", b.node("Shape", x), b.integers(2), b.integers(4))
        # The style's batch is 1 here: as many groups as the file says.
        y = b.node("Reshape", x, b.node("Concat", b.integers(1, -1), sides, axis=0))
        y = b.node("Conv", y, weight, pads=[1, 1, 1, 1], group=1)
        y = b.node("Reshape", y, b.node("Concat", b.integers(-1, out), sides, axis=0))
        x = b.node("LeakyRelu", b.node("Mul", b.node("Add", y, b.random(1, out, 1, 1)), b.scalar(2**0.5)), alpha=0.2)
        drawn = b.conv(x, out, 3, 1, pads=[0] * 4, bias=True)
        if rgb:
            rgb = b.node("Resize", rgb, "", b.constant(np.array([1, 1, 2, 2], dtype=np.float32)), mode="cubic")
            rgb = b.node("Add", drawn, rgb)
        else:
            rgb = drawn
    normal = b.node("InstanceNormalization", rgb, b.random(3, shift=1.0, scale=0.2), b.random(3, scale=0.2))
    mean = b.node("ReduceMean", normal, axes=[2, 3], keepdims=1)
    centred = b.node("Sub", normal, mean)
    spread = b.node("Sqrt", b.node("ReduceMean", b.node("Mul", centred, centred), axes=[2, 3], keepdims=1))
    result = b.node("Clip", b.node("Div", centred, spread), b.scalar(-1.0), b.scalar(1.0))
    return b.model(13, {"style": [1, 16]}, {result: [1, 3, 16, 16]})


def transformer(seed: int = 4) -> bytes:
    """CodeFormer's transformer: attention, LayerNormalization, and a codebook looked up by the best code."""
    b = Builder(seed)
    width, heads, tokens = 16, 4, 64
    x = b.node("Reshape", b.conv("x", 3, width, bias=True), b.integers(0, width, -1))
    x = b.node("Transpose", x, perm=[0, 2, 1])
    batch = b.node("Slice", b.node("Shape", x), b.integers(0), b.integers(1))
    place = b.node("Expand", b.random(1, tokens, width), b.node("Concat", batch, b.integers(1, 1), axis=0))
    x = b.node("Add", x, place)
    for _ in range(2):
        y = b.node("LayerNormalization", x, b.random(width, shift=1.0, scale=0.2), b.random(width, scale=0.2), axis=-1)
        projected = b.node("MatMul", y, b.random(width, 3 * width, scale=width**-0.5))
        parts = b.nodes_of("Split", 3, projected, b.integers(width, width, width), axis=-1)
        q, k, v = (
            b.node("Transpose", b.node("Reshape", p, b.integers(0, 0, heads, width // heads)), perm=[0, 2, 1, 3])
            for p in parts
        )
        logits = b.node("Div", b.node("Einsum", q, k, equation="bhid,bhjd->bhij"), b.scalar((width / heads) ** 0.5))
        attended = b.node("MatMul", b.node("Softmax", logits, axis=-1), v)
        merged = b.node("Reshape", b.node("Transpose", attended, perm=[0, 2, 1, 3]), b.integers(0, 0, width))
        x = b.node("Add", x, merged)
        inner = b.node("MatMul", x, b.random(width, 2 * width, scale=width**-0.5))
        erf = b.node("Erf", b.node("Div", inner, b.scalar(2**0.5)))
        gelu = b.node("Mul", b.node("Mul", inner, b.node("Add", erf, b.scalar(1.0))), b.scalar(0.5))
        x = b.node("Add", x, b.node("MatMul", gelu, b.random(2 * width, width, scale=0.2)))
    codes = b.node("MatMul", x, b.random(width, 32, scale=1.0))
    best = b.node("ArgMax", codes, axis=-1, keepdims=0)
    looked_up = b.node("Gather", b.random(32, width), best, axis=0)
    sides = b.node("Slice", b.node("Shape", "x"), b.integers(2), b.integers(4))
    shape = b.node("Concat", batch, b.integers(width), sides, axis=0)
    picture = b.node("Reshape", b.node("Transpose", looked_up, perm=[0, 2, 1]), shape)
    y = b.node("Tanh", b.conv(picture, width, 3, bias=True))
    return b.model(17, {"x": ["n", 3, 8, 8]}, {y: ["n", 3, 8, 8], codes: ["n", tokens, 32]})


def channels_last(seed: int = 5) -> bytes:
    """XSeg as tf2onnx writes it: a picture with channels last, transposed convolutions, Pad and Slice around them."""
    b = Builder(seed)
    x = b.node("Transpose", "x", perm=[0, 3, 1, 2])
    padded = b.node("Pad", x, b.integers(0, 0, 1, 1, 0, 0, 2, 2), b.scalar(0.0), mode="constant")
    first = b.node("Elu", b.batch_norm(b.conv(padded, 3, 8, 4, pads=[0] * 4), 8))
    down = b.conv(first, 8, 12, 3, pads=[0, 0, 1, 1], strides=[2, 2])
    scale = b.node("Reciprocal", b.node("Exp", b.random(1, 12, 1, 1, scale=0.1)))
    down = b.node("HardSigmoid", b.node("Mul", down, scale), alpha=0.3)
    weight, bias = b.random(12, 8, 3, 3, scale=0.2), b.random(8)
    up = b.node("ConvTranspose", down, weight, bias, strides=[2, 2], pads=[0, 0, 1, 1])
    sides = b.node("Slice", b.node("Shape", first), b.integers(2), b.integers(4), b.integers(0))
    cut = b.node("Slice", up, b.integers(0, 0), sides, b.integers(2, 3))
    both = b.node("Concat", cut, first, axis=1)
    pooled = b.node("GlobalAveragePool", both)
    gate = b.node("Softmax", b.node("Squeeze", b.conv(pooled, 16, 16, 1, pads=[0] * 4), b.integers(2, 3)), axis=-1)
    both = b.node("Mul", both, b.node("Unsqueeze", gate, b.integers(2, 3)))
    mask = b.node("Sigmoid", b.conv(both, 16, 1, bias=True))
    y = b.node("Transpose", mask, perm=[0, 2, 3, 1])
    return b.model(13, {"x": ["n", 16, 16, 3]}, {y: ["n", "h", "w", 1]})
