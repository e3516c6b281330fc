"""The session interface: one loaded graph, whatever runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from ...errors import UserInputError

Device = Literal["auto", "gpu", "cpu"]

# None stands for a dimension that is free.
Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a graph."""

    name: str
    shape: Shape


class Session(Protocol):
    """One loaded graph.

    Attributes:
        path: the file.
        provider: what really runs it, e.g. ``CUDAExecutionProvider`` or ``torch cuda:0 float16``.
        note: empty, or why that is not what was wished for.
        device: where inputs had best lie and where outputs lie.
        inputs, outputs: in the graph's order; the batch dimension is free wherever the graph could be freed.
    """

    path: Path
    provider: str
    note: str
    device: torch.device
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All outputs by name, float32, on `device`, for float32 inputs by name, on any device.

        The first dimension is the batch; its size is any where ``inputs`` say so.
        """
        ...


def run_batched(session: Session, feeds: Mapping[str, Tensor], largest: int = 16) -> list[Tensor]:
    """All outputs, in the graph's order, for a batch of any size, in parts of `batch_limit`."""
    count = len(next(iter(feeds.values())))
    step = batch_limit(session, largest)
    parts = [
        session.run({name: value[start : start + step] for name, value in feeds.items()})
        for start in range(0, count, step)
    ]
    if len(parts) == 1:
        return [parts[0][spec.name] for spec in session.outputs]
    return [torch.cat([part[spec.name] for part in parts]) for spec in session.outputs]


def batch_limit(session: Session, largest: int) -> int:
    """How many items a session had best take at once: at most `largest`, and one where the graph's batch is fixed."""
    if any(spec.shape[0] is not None for spec in session.inputs):
        return 1
    if session.device.type != "cpu":
        return largest
    # Beyond one item per core a larger batch only drops out of the caches (`dev.py bench face`).
    return min(largest, max(2, torch.get_num_threads()))


def require(session: Session, kind: str, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> None:
    """Checks the ranks and fixed sizes of all inputs and outputs against a contract; None accepts any size.

    Raises:
        UserInputError: ``onnx_contract``, naming the first that is not as expected.
    """
    for role, have, want in (("input", session.inputs, inputs), ("output", session.outputs, outputs)):
        if len(have) != len(want):
            raise broken(session, kind, f"{len(have)} {role}s where {len(want)} are expected")
        for spec, shape in zip(have, want, strict=True):
            if not fits(spec.shape, shape):
                raise broken(session, kind, f"{role} {spec.name!r} has shape {_shown(spec.shape)}, not {_shown(shape)}")


def fits(have: Shape, want: Shape) -> bool:
    """Whether two shapes have the same rank and no sizes that differ; None goes with any size."""
    return len(have) == len(want) and all(a is None or b is None or a == b for a, b in zip(have, want, strict=True))


def broken(session: Session, kind: str, problem: str) -> UserInputError:
    """The error for a graph that is not what its place calls for."""
    return UserInputError(
        "onnx_contract", kind, f"{session.path.name}: {problem}", f"Choose a file that is a {kind} model"
    )


def _shown(shape: Shape) -> str:
    return "[" + ", ".join("any" if size is None else str(size) for size in shape) + "]"
