"""Which execution provider of onnxruntime runs a graph, and how it is started."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ...errors import UserInputError
from .session import Device

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
COREML = "CoreMLExecutionProvider"
# In the order in which they are tried.
GPU_PROVIDERS = (CUDA, "MIGraphXExecutionProvider", "ROCMExecutionProvider", "DmlExecutionProvider", COREML)

_INSTALL = (
    "Install the onnxruntime build for your GPU and its CUDA version, without plain onnxruntime beside it, "
    "or set device to cpu"
)
# Errors only at the start, nothing during runs: they reach the caller as exceptions.
_ERRORS, SILENT = 3, 4


class ProviderStartError(RuntimeError):
    """The provider is built in but did not start."""


def onnxruntime() -> Any:
    """The package.

    Raises:
        UserInputError: ``onnxruntime_missing``.
    """
    try:
        # torch was imported first: it brings the CUDA libraries that onnxruntime links to.
        import onnxruntime as package
    except ImportError as error:
        raise UserInputError(
            "onnxruntime_missing",
            "engine",
            "the onnx engine needs the package onnxruntime, which is not installed",
            "Install onnxruntime-gpu (NVIDIA) or onnxruntime (CPU) into ComfyUI's Python, or choose the classic engine",
        ) from error
    return package


def choose_provider(available: Sequence[str], device: Device) -> tuple[str, str]:
    """The provider to ask for, and what to say about it.

    Raises:
        UserInputError: ``provider_inactive`` where `device` is gpu and there is none.
    """
    if device == "cpu":
        return CPU, ""
    for provider in GPU_PROVIDERS:
        if provider in available:
            return provider, ""
    if device == "gpu":
        raise inactive(f"the installed onnxruntime has no GPU provider, only {', '.join(available)}")
    return CPU, "this onnxruntime has no GPU provider: running on the CPU"


def inactive(problem: str, remedy: str = _INSTALL) -> UserInputError:
    """The error for a GPU that is asked for and cannot be used."""
    return UserInputError("provider_inactive", "device", problem, remedy)


def tensor_device(provider: str) -> torch.device:
    """Where a provider's inputs and outputs lie: in the GPU's memory for CUDA.

    The other GPU providers (MIGraphX, ROCm, DirectML, CoreML) have no memory in common with torch's tensors of any
    build; they take tensors of the CPU and copy them themselves.
    """
    if provider == CUDA and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def start(model: Path | bytes, provider: str) -> Any:
    """An ``onnxruntime.InferenceSession`` of a file or of a file's bytes, on this very provider.

    Operators that a GPU provider lacks run on the CPU, as in every onnxruntime session.

    Raises:
        ProviderStartError: the provider is not active.
        Exception: any of onnxruntime's, where it cannot load the graph.
    """
    providers: list[Any] = [CPU] if provider == CPU else [(provider, _options(provider)), CPU]
    try:
        session = _session(model, providers)
    except Exception as error:
        if provider == CPU:
            raise
        # The graph's fault or the provider's: the CPU tells. Its error is raised where it is the graph's.
        _session(model, [CPU])
        raise ProviderStartError(f"{provider} did not start: {error}") from error
    if session.get_providers()[0] != provider:
        raise ProviderStartError(f"{provider} did not start")
    return session


def _session(model: Path | bytes, providers: Sequence[Any]) -> Any:
    package = onnxruntime()
    options = package.SessionOptions()
    options.log_severity_level = _ERRORS
    # Else its threads go on spinning after a run and take the cores from torch's, which work on the outcome.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = model if isinstance(model, bytes) else str(model)
    # Without this onnxruntime would go on with another provider and say so on stdout.
    session = package.InferenceSession(source, options, providers=providers, enable_fallback=0)
    # Kept by onnxruntime for the fallback that is off: as large as the weights.
    session._model_bytes = None
    return session


def _options(provider: str) -> dict[str, str]:
    if provider != CUDA:
        return {}
    return {
        "device_id": str(tensor_device(CUDA).index or 0),
        # The default doubles the arena each time it is full, which ComfyUI's other models then lack.
        "arena_extend_strategy": "kSameAsRequested",
        # The default tries every convolution algorithm anew for each batch size, with gigabytes of workspace.
        "cudnn_conv_algo_search": "HEURISTIC",
    }
