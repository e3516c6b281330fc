"""Graphs run by onnxruntime, which says where it runs and keeps to it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ...errors import UserInputError
from .onnx_batch import difference, fixed_inputs, free_batch, kept_at_one, probe
from .onnx_model import model_bytes, read_model
from .ort_binding import BoundSession
from .ort_providers import COREML, CPU, ProviderStartError, choose_provider, inactive, onnxruntime, start
from .session import Device

log = logging.getLogger(__name__)


class OrtSession:
    """A ``session.Session``.

    With CUDA, inputs and outputs are torch tensors in the GPU's memory. MIGraphX, ROCm, DirectML and CoreML take
    tensors of the CPU and copy them themselves.

    A batch that the file fixes at one is freed where a check with random inputs shows that the edited graph treats
    every item as the file does; nothing of this is written to disk.

    Attributes:
        path: the file.
        provider: the execution provider that is really active.
        note: empty, or why that is not the one wished for and why the batch stays at one.
        device: where inputs had best lie and where outputs lie.
        inputs, outputs: in the graph's order.
        size: bytes of the file, about what it takes in memory.
        half: whether the file computes in float16.
    """

    def __init__(self, path: Path, device: Device = "auto", provider: str | None = None) -> None:
        """Loads the graph.

        Args:
            provider: the execution provider, where it is not to be chosen by `device`.

        Raises:
            UserInputError: ``onnxruntime_missing``, ``provider_inactive`` or ``onnx_contract``.
        """
        wanted, note = (provider, "") if provider else choose_provider(onnxruntime().get_available_providers(), device)
        self.path = path
        self._stamp = file_stamp(path)
        self.size = self._stamp[1]
        try:
            self._session: BoundSession | None = self._start(path, wanted)
        except ProviderStartError as error:
            if device == "gpu":
                raise inactive(str(error)) from error
            note = f"{error}: running on the CPU"
            log.warning("Flux Face: %s: %s", path.name, note)
            self._session = self._start(path, CPU)
        self.provider = self._session.provider
        self.device: torch.device = self._session.device
        self.half = self._session.half
        self._edited = False
        fixed = self._free_batch()
        self.note = "; ".join(part for part in (note, fixed) if part)
        self.inputs = self._session.inputs
        self.outputs = self._session.outputs

    @property
    def loaded(self) -> bool:
        """Whether the graph is in memory."""
        return self._session is not None

    def release(self) -> None:
        """Frees the graph's memory; the next `load` or `run` reads the file again."""
        self._session = None

    def load(self) -> BoundSession:
        """The graph in memory, from the file where it was released.

        Raises:
            UserInputError: ``onnx_contract`` where the file is not what it was.
        """
        if self._session is None:
            if file_stamp(self.path) != self._stamp:
                raise _broken(self.path, "it was changed after it had been loaded", "Run the workflow again")
            self._session = self._start(self._edited_bytes() if self._edited else self.path, self.provider)
        return self._session

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See ``session.Session``.

        Raises:
            UserInputError: ``onnx_contract`` where onnxruntime cannot run it on these inputs.
            torch.OutOfMemoryError: the device's memory is used up.
        """
        try:
            return self.load().run(feeds)
        except UserInputError:
            raise
        except Exception as error:
            # onnxruntime's errors have no type of their own, and ComfyUI frees its models on torch's.
            if "Failed to allocate memory" in str(error) or "out of memory" in str(error):
                raise torch.OutOfMemoryError(f"{self.path.name}: {error}") from error
            raise _broken(
                self.path, f"onnxruntime cannot run it: {error}", "Choose a file that is such a model"
            ) from error

    def _start(self, model: Path | bytes, provider: str) -> BoundSession:
        try:
            return BoundSession(start(model, provider))
        except (ProviderStartError, UserInputError):
            raise
        except Exception as error:
            problem = f"onnxruntime cannot load it: {error}"
            raise _broken(self.path, problem, "Download the file again") from error

    def _free_batch(self) -> str:
        """Puts the edited graph in the file's place where the check allows it; else says why it does not."""
        original = self._session
        if original is None or not fixed_inputs(original.inputs):
            return ""
        if self.provider == COREML:
            return kept_at_one(self.path.name, "CoreML compiles for fixed sizes")
        try:
            items, both = probe(original.inputs)
            singles = [original.run(item) for item in items]
            edited = self._edited_bytes()
            # Never two of them on the device.
            original = self._session = None
            self._session = self._start(edited, self.provider)
            problem = difference(singles, self._session.run(both), exact=self.provider == CPU and not self.half)
        except Exception as error:
            # Whatever the check fails at, the file as it is may do.
            problem = str(error)
        if problem:
            self._session = None
            self._session = self._start(self.path, self.provider)
            return kept_at_one(self.path.name, problem)
        self._edited = True
        return ""

    def _edited_bytes(self) -> bytes:
        model = read_model(self.path)
        free_batch(model)
        return model_bytes(model)


def file_stamp(path: Path) -> tuple[int, int]:
    """Time of the last change in ns, and size in bytes."""
    try:
        status = path.stat()
    except OSError as error:
        raise _broken(path, f"it cannot be read: {error}", "Put the file back") from error
    return status.st_mtime_ns, status.st_size


def _broken(path: Path, problem: str, remedy: str) -> UserInputError:
    return UserInputError("onnx_contract", path.name, problem, remedy)
