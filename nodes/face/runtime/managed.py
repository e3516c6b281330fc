"""Face networks under ComfyUI's model management: it counts their size, makes room for them and unloads them.

The one module of the face stage that touches ComfyUI's model management. Of ``comfy.model_management`` it uses
``load_models_gpu``, ``free_memory``, ``minimum_inference_memory``, ``get_torch_device`` and ``cpu_mode``; of
``comfy.model_patcher.ModelPatcher`` it overrides ``partially_load``, ``partially_unload`` and ``unpatch_model`` and
keeps ``model.device`` and ``model.model_loaded_weight_memory``, by which ComfyUI knows what lies where.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import torch
from torch import Tensor

from .ort_providers import CPU
from .ort_session import OrtSession, file_stamp
from .session import Device, Session
from .sessions import Runtime, load_session
from .torch_session import Precision, TorchSession

_CPU = torch.device("cpu")
# The networks of an engine with every extra, and a few of the one before.
_CACHED = 16
# What a convolutional network needs while it runs, in sizes of its input: layers of some 64 channels in place of 3,
# a few of them at once.
_ACTIVATIONS = 100


def open_managed(path: Path, runtime: Runtime, device: Device, precision: Precision) -> Session:
    """A graph ready to run, loaded and unloaded by ComfyUI; the same one as last time for the same unchanged file and
    settings.

    ``auto`` means the CPU where ComfyUI itself was started on it.

    Raises:
        UserInputError: as ``sessions.load_session``.
    """
    return _opened(path, file_stamp(path), runtime, device, precision)


@lru_cache(maxsize=_CACHED)
def _opened(
    path: Path, stamp: tuple[int, int], runtime: Runtime, device: Device, precision: Precision
) -> ManagedSession:
    if device == "auto" and comfy.model_management.cpu_mode():
        device = "cpu"
    if device != "cpu":
        room = 1.1 * stamp[1] + comfy.model_management.minimum_inference_memory()
        comfy.model_management.free_memory(room, comfy.model_management.get_torch_device())
    return ManagedSession(load_session(path, runtime, device, precision))


class ManagedSession:
    """A ``session.Session`` that is in memory when it runs, and between runs as long as ComfyUI leaves it there.

    Unloading frees an onnxruntime session altogether; the file is read again at the next run. The weights of a torch
    session go to the CPU, where ComfyUI keeps unloaded models too.
    """

    def __init__(self, session: OrtSession | TorchSession) -> None:
        """session: as it was loaded; nothing else may run it."""
        self._session = session
        self.path = session.path
        self.provider = session.provider
        self.note = session.note
        self.device = session.device
        self.inputs = session.inputs
        self.outputs = session.outputs
        network = FaceNetwork(_TorchWeights(session) if isinstance(session, TorchSession) else _OrtWeights(session))
        # ComfyUI would count the weights of a network of no size itself, and find no module.
        size = max(network.weights.size, 1)
        self._patcher = _Patcher(network, _load_device(session), _CPU, size=size)
        self._load(0)

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See ``session.Session``."""
        self._load(_ACTIVATIONS * sum(value.numel() * 4 for value in feeds.values()))
        return self._session.run(feeds)

    def _load(self, memory: int) -> None:
        comfy.model_management.load_models_gpu([self._patcher], memory_required=memory)


@dataclass(frozen=True)
class _OrtWeights:
    session: OrtSession

    @property
    def size(self) -> int:
        return self.session.size

    def move_in(self) -> None:
        self.session.load()

    def move_out(self) -> None:
        self.session.release()


@dataclass(frozen=True)
class _TorchWeights:
    session: TorchSession

    @property
    def size(self) -> int:
        module = self.session.module
        return sum(tensor.nbytes for tensors in (module.parameters(), module.buffers()) for tensor in tensors)

    def move_in(self) -> None:
        self.session.module.to(self.session.device)

    def move_out(self) -> None:
        self.session.module.to(_CPU)


class FaceNetwork:
    """What ComfyUI takes for the model; its log shows the class's name."""

    device = _CPU
    model_loaded_weight_memory = 0

    def __init__(self, weights: _OrtWeights | _TorchWeights) -> None:
        self.weights = weights


class _Patcher(comfy.model_patcher.ModelPatcher):
    """Loads a network whole or not at all, and patches nothing."""

    model: FaceNetwork
    size: int

    def partially_load(
        self, device_to: torch.device, extra_memory: float = 0, force_patch_weights: bool = False
    ) -> int:
        """Bytes that were loaded; ComfyUI calls it for what is there already too."""
        loaded = self.model.model_loaded_weight_memory
        self.model.weights.move_in()
        self.model.device = device_to
        self.model.model_loaded_weight_memory = self.size
        return self.size - loaded

    def partially_unload(
        self, device_to: torch.device, memory_to_free: float = 0, force_patch_weights: bool = False
    ) -> int:
        """Nothing, upon which ComfyUI unloads it whole."""
        return 0

    def unpatch_model(self, device_to: torch.device | None = None, unpatch_weights: bool = True) -> None:
        """Unloads it."""
        if unpatch_weights:
            self.model.weights.move_out()
            self.model.device = self.offload_device
            self.model.model_loaded_weight_memory = 0


def _load_device(session: OrtSession | TorchSession) -> torch.device:
    """The device whose memory the network takes; onnxruntime's GPU providers other than CUDA name the CPU."""
    if isinstance(session, OrtSession) and session.provider != CPU and session.device == _CPU:
        device: torch.device = comfy.model_management.get_torch_device()
        return device
    return session.device
