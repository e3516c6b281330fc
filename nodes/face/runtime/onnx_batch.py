"""Frees a batch that a released file fixes at one, and checks by running it that this was right.

Exporters write the batch of their example into the file: as the first size of inputs and outputs, and as the leading 1
of the shapes that operators are given. The editing finds those; whether it found all of them, and whether the network
looks across the batch elsewhere, only a run can tell.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .onnx_model import Attribute, AttributeKind, DataType, Graph, Model, Node
from .onnx_model import Tensor as Constant
from .session import TensorSpec

log = logging.getLogger(__name__)

_BATCH = "flux_face_batch"
# Which input of an operator is a shape. Of these, some have the batch in their data already and only repeat it in the
# shape, others make it from data that has none.
_REPEATS = {"Reshape": 1, "Resize": 3}
_MAKES = {"Expand": 1, "ConstantOfShape": 0, "Tile": 1}
# Their output holds sizes, not the items' values.
_SIZES = ("Shape", "Size")

# Size of free dimensions in the check: every face network accepts multiples of 64.
_SIDE = 64
# Values of one input beyond which the check is not tried.
_LARGEST = 1 << 26


def fixed_inputs(inputs: Sequence[TensorSpec]) -> set[str]:
    """The inputs whose batch is fixed at one. A vector of one, as CodeFormer's weight, is a setting without batch."""
    return {spec.name for spec in inputs if len(spec.shape) > 1 and spec.shape[0] == 1}


def free_batch(model: Model) -> None:
    """Lets the first dimension of inputs and outputs be any, and the shapes within follow it.

    Changes the model; whether it then does the same as before for every item is not known until `difference` says so.
    """
    graph = model.graph
    constants = _constants(graph)
    freed: list[str] = []
    for info in graph.inputs:
        # Files of IR version 3 list their weights among the inputs.
        if info.name not in constants and info.dims is not None and len(info.dims) > 1 and info.dims[0] == 1:
            info.dims[0] = _BATCH
            freed.append(info.name)
    if not freed:
        return
    batched = {info.name for info in graph.inputs if info.name not in constants}
    makers = {name: node for node in graph.nodes for name in node.outputs}
    edited: list[Node] = []
    for node in graph.nodes:
        carries = any(name in batched for name in node.inputs)
        place = _REPEATS.get(node.op_type) if carries else _MAKES.get(node.op_type)
        if node.domain == "" and place is not None and place < len(node.inputs):
            shape = node.inputs[place]
            added = _followed(shape, constants, makers, f"{_BATCH}_{len(edited)}", keeps=node.op_type == "Reshape")
            if added:
                edited += added
                node.inputs[place] = added[-1].outputs[0]
                carries = True
        edited.append(node)
        if carries and node.op_type not in _SIZES:
            batched.update(node.outputs)
    graph.nodes[:] = [*_batch_size(freed[0]), *edited]
    for info in graph.outputs:
        if info.name in batched and info.dims:
            # An output that begins with another size has lost its batch in it, as SCRFD's lists of anchors.
            info.dims[0] = _BATCH if info.dims[0] == 1 and len(info.dims) > 1 else None
    # They say what was; onnxruntime works out its own.
    graph.value_info.clear()


def _constants(graph: Graph) -> dict[str, npt.NDArray[Any]]:
    """Values by name, of initializers and of Constant nodes; exporters share one between several names by Identity."""
    values = {tensor.name: tensor.values for tensor in graph.initializers}
    for node in graph.nodes:
        if node.op_type == "Identity" and node.inputs[0] in values:
            values[node.outputs[0]] = values[node.inputs[0]]
        if node.op_type == "Constant" and node.domain == "":
            for attribute in node.attributes.values():
                if attribute.kind == AttributeKind.TENSOR:
                    values[node.outputs[0]] = attribute.value.values
                elif attribute.kind == AttributeKind.INTS:
                    values[node.outputs[0]] = np.array(attribute.value, np.int64)
    return values


def _followed(
    shape: str, constants: dict[str, npt.NDArray[Any]], makers: dict[str, Node], name: str, *, keeps: bool
) -> list[Node]:
    """Nodes that make the shape with the batch in front; none where it does not begin with a fixed 1.

    keeps: the operator keeps the number of elements, so that a -1 can stand for the batch.
    """
    if shape in constants:
        sizes = constants[shape]
        if sizes.ndim != 1 or len(sizes) < 2 or sizes[0] != 1:
            return []
        if keeps and -1 not in sizes:
            return [_constant(np.array([-1, *sizes[1:]], np.int64), name)]
        rest = _constant(sizes[1:].astype(np.int64), f"{name}_rest")
        return [rest, _joined([_BATCH, rest.outputs[0]], name)]
    maker = makers.get(shape)
    if maker is not None and maker.op_type == "Concat" and len(maker.inputs) > 1:
        first = constants.get(maker.inputs[0])
        if first is not None and first.shape == (1,) and first[0] == 1:
            return [_joined([_BATCH, *maker.inputs[1:]], name)]
    return []


def _batch_size(source: str) -> list[Node]:
    """Nodes that make ``[batch]``; Gather takes the same arguments in all operator sets."""
    shape, first = f"{_BATCH}_shape", _constant(np.array([0], np.int64), f"{_BATCH}_first")
    return [
        Node("Shape", [source], [shape], name=shape),
        first,
        Node("Gather", [shape, first.outputs[0]], [_BATCH], _axis(0), name=_BATCH),
    ]


def _constant(values: npt.NDArray[Any], name: str) -> Node:
    # A node rather than an initializer, which files of IR version 3 would have to list among their inputs.
    value = Attribute("value", AttributeKind.TENSOR, Constant(name, DataType.INT64, values))
    return Node("Constant", [], [name], {"value": value}, name=name)


def _joined(parts: list[str], name: str) -> Node:
    return Node("Concat", parts, [name], _axis(0), name=name)


def _axis(axis: int) -> dict[str, Attribute]:
    return {"axis": Attribute("axis", AttributeKind.INT, axis)}


def probe(inputs: Sequence[TensorSpec]) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
    """Random inputs for the check: two different items, and the batch of both.

    Raises:
        ValueError: the inputs are too large to try.
    """
    random = torch.Generator().manual_seed(20)
    items: list[dict[str, Tensor]] = [{}, {}]
    both: dict[str, Tensor] = {}
    for spec in inputs:
        batched = len(spec.shape) > 1 and spec.shape[0] in (1, None)
        shape = [2 if batched and index == 0 else size or _SIDE for index, size in enumerate(spec.shape)]
        if int(np.prod(shape, dtype=np.float64)) > _LARGEST:
            raise ValueError(f"input {spec.name!r} is too large to try")
        both[spec.name] = 2 * torch.rand(shape, generator=random) - 1
        for index, item in enumerate(items):
            item[spec.name] = both[spec.name][index : index + 1] if batched else both[spec.name]
    return items, both


def difference(singles: Sequence[dict[str, Tensor]], both: dict[str, Tensor], *, exact: bool) -> str:
    """What is wrong with a batch's outputs, given those of its two items; empty where nothing is.

    Args:
        exact: the computation is float32 and the same for all sizes; else TensorFloat-32, float16 and algorithms
            chosen by size make small differences.
    """
    first, second = singles
    tolerance = 1e-3 if exact else 2e-2
    told_apart = False
    for name, whole in both.items():
        a, b = first[name].cpu(), second[name].cpu()
        if not _holds_both(whole.cpu(), a, b, tolerance):
            return f"output {name!r} of two items is not that of each"
        told_apart = told_apart or _gap(a, b) > 1e-3 * float(a.abs().max())
    # Equal outputs would look right in any order.
    return "" if told_apart else "its outputs do not depend on its inputs"


def kept_at_one(name: str, problem: str) -> str:
    """The note for a file whose batch stays fixed; the log has the reason."""
    log.info("Flux Face: the batch of %s stays at one: %s", name, problem)
    return f"{name} runs one item at a time: its batch is fixed"


def _holds_both(whole: Tensor, a: Tensor, b: Tensor, tolerance: float) -> bool:
    """Whether a batch's output is made of its items' outputs `a` and `b`."""
    if a.shape != b.shape or whole.numel() != 2 * a.numel() or whole.shape[1:] != a.shape[1:] or not a.numel():
        return False
    limit = tolerance * _gap(a, b) + 1e-6 * float(a.abs().max())
    if a.ndim > 1 and len(a) == 1:
        return _gap(whole[:1], a) <= limit and _gap(whole[1:], b) <= limit
    # An output without batch has rows of both by turns, in blocks of some size.
    width = a.shape[-1] if a.ndim > 1 else 1
    for rows in _divisors(a.numel() // width):
        blocks = whole.reshape(-1, 2, rows * width)
        if _gap(blocks[:, 0].reshape(a.shape), a) <= limit and _gap(blocks[:, 1].reshape(a.shape), b) <= limit:
            return True
    return False


def _gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def _divisors(number: int) -> list[int]:
    small = [size for size in range(1, int(number**0.5) + 1) if number % size == 0]
    return [*small, *(number // size for size in small)]
