"""Opens a graph with the runtime that suits the machine."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Literal

import torch

from ...errors import UserInputError
from .onnx_batch import difference, fixed_inputs, free_batch, kept_at_one, probe
from .onnx_model import read_model
from .ort_providers import GPU_PROVIDERS, inactive, onnxruntime
from .ort_session import OrtSession
from .session import Device
from .torch_session import Precision, TorchSession

__all__ = ["Precision", "Runtime", "load_session", "torch_gpu"]

Runtime = Literal["auto", "onnxruntime", "torch"]


def load_session(path: Path, runtime: Runtime, device: Device, precision: Precision) -> OrtSession | TorchSession:
    """A graph ready to run, loaded anew.

    Args:
        runtime: ``auto`` takes onnxruntime where it has a GPU provider that starts, else torch where it has a GPU and
            knows the graph's operators, else onnxruntime where it is installed, else torch; the session's note says
            why it is not the first.
        device: ``gpu`` and ``cpu`` are kept to; where ``auto`` ends on the CPU, the note says so.
        precision: what torch computes in on a GPU. onnxruntime computes in the file's own.

    Raises:
        UserInputError: ``onnxruntime_missing``, ``provider_inactive``, ``onnx_contract`` or ``onnx_unsupported``.
    """
    if runtime == "torch":
        return _with_torch(path, device, precision)
    if runtime == "onnxruntime":
        return _with_onnxruntime(path, device, precision)
    installed = importlib.util.find_spec("onnxruntime") is not None
    problem = "" if installed else "onnxruntime is not installed"
    if device == "cpu":
        return (
            _with_onnxruntime(path, device, precision) if installed else _with_torch(path, device, precision, problem)
        )
    if installed:
        problem = "the installed onnxruntime has no GPU provider"
        if any(name in GPU_PROVIDERS for name in onnxruntime().get_available_providers()):
            try:
                return _with_onnxruntime(path, "gpu", precision)
            except UserInputError as error:
                if error.code != "provider_inactive":
                    raise
                problem = error.problem
    if torch_gpu() is None:
        problem += ", and torch has no GPU either"
        if device == "gpu":
            raise inactive(problem)
    else:
        try:
            return _with_torch(path, "gpu", precision, f"torch runs it: {problem}")
        except UserInputError as error:
            if error.code != "onnx_unsupported" or device == "gpu" or not installed:
                raise
            problem += f", and {error.problem}"
    problem += ": running on the CPU"
    return (
        _with_onnxruntime(path, "cpu", precision, problem)
        if installed
        else _with_torch(path, "cpu", precision, problem)
    )


def torch_gpu() -> torch.device | None:
    """The GPU that torch uses, or None."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if torch.xpu.is_available():
        return torch.device("xpu", torch.xpu.current_device())
    return torch.device("mps") if torch.backends.mps.is_available() else None


def _with_onnxruntime(path: Path, device: Device, precision: Precision, note: str = "") -> OrtSession:
    session = OrtSession(path, device)
    kept = "onnxruntime computes in the file's own float32" if precision == "float16" and not session.half else ""
    session.note = _joined(note, session.note, kept)
    return session


def _with_torch(path: Path, device: Device, precision: Precision, note: str = "") -> TorchSession:
    gpu = None if device == "cpu" else torch_gpu()
    if gpu is None and device == "gpu":
        raise inactive("torch has no GPU", "Install the torch build for your GPU, or set device to cpu")
    if gpu is None and device == "auto":
        note = _joined(note, "torch has no GPU: running on the CPU")
    if gpu is None and precision == "float16":
        precision, note = "float32", _joined(note, "torch computes in float32 on the CPU, where float16 is slower")
    return _batch_freed(TorchSession(path, gpu or torch.device("cpu"), precision), precision, note)


def _batch_freed(session: TorchSession, precision: Precision, note: str) -> TorchSession:
    """The session with its batch freed where the check allows it, as in `OrtSession`; else with a note."""
    session.note = note
    if not fixed_inputs(session.inputs):
        return session
    try:
        items, both = probe(session.inputs)
        singles = [session.run(item) for item in items]
        # Never two of them on the device.
        session.module.to("cpu")
        model = read_model(session.path)
        free_batch(model)
        freed = TorchSession.from_model(model, session.path, session.device, precision)
        exact = session.device.type == "cpu" and precision == "float32"
        problem = difference(singles, freed.run(both), exact=exact)
    except (UserInputError, ValueError, RuntimeError) as error:
        # Whatever the check fails at, the file as it is may do.
        problem = str(error)
    if problem:
        session.module.to(session.device)
        session.note = _joined(note, kept_at_one(session.path.name, problem))
        return session
    freed.note = note
    return freed


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
