"""An ONNX graph as a torch module that runs its nodes one after the other."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .onnx_types import DataType, Model, ValueInfo, type_name
from .onnx_wire import OnnxFileError
from .torch_folding import STANDARD_DOMAINS, as_tuple, fold
from .torch_ops.registry import TORCH_TYPES, Context
from .torch_plan import Step, make_plan

# The operators' tests go up to here; a later set may give an operator another meaning.
NEWEST_OPSET = 28


class UnsupportedGraphError(ValueError):
    """The graph has what is not implemented; `problems` has everything that was found."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(", ".join(problems))
        self.problems = problems


class Program(nn.Module):
    """A graph, ready to run on `device`.

    Its weights are parameters and buffers, created on `device`. They may be moved away between runs: a run then
    fetches each where it is used.

    Attributes:
        device: where it computes, and where outputs lie.
        inputs, outputs: what the graph says of them; weights are not among the inputs.
    """

    def __init__(self, model: Model, device: torch.device, types: Mapping[DataType, torch.dtype] = TORCH_TYPES) -> None:
        """Folds and plans; `types` are the torch types that stand for the graph's element types on the device.

        Raises:
            OnnxFileError: the graph is malformed.
            UnsupportedGraphError: it has what is not implemented.
        """
        super().__init__()
        self.device = device
        initializers = {tensor.name for tensor in model.graph.initializers}
        # Files of IR version 3 list their weights among the inputs.
        self.inputs = [info for info in model.graph.inputs if info.name not in initializers]
        self.outputs = model.graph.outputs
        opset = max((model.opsets.get(domain, 0) for domain in STANDARD_DOMAINS), default=0)
        if opset < 1:
            raise OnnxFileError("it names no version of the standard operator set")
        problems = [f"operator set {opset}, newer than {NEWEST_OPSET}"] if opset > NEWEST_OPSET else []
        problems += [
            f"{info.name!r} of {_type_of(info)}"
            for info in (*self.inputs, *self.outputs)
            if info.data_type not in types
        ]
        # Sizes are computed on the CPU, where half precision would be too coarse for them.
        cpu = Context(opset, torch.device("cpu"), {**types, DataType.FLOAT: torch.float32})
        folded = fold(model.graph, cpu)
        problems += folded.problems
        if problems:
            raise UnsupportedGraphError(list(dict.fromkeys(problems)))
        inputs, outputs = ([info.name for info in infos] for infos in (self.inputs, self.outputs))
        plan = make_plan(folded, inputs, outputs, Context(opset, device, types), cpu)
        self._types = types
        self._plan = plan
        for index, weight in enumerate(plan.weights):
            self._register(_weight_name(index), self._on_device(weight))
        # The parameters are the weights now; those on the CPU can go.
        plan.weights.clear()

    def forward(self, feeds: Mapping[str, Tensor]) -> list[Tensor]:
        """The outputs, in the graph's order and with its element types.

        Raises:
            RuntimeError: a step failed; the text names it.
        """
        plan = self._plan
        values: list[Tensor | None] = [None] * len(plan.places)
        for place, constant in plan.known.items():
            values[place] = constant
        for place, info in zip(plan.inputs, self.inputs, strict=True):
            assert info.data_type is not None, "the constructor has looked"
            values[place] = feeds[info.name].to(self.device, self._types[info.data_type])
        for step in plan.steps:
            self._run(step, values)
        return [_present(values[place], info.name) for place, info in zip(plan.outputs, self.outputs, strict=True)]

    @property
    def steps(self) -> list[Step]:
        """What it runs, in order."""
        return self._plan.steps

    def _run(self, step: Step, values: list[Tensor | None]) -> None:
        for place, index in step.weights:
            values[place] = getattr(self, _weight_name(index)).to(self.device)
        arguments = [None if place is None else values[place] for place in step.inputs]
        for position in step.moved:
            arguments[position] = self._on_device(_present(arguments[position], step.label))
        try:
            made = as_tuple(step.kernel(*arguments))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            # Torch raises errors of many kinds where shapes do not fit.
            raise RuntimeError(f"{step.label} failed: {error}") from error
        for output, value in zip(step.outputs, made, strict=False):
            if output is not None:
                values[output] = value
        for place in step.free:
            values[place] = None

    def _on_device(self, value: Tensor) -> Tensor:
        """A value of the CPU as the device computes with it."""
        dtype = self._types[DataType.FLOAT] if value.dtype == torch.float32 else value.dtype
        return value.to(dtype).to(self.device)

    def _register(self, name: str, weight: Tensor) -> None:
        if weight.is_floating_point():
            self.register_parameter(name, nn.Parameter(weight, requires_grad=False))
        else:
            self.register_buffer(name, weight)


def _weight_name(index: int) -> str:
    return f"weight_{index}"


def _type_of(info: ValueInfo) -> str:
    return f"type {info.other_name if info.data_type is None else type_name(info.data_type)}"


def _present(value: Tensor | None, name: str) -> Tensor:
    if value is None:
        raise RuntimeError(f"the graph left {name!r} without a value")
    return value
