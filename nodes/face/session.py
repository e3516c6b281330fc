"""An onnxruntime session that says where it runs and keeps its contract."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import UserInputError
from .types import FloatArray

log = logging.getLogger(__name__)

Device = Literal["auto", "gpu", "cpu"]

CPU = "CPUExecutionProvider"
# In the order in which they are tried.
_GPU_PROVIDERS = (
    "CUDAExecutionProvider",
    "MIGraphXExecutionProvider",
    "ROCMExecutionProvider",
    "DmlExecutionProvider",
    "CoreMLExecutionProvider",
)


# None stands for a dimension that is free.
Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a graph."""

    name: str
    shape: Shape
    half: bool


class OnnxSession:
    """One loaded graph: named float arrays in, arrays out.

    Attributes:
        path: the file.
        provider: the execution provider that is really active.
        note: empty, or why it is not the one that was wished for.
    """

    def __init__(self, path: Path, device: Device = "auto") -> None:
        """Loads the graph.

        Raises:
            UserInputError: ``onnxruntime_missing``, ``provider_inactive`` or ``onnx_contract``.
        """
        # torch first: it brings the CUDA libraries that onnxruntime's provider links to.
        import torch  # noqa: F401

        runtime = _onnxruntime()
        wanted, self.note = _choose_provider(runtime.get_available_providers(), device)
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        providers = [CPU] if wanted == CPU else [wanted, CPU]
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:
            raise UserInputError(
                "onnx_contract", path.name, f"onnxruntime cannot load it: {error}", "Download the file again"
            ) from error
        self.path = path
        self.provider: str = self._session.get_providers()[0]
        if self.provider != wanted:
            self.note = f"{wanted} was asked for but did not start; running on {self.provider}"
            if device == "gpu":
                raise UserInputError(
                    "provider_inactive",
                    "device",
                    self.note,
                    "Install the onnxruntime build for your GPU and its CUDA version, without plain onnxruntime beside "
                    "it, or set device to cpu",
                )
            log.warning("Flux Face: %s: %s", path.name, self.note)
        self.inputs = tuple(_spec(value) for value in self._session.get_inputs())
        self.outputs = tuple(_spec(value) for value in self._session.get_outputs())

    def run(self, feeds: Mapping[str, FloatArray]) -> list[FloatArray]:
        """All outputs, float32, in the graph's order."""
        halves = {spec.name: spec.half for spec in self.inputs}
        cast = {name: value.astype(np.float16) if halves[name] else value for name, value in feeds.items()}
        return [np.asarray(value, dtype=np.float32) for value in self._session.run(None, cast)]

    def run_batched(self, feeds: Mapping[str, FloatArray]) -> FloatArray:
        """The first output for a batch, in one run where the graph's batch is free, else one run per item."""
        count = len(next(iter(feeds.values())))
        if all(spec.shape[0] is None for spec in self.inputs):
            return self.run(feeds)[0]
        rows = [self.run({name: value[i : i + 1] for name, value in feeds.items()})[0] for i in range(count)]
        return np.concatenate(rows)

    def require(self, kind: str, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> None:
        """Checks the ranks and fixed sizes of all inputs and outputs against a contract; None accepts any size.

        Raises:
            UserInputError: ``onnx_contract``, naming the first that is not as expected.
        """
        for role, have, want in (("input", self.inputs, inputs), ("output", self.outputs, outputs)):
            if len(have) != len(want):
                raise self.broken(kind, f"{len(have)} {role}s where {len(want)} are expected")
            for spec, shape in zip(have, want, strict=True):
                fits = len(spec.shape) == len(shape) and all(
                    a is None or b is None or a == b for a, b in zip(spec.shape, shape, strict=True)
                )
                if not fits:
                    raise self.broken(kind, f"{role} {spec.name!r} has shape {_shown(spec.shape)}, not {_shown(shape)}")

    def broken(self, kind: str, problem: str) -> UserInputError:
        """The error for a graph that is not what its place in the graph calls for."""
        return UserInputError(
            "onnx_contract", kind, f"{self.path.name}: {problem}", f"Choose a file that is a {kind} model"
        )


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserInputError(
            "onnxruntime_missing",
            "engine",
            "the onnx engine needs the package onnxruntime, which is not installed",
            "Install onnxruntime-gpu (NVIDIA) or onnxruntime (CPU) into ComfyUI's Python, or choose the classic engine",
        ) from error
    return onnxruntime


def _choose_provider(available: Sequence[str], device: Device) -> tuple[str, str]:
    """The provider to ask for, and what to say about it."""
    if device == "cpu":
        return CPU, ""
    for provider in _GPU_PROVIDERS:
        if provider in available:
            return provider, ""
    if device == "gpu":
        raise UserInputError(
            "provider_inactive",
            "device",
            f"the installed onnxruntime has no GPU provider, only {', '.join(available)}",
            "Install onnxruntime-gpu in place of onnxruntime, or set device to cpu",
        )
    return CPU, "this onnxruntime has no GPU provider: running on the CPU"


def _spec(value: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in value.shape)
    return TensorSpec(value.name, shape, "float16" in value.type)


def _shown(shape: Shape) -> str:
    return "[" + ", ".join("any" if size is None else str(size) for size in shape) + "]"
