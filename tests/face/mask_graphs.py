"""Variants of the graphs in ``graphs`` whose answers a test can foresee."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from flux_face.nodes.face.mask_models import CLASSES

from . import graphs

# A colour for each class of a face parser, RGB 0..1.
PALETTE = np.array(
    [[(n * 7 % 19) / 18.0, (n * 11 % 19) / 18.0, (n * 5 % 19) / 18.0] for n in range(len(CLASSES))], dtype=np.float32
)


def free_scrfd(path: Path, *, leading: bool) -> Path:
    """``graphs.scrfd`` with a free batch.

    leading: the outputs are ``[N, K, k]``, as in newer exports; else ``[K * N, k]``, the batch between a cell's place
    and its anchors.
    """
    model = onnx.load_model(str(graphs.scrfd(path)))
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    batch.dim_param = "n"
    if leading:
        for node in model.graph.node:
            if node.op_type == "Transpose":
                node.attribute[0].ints[:] = [0, 2, 3, 1]
        shapes = {node.input[1] for node in model.graph.node if node.op_type == "Reshape"}
        for initializer in model.graph.initializer:
            if initializer.name in shapes:
                width = numpy_helper.to_array(initializer)[-1]
                initializer.CopyFrom(numpy_helper.from_array(np.array([0, -1, width], np.int64), initializer.name))
        for output in model.graph.output:
            output.type.tensor_type.shape.dim.insert(0, batch)
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, str(path))
    return path


def quiet_scrfd(path: Path, quiet_at: int) -> Path:
    """``graphs.scrfd`` with a free batch that finds nothing in inputs of `quiet_at` pixels a side."""
    model = onnx.load_model(str(free_scrfd(path, leading=False)))
    graph = model.graph
    scores = [output.name for output in graph.output[:3]]
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(3, np.int64), "side_axis"),
            numpy_helper.from_array(np.array(quiet_at, np.int64), "quiet_at"),
        ]
    )
    graph.node.extend(
        [
            onnx.helper.make_node("Shape", ["input.1"], ["input_shape"]),
            onnx.helper.make_node("Gather", ["input_shape", "side_axis"], ["side"]),
            onnx.helper.make_node("Equal", ["side", "quiet_at"], ["is_quiet"]),
            onnx.helper.make_node("Not", ["is_quiet"], ["is_loud"]),
            onnx.helper.make_node("Cast", ["is_loud"], ["loud"], to=onnx.TensorProto.FLOAT),
        ]
    )
    for name in scores:
        for node in graph.node:
            if node.output[0] == name:
                node.output[0] = f"{name}_all"
        graph.node.append(onnx.helper.make_node("Mul", [f"{name}_all", "loud"], [name]))
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, str(path))
    return path


def palette_parser(path: Path, side: int = 512, heads: int = 1) -> Path:
    """A face parser that sees in each pixel the class whose colour in `PALETTE` is nearest.

    heads: further outputs, used in training, see the background everywhere.
    """
    from flux_face.nodes.face.contracts import IMAGENET

    colours = (PALETTE - IMAGENET.mean) / IMAGENET.std
    graph = graphs._Graph(1)
    weight = graph.constant("colours", (2.0 * colours[:, :, None, None]).astype(np.float32))
    bias = graph.constant("lengths", -(colours**2).sum(axis=1).astype(np.float32))
    graph.add("Conv", ["input", weight, bias], "output")
    scores: list[int | str] = [1, len(CLASSES), side, side]
    outputs = {"output": scores}
    for head in range(1, heads):
        first = np.zeros(len(CLASSES), np.float32)
        first[0] = 1e3
        name = f"output{2**head * 8}"
        bias = graph.constant(f"bias{head}", first)
        zeros = graph.constant(f"zeros{head}", np.zeros((len(CLASSES), 3, 1, 1), np.float32))
        outputs[graph.add("Conv", ["input", zeros, bias], name)] = scores
    return graph.save(path, {"input": [1, 3, side, side]}, outputs)


def copier(path: Path, side: int = 512) -> Path:
    """A restorer that gives its input back."""
    graph = graphs._Graph(1)
    graph.add("Identity", ["input"], "output")
    return graph.save(path, {"input": [1, 3, side, side]}, {"output": [1, 3, side, side]})


def scalar_weight(path: Path) -> Path:
    """Makes the ``weight`` of CodeFormer's graph a number without dimensions."""
    model = onnx.load_model(str(path))
    for value in model.graph.input:
        if value.name == "weight":
            del value.type.tensor_type.shape.dim[:]
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, str(path))
    return path
