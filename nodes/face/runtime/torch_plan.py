"""In which order, from where and where a graph's nodes run.

What depends on shapes and constants alone and ends where an operator reads numbers (sizes, axes, bounds) is computed
on the CPU, so that no step waits for the GPU; everything else on the device. A value is let go after the last step that
reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from .onnx_types import Node
from .torch_folding import Folded, build_kernel, find_operator, label
from .torch_ops import Context, Kernel

_SHAPE_READERS = ("Shape", "Size")


@dataclass(frozen=True)
class Step:
    """One node.

    Attributes:
        inputs: places of the inputs; None for one that is left out.
        moved: which inputs lie on the CPU and must go to the device.
        weights: weights that are needed from here on: the place, and the index in ``Plan.weights``.
        outputs: places of the outputs; None for one that is not wanted.
        free: places that no later step reads.
    """

    kernel: Kernel
    label: str
    inputs: tuple[int | None, ...]
    moved: tuple[int, ...]
    weights: tuple[tuple[int, int], ...]
    outputs: tuple[int | None, ...]
    free: tuple[int, ...]


# A value, and whether its copy on the device is meant: constants that shape computations need too have two places.
Source = tuple[str, bool]


@dataclass(eq=False)
class Plan:
    """A graph as steps over numbered places.

    Attributes:
        places: the place of every value.
        known: constants that stay on the CPU, by place.
        weights: constants for the device, as yet on the CPU.
        inputs, outputs: places of the graph's inputs and outputs.
    """

    steps: list[Step] = field(default_factory=list)
    places: dict[Source, int] = field(default_factory=dict)
    known: dict[int, Tensor] = field(default_factory=dict)
    weights: list[Tensor] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)

    def place(self, source: Source) -> int:
        """The place of a value."""
        return self.places.setdefault(source, len(self.places))


def make_plan(folded: Folded, inputs: Sequence[str], outputs: Sequence[str], device: Context, cpu: Context) -> Plan:
    """The steps of a folded graph, between the contexts of the device and of the CPU."""
    plan = Plan()
    plan.inputs = [plan.place((name, False)) for name in inputs]
    on_cpu = _computed_on_cpu(folded)
    lie_on_cpu = {(name, False) for node in folded.nodes if id(node) in on_cpu for name in node.outputs}
    sources = [_sources(node, id(node) in on_cpu, folded.constants) for node in folded.nodes]
    last = {source: index for index, several in enumerate(sources) for source in several if source}
    kept = {(name, False) for name in outputs}
    loaded: set[Source] = set()
    for index, (node, several) in enumerate(zip(folded.nodes, sources, strict=True)):
        operator = find_operator(node)
        assert operator is not None, "folding has found it"
        host = id(node) in on_cpu
        weights = []
        for source in several:
            if source is None or source[0] not in folded.constants:
                continue
            if not source[1]:
                plan.known[plan.place(source)] = folded.constants[source[0]]
            elif source not in loaded:
                loaded.add(source)
                weights.append((plan.place(source), len(plan.weights)))
                plan.weights.append(folded.constants[source[0]])
        moved = () if host else (i for i, s in enumerate(several) if i not in operator.host and s in lie_on_cpu)
        made = [(name, False) if name else None for name in node.outputs]
        done = {source for source in several if source and last[source] == index}
        done.update(source for source in made if source and source not in last)
        plan.steps.append(
            Step(
                build_kernel(node, operator, cpu if host else device, folded.constants),
                label(node),
                tuple(plan.place(source) if source else None for source in several),
                tuple(moved),
                tuple(weights),
                tuple(plan.place(source) if source else None for source in made),
                tuple(plan.place(source) for source in done - kept if plan.place(source) not in plan.known),
            )
        )
    for name in outputs:
        plan.outputs.append(plan.place((name, False)))
        if name in folded.constants:
            plan.known[plan.outputs[-1]] = folded.constants[name]
    return plan


def _sources(node: Node, host: bool, constants: Mapping[str, Tensor]) -> list[Source | None]:
    """The values a node reads; a constant that it computes with on the device is read from there."""
    operator = find_operator(node)
    assert operator is not None, "folding has found it"
    return [
        (name, name in constants and not host and position not in operator.host) if name else None
        for position, name in enumerate(node.inputs)
    ]


def _computed_on_cpu(folded: Folded) -> set[int]:
    """The nodes, by id, that compute sizes and the like."""
    from_shapes = set(folded.constants)
    for node in folded.nodes:
        if node.op_type in _SHAPE_READERS or all(name in from_shapes for name in node.inputs if name):
            from_shapes.update(node.outputs)
    needed: set[str] = set()
    chosen: set[int] = set()
    for node in reversed(folded.nodes):
        operator = find_operator(node)
        assert operator is not None, "folding has found it"
        reads_shape = node.op_type in _SHAPE_READERS
        if reads_shape or (needed.intersection(node.outputs) and from_shapes.issuperset(node.outputs)):
            chosen.add(id(node))
            needed.update(() if reads_shape else node.inputs)
        else:
            needed.update(name for index, name in enumerate(node.inputs) if index in operator.host)
    return chosen
