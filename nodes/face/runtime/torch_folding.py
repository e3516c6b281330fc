"""What can be worked out of a graph when it is loaded: constants, normalisations with known statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from .onnx_types import Graph, Node
from .onnx_wire import OnnxFileError
from .torch_ops import OPERATORS, Context, Kernel, Operator, Setup, UnsupportedError
from .torch_ops.normalisation import batch_norm_epsilon, scale_and_offset, scale_shift

STANDARD_DOMAINS = ("", "ai.onnx")
INTERNAL_DOMAIN = "flux_face"
# Operators that only folding makes.
_INTERNAL = {"ScaleShift": Operator(lambda _: scale_shift)}


@dataclass(eq=False)
class Folded:
    """A graph after folding.

    Attributes:
        nodes: what remains to be run, in order.
        constants: values known before a run, on the CPU.
        names: of all values.
        problems: what is not implemented, in words.
    """

    nodes: list[Node]
    constants: dict[str, Tensor]
    names: set[str]
    problems: list[str]

    def add(self, name: str, value: Tensor) -> str:
        """Adds a constant under a name like `name` that nothing else has, and returns that."""
        while name in self.names:
            name += "'"
        self.names.add(name)
        self.constants[name] = value
        return name


def find_operator(node: Node) -> Operator | None:
    """The implementation of a node's operator."""
    table = OPERATORS if node.domain in STANDARD_DOMAINS else _INTERNAL if node.domain == INTERNAL_DOMAIN else {}
    return table.get(node.op_type)


def build_kernel(node: Node, operator: Operator, context: Context, constants: Mapping[str, Tensor]) -> Kernel:
    """The node's function.

    Raises:
        UnsupportedError: it asks for something that is not implemented.
    """
    setup = Setup(node, context, constants)
    kernel = operator.build(setup)
    setup.finish()
    if operator.outputs is not None and any(node.outputs[operator.outputs :]):
        raise UnsupportedError(f"{len(node.outputs)} outputs")
    return kernel


def label(node: Node) -> str:
    """A node's operator and its name, or that of what it makes, for messages."""
    operator = node.op_type if node.domain in STANDARD_DOMAINS else f"{node.domain}.{node.op_type}"
    name = node.name or next(iter(node.outputs), "")
    return f"{operator} ({name})" if name else operator


def as_tuple(result: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A kernel's outputs."""
    return result if isinstance(result, tuple) else (result,)


def fold(graph: Graph, context: Context) -> Folded:
    """Runs what depends on constants only, on the CPU, and folds normalisations into the convolutions before them.

    Raises:
        OnnxFileError: a node reads what nothing makes, a name is made twice, or a constant node cannot run.
    """
    known = {info.name for info in graph.inputs} | {tensor.name for tensor in graph.initializers}
    folded = Folded([], {}, known, [])
    for tensor in graph.initializers:
        try:
            folded.constants[tensor.name] = context.tensor(tensor)
        except UnsupportedError as error:
            folded.problems.append(f"initializer {tensor.name} with {error}")
    for node in graph.nodes:
        missing = [name for name in node.inputs if name and name not in known]
        if missing:
            raise OnnxFileError(f"{label(node)} reads {missing[0]!r}, which nothing before it makes")
        again = [name for name in node.outputs if name and name in known]
        if again:
            raise OnnxFileError(f"{label(node)} makes {again[0]!r} a second time")
        known.update(node.outputs)
        _fold_node(node, context, folded)
    for info in graph.outputs:
        if info.name not in known:
            raise OnnxFileError(f"nothing makes the output {info.name!r}")
    if not folded.problems:
        _fold_batch_norms(folded, {info.name for info in graph.outputs}, context)
        _drop_unused(folded, {info.name for info in graph.outputs})
    return folded


def _fold_node(node: Node, context: Context, folded: Folded) -> None:
    operator = find_operator(node)
    if operator is None:
        folded.problems.append(label(node))
        return
    try:
        kernel = build_kernel(node, operator, context, folded.constants)
    except UnsupportedError as error:
        folded.problems.append(f"{label(node)} with {error}")
        return
    if not all(name in folded.constants for name in node.inputs if name):
        # A copy: folding changes nodes, and the graph belongs to the caller.
        folded.nodes.append(replace(node, inputs=list(node.inputs), outputs=list(node.outputs)))
        return
    values = tuple(folded.constants[name] if name else None for name in node.inputs)
    try:
        made = as_tuple(kernel(*values))
    except Exception as error:
        # Torch raises errors of many kinds for a node that makes no sense.
        raise OnnxFileError(f"{label(node)} cannot run: {error}") from error
    folded.constants.update({name: value for name, value in zip(node.outputs, made, strict=False) if name})


def _fold_batch_norms(folded: Folded, outputs: set[str], context: Context) -> None:
    """Turns normalisations with known statistics into a scale and an offset, and those into convolution weights."""
    uses = Counter(name for node in folded.nodes for name in node.inputs)
    makers: dict[str, Node] = {}
    kept = []
    for node in folded.nodes:
        constants = [folded.constants.get(name) for name in node.inputs[1:5]]
        statistics = [value.double() for value in constants if value is not None]
        if node.op_type == "BatchNormalization" and len(statistics) == 4 and not any(node.outputs[1:]):
            epsilon = batch_norm_epsilon(Setup(node, context, folded.constants))
            scale, shift, mean, variance = statistics
            kept_type = folded.constants[node.inputs[1]].dtype
            factor, offset = scale_and_offset(scale, shift, mean, variance, epsilon)
            source, target = node.inputs[0], node.outputs[0]
            maker = makers.get(source)
            alone = uses[source] == 1 and source not in outputs
            if maker is not None and alone and _scale_weights(maker, target, factor, offset, folded):
                makers[target] = maker
                continue
            names = [
                folded.add(f"{target}/{what}", values.to(kept_type))
                for what, values in (("scale", factor), ("offset", offset))
            ]
            node = Node("ScaleShift", [source, *names], [target], domain=INTERNAL_DOMAIN, name=node.name)
        kept.append(node)
        makers.update(dict.fromkeys(node.outputs, node))
    folded.nodes = kept


def _scale_weights(conv: Node, target: str, factor: Tensor, offset: Tensor, folded: Folded) -> bool:
    """Makes `conv` give `target`, its own output times `factor` plus `offset`; False where it cannot."""
    if conv.op_type != "Conv" or conv.domain not in STANDARD_DOMAINS:
        return False
    parameters = [folded.constants.get(name) for name in conv.inputs[1:] if name]
    weight = parameters[0] if parameters else None
    if weight is None or weight.dim() < 3 or len(weight) != len(factor) or any(p is None for p in parameters):
        return False
    bias = parameters[1] if len(parameters) > 1 else None
    scaled = weight.double() * factor.reshape(-1, *[1] * (weight.dim() - 1))
    shifted = offset if bias is None else bias.double() * factor + offset
    made = [
        folded.add(f"{target}/{what}", values.to(weight.dtype))
        for what, values in (("weight", scaled), ("bias", shifted))
    ]
    conv.inputs, conv.outputs = [conv.inputs[0], *made], [target]
    return True


def _drop_unused(folded: Folded, outputs: set[str]) -> None:
    """Drops nodes and constants that no output depends on."""
    needed, kept = set(outputs), []
    for node in reversed(folded.nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(node.inputs)
    folded.nodes = kept[::-1]
    folded.constants = {name: value for name, value in folded.constants.items() if name in needed}
