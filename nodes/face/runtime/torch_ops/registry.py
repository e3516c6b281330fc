"""How an ONNX operator becomes a torch function.

A builder reads a node's attributes once, when the graph is loaded, and returns the function that runs the node: a
tensor for every input (None for one that is left out) in, one tensor or a tuple of tensors out. Builders refuse what
they do not implement, so that no graph runs with a setting ignored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ..onnx_types import Attribute, AttributeKind, DataType, Node, type_name
from ..onnx_types import Tensor as OnnxTensor

Kernel = Callable[..., Tensor | tuple[Tensor, ...]]
T = TypeVar("T")

# Element types that torch computes with on every device, as a graph declares them.
TORCH_TYPES: Mapping[DataType, torch.dtype] = {
    DataType.FLOAT: torch.float32,
    DataType.UINT8: torch.uint8,
    DataType.INT8: torch.int8,
    DataType.INT16: torch.int16,
    DataType.INT32: torch.int32,
    DataType.INT64: torch.int64,
    DataType.BOOL: torch.bool,
    DataType.FLOAT16: torch.float16,
    DataType.DOUBLE: torch.float64,
    DataType.BFLOAT16: torch.bfloat16,
}


class UnsupportedError(ValueError):
    """A node asks for something that is not implemented; the text says what."""


@dataclass(frozen=True)
class Context:
    """Where and in which terms nodes run.

    Attributes:
        opset: version of the standard operator set.
        device: where inputs lie, and where tensors are created.
        types: the torch type that stands for each element type; a half-precision session maps FLOAT to float16.
    """

    opset: int
    device: torch.device
    types: Mapping[DataType, torch.dtype]

    def dtype(self, number: int) -> torch.dtype:
        """The torch type for a ``TensorProto.DataType``."""
        try:
            return self.types[DataType(number)]
        except (ValueError, KeyError):
            raise UnsupportedError(f"element type {type_name(number)}") from None

    def tensor(self, stored: OnnxTensor) -> Tensor:
        """A constant as a tensor on the device."""
        return stored.to_torch().to(self.dtype(stored.data_type)).to(self.device)


class Setup:
    """What a builder knows of its node. It remembers which attributes were asked for.

    Attributes:
        opset: version of the standard operator set.
        device: where the node's inputs lie, and where it creates tensors.
        outputs: names of the outputs; empty for one that nobody wants.
    """

    def __init__(self, node: Node, context: Context, constants: Mapping[str, Tensor]) -> None:
        self.opset = context.opset
        self.device = context.device
        self.outputs = tuple(node.outputs)
        self.dtype = context.dtype
        self.stored = context.tensor
        self._inputs = node.inputs
        self._constants = constants
        self._attributes = node.attributes
        self._unread = set(node.attributes)

    @property
    def several(self) -> bool:
        """True where more than the first output is wanted."""
        return any(self.outputs[1:])

    def given(self, index: int) -> bool:
        """True where the node has this input."""
        return index < len(self._inputs) and self._inputs[index] != ""

    def constant(self, index: int) -> Tensor | None:
        """An input's value, if it is known at load."""
        return self._constants.get(self._inputs[index]) if self.given(index) else None

    def integer(self, name: str, default: int) -> int:
        """An integer."""
        return self._get(name, AttributeKind.INT, default)

    def real(self, name: str, default: float) -> float:
        """A number."""
        return self._get(name, AttributeKind.FLOAT, default)

    def flag(self, name: str, default: bool) -> bool:
        """An integer that is 0 or not."""
        return bool(self.integer(name, default))

    def text(self, name: str, default: str) -> str:
        """A string."""
        return self._get(name, AttributeKind.STRING, default.encode()).decode(errors="replace")

    def choice(self, name: str, default: str, known: Sequence[str]) -> str:
        """A string that is one of `known`; the default need not be."""
        value = self.text(name, default)
        if value not in known and value != default:
            raise UnsupportedError(f"{name}={value}")
        return value

    def integers(self, name: str) -> list[int] | None:
        """Integers, or None where the attribute is not there."""
        return self._get(name, AttributeKind.INTS, None)

    def reals(self, name: str) -> list[float] | None:
        """Numbers, or None where the attribute is not there."""
        return self._get(name, AttributeKind.FLOATS, None)

    def tensor(self, name: str) -> OnnxTensor | None:
        """A tensor, or None where the attribute is not there."""
        return self._get(name, AttributeKind.TENSOR, None)

    def has(self, name: str) -> bool:
        """True where the attribute is there."""
        return name in self._attributes

    def ignore(self, *names: str) -> None:
        """Marks attributes as read that change nothing in inference."""
        self._unread.difference_update(names)

    def expect(self, name: str, value: int) -> None:
        """An integer that may only have one value."""
        if self.integer(name, value) != value:
            raise UnsupportedError(f"{name}={self.integer(name, value)}")

    def finish(self) -> None:
        """Refuses attributes that nobody asked for; constants are let go, since kernels may keep this object."""
        self._constants = {}
        if self._unread:
            raise UnsupportedError(f"attribute {min(self._unread)}")

    def _get(self, name: str, kind: AttributeKind, default: T) -> T:
        self._unread.discard(name)
        attribute: Attribute | None = self._attributes.get(name)
        if attribute is None:
            return default
        if attribute.kind != kind:
            raise UnsupportedError(f"attribute {name} of kind {attribute.kind.name}")
        value: T = attribute.value
        return value


Builder = Callable[[Setup], Kernel]


@dataclass(frozen=True)
class Operator:
    """An implementation.

    Attributes:
        host: inputs that it reads on the CPU: shapes, axes, bounds.
        outputs: how many outputs it can give; None for any number.
    """

    build: Builder
    host: tuple[int, ...] = ()
    outputs: int | None = 1


# By name, in the standard domain.
OPERATORS: dict[str, Operator] = {}


def operator(name: str, host: tuple[int, ...] = (), outputs: int | None = 1) -> Callable[[Builder], Builder]:
    """Registers a builder under an operator name of the standard domain."""

    def register(build: Builder) -> Builder:
        OPERATORS[name] = Operator(build, host, outputs)
        return build

    return register


def simple(name: str, function: Kernel, host: tuple[int, ...] = ()) -> None:
    """Registers an operator without attributes."""
    OPERATORS[name] = Operator(lambda _: function, host)


def integers(values: Tensor) -> list[int]:
    """The elements of a shape-like input."""
    return [int(value) for value in values.reshape(-1).tolist()]


def wrap(axis: int, rank: int) -> int:
    """A non-negative axis."""
    if not -rank <= axis < max(rank, 1):
        raise ValueError(f"axis {axis} of a tensor with {rank} dimensions")
    return axis % rank if rank else 0


def representable(bound: float, dtype: torch.dtype) -> float:
    """A number as near to `bound` as the type has one: half precision ends at 65504, and torch refuses larger ones."""
    if not dtype.is_floating_point or math.isinf(bound):
        return bound
    limits = torch.finfo(dtype)
    return min(max(bound, limits.min), limits.max)
