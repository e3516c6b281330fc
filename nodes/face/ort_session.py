"""Graphs run by onnxruntime, which says where it runs and keeps to it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserInputError
from .session import Device, TensorSpec

log = logging.getLogger(__name__)

CPU = "CPUExecutionProvider"
# In the order in which they are tried.
_GPU_PROVIDERS = (
    "CUDAExecutionProvider",
    "MIGraphXExecutionProvider",
    "ROCMExecutionProvider",
    "DmlExecutionProvider",
    "CoreMLExecutionProvider",
)


class OrtSession:
    """A ``session.Session``.

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
        # torch was imported first: it brings the CUDA libraries that onnxruntime links to.
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
        self.device = torch.device("cpu")
        values = (*self._session.get_inputs(), *self._session.get_outputs())
        self._half = {value.name for value in values if "float16" in value.type}
        self.inputs = tuple(_spec(value) for value in self._session.get_inputs())
        self.outputs = tuple(_spec(value) for value in self._session.get_outputs())

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See ``session.Session``."""
        arrays = {name: value.float().cpu().numpy() for name, value in feeds.items()}
        cast = {name: value.astype(np.float16) if name in self._half else value for name, value in arrays.items()}
        values = self._session.run(None, cast)
        return {
            spec.name: torch.from_numpy(np.asarray(value, dtype=np.float32))
            for spec, value in zip(self.outputs, values, strict=True)
        }


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
    return TensorSpec(value.name, tuple(size if isinstance(size, int) and size > 0 else None for size in value.shape))
