"""GGUF files to ComfyUI's MODEL and CLIP."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import comfy.memory_management
import comfy.model_management
import comfy.sd
import comfy.utils
import torch

from ..errors import UserInputError
from .architectures import T5_ARCHITECTURES, TEXT_ARCHITECTURES, architecture, t5_name
from .container import Container
from .operations import GGUFOperations
from .patcher import adopt, expand
from .state_dict import read_state_dict

log = logging.getLogger(__name__)

# What ComfyUI takes a packed model's weights for when it chooses what to compute in. The models of the first list were
# trained in float16 and lose precision in bfloat16.
_FLOAT16_ARCHITECTURES = frozenset({"sd1", "sdxl"})
# Others, such as UMT5, need a tokenizer of their own.
_T5_VOCABULARY = 32128
# What marks a safetensors file whose weights ComfyUI must scale.
_QUANTISED_KEYS = ("scaled_fp8", ".comfy_quant")
# Expanding a model may take this share of the memory that is free.
_EXPAND_SHARE = 0.5


class Residency(str, Enum):
    """How weights stay in memory: packed ones are dequantised each time a layer runs, expanded ones once, at load."""

    AUTO = "auto"
    PACKED = "packed"
    EXPANDED = "expanded"


@dataclass(frozen=True)
class LoadOptions:
    """Settings of one loaded model.

    Attributes:
        device: where the model runs; None for ComfyUI's choice.
        dtype: what weights are dequantised to and the model computes in; None for ComfyUI's choice.
    """

    device: torch.device | None = None
    dtype: torch.dtype | None = None

    def model_options(self) -> dict[str, Any]:
        """ComfyUI's form of these settings."""
        options: dict[str, Any] = {"custom_operations": GGUFOperations}
        if self.device is not None:
            options["load_device"] = options["offload_device"] = self.device
        if self.dtype is not None:
            options["dtype"] = self.dtype
        return options


DEFAULT_OPTIONS = LoadOptions()


def load_diffusion_model(
    path: Path | str,
    options: LoadOptions = DEFAULT_OPTIONS,
    residency: Residency = Residency.AUTO,
    disable_dynamic: bool = False,
) -> Any:
    """A MODEL (``ModelPatcher``) from a GGUF file.

    Raises:
        UserInputError: the file is missing, unsound, of another kind, or not a model ComfyUI knows.
    """
    container = Container(path)
    kind = architecture(container)
    if kind in TEXT_ARCHITECTURES:
        raise UserInputError(
            "gguf_architecture",
            container.path.name,
            f"this is a text encoder ({kind}), not a diffusion model",
            "Load it with a CLIP loader",
        )
    device = options.device or comfy.model_management.get_torch_device()
    dtype = torch.float16 if kind in _FLOAT16_ARCHITECTURES else torch.bfloat16
    state = read_state_dict(container, dtype, own_memory=_wants_own_memory(device, disable_dynamic))
    try:
        patcher = comfy.sd.load_diffusion_model_state_dict(
            state, model_options=options.model_options(), disable_dynamic=disable_dynamic
        )
    except RuntimeError as error:  # torch's load_state_dict: shapes that do not fit
        raise UserInputError(
            "gguf_architecture",
            container.path.name,
            f"the tensors do not fit the model they were taken for ({error})",
            "Use a complete file of a supported model",
        ) from error
    if patcher is None:
        raise UserInputError(
            "gguf_architecture",
            container.path.name,
            f"ComfyUI knows no diffusion model with these tensors (architecture {kind})",
            "Use a file of a supported model, such as Flux",
        )
    adopt(patcher)
    _settle_residency(patcher, residency, patcher.model.get_dtype_inference(), container)
    patcher.cached_patcher_init = (load_diffusion_model, (path, options, residency))
    return patcher


def load_text_encoders(
    paths: tuple[Path | str, ...],
    clip_type: Any,
    embedding_directory: list[str],
    options: LoadOptions = DEFAULT_OPTIONS,
    disable_dynamic: bool = False,
) -> Any:
    """A CLIP from GGUF and safetensors files, in any mix.

    Args:
        paths: one file per text encoder.
        clip_type: ``comfy.sd.CLIPType``.
        embedding_directory: ComfyUI's folders of textual-inversion embeddings.
        options: settings of this CLIP.
        disable_dynamic: as in ComfyUI's loaders.

    Raises:
        UserInputError: a file is missing, unsound, or not a supported text encoder.
    """
    if not any(_is_gguf(path) for path in paths):
        return _load_dense_text_encoders(paths, clip_type, embedding_directory, options, disable_dynamic)
    device = options.device or comfy.model_management.text_encoder_device()
    states = [_text_encoder_state(Path(path), own_memory=_wants_own_memory(device, disable_dynamic)) for path in paths]
    clip = comfy.sd.load_text_encoder_state_dicts(
        states,
        embedding_directory=embedding_directory,
        clip_type=clip_type,
        model_options=options.model_options(),
        disable_dynamic=disable_dynamic,
    )
    adopt(clip.patcher)
    clip.patcher.cached_patcher_init = (
        load_text_encoder_patcher,
        (paths, clip_type, embedding_directory, options),
    )
    return clip


def load_text_encoder_patcher(*args: Any, **kwargs: Any) -> Any:
    """The patcher of ``load_text_encoders``; ComfyUI calls it to make further copies of a CLIP."""
    return load_text_encoders(*args, **kwargs).patcher


def _is_gguf(path: Path | str) -> bool:
    return Path(path).suffix.lower() == ".gguf"


def _load_dense_text_encoders(
    paths: tuple[Path | str, ...],
    clip_type: Any,
    embedding_directory: list[str],
    options: LoadOptions,
    disable_dynamic: bool,
) -> Any:
    """Files without GGUF among them, as ComfyUI's own loader loads them: it knows fp8 and other quantised forms."""
    for path in paths:
        _dense_state(Path(path))
    model_options = {key: value for key, value in options.model_options().items() if key != "custom_operations"}
    return comfy.sd.load_clip(
        [str(path) for path in paths], embedding_directory, clip_type, model_options, disable_dynamic
    )


def _dense_state(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a text encoder that is no GGUF file; a safetensors file is mapped, not read.

    Raises:
        UserInputError: ``clip_unreadable``.
    """
    try:
        state, metadata = comfy.utils.load_torch_file(str(path), safe_load=True, return_metadata=True)
    except Exception as error:  # safetensors, torch and zip files each raise their own
        raise UserInputError(
            "clip_unreadable",
            path.name,
            f"the file cannot be read as a text encoder ({str(error).splitlines()[0]})",
            "Download the file again",
        ) from error
    return dict(state), metadata or {}


def _text_encoder_state(path: Path, *, own_memory: bool) -> dict[str, torch.Tensor]:
    if not _is_gguf(path):
        state, metadata = _dense_state(path)
        if "_quantization_metadata" in metadata or any(key.endswith(_QUANTISED_KEYS) for key in state):
            raise UserInputError(
                "clip_scaled_fp8",
                path.name,
                "a text encoder quantised to fp8 cannot be loaded beside a GGUF file",
                "Use a float16 or bfloat16 file of this encoder, or a safetensors file of the other one",
            )
        return state
    container = Container(path)
    kind = architecture(container)
    if kind not in T5_ARCHITECTURES:
        raise UserInputError(
            "gguf_architecture",
            path.name,
            f"the architecture {kind} is not a supported text encoder",
            "Use a T5 encoder as GGUF, or a safetensors file",
        )
    vocabulary = next((tensor.shape[0] for tensor in container.tensors if tensor.name == "token_embd.weight"), None)
    if vocabulary != _T5_VOCABULARY:
        raise UserInputError(
            "gguf_architecture",
            path.name,
            f"its vocabulary has {vocabulary} tokens; only T5 encoders with {_T5_VOCABULARY} are supported",
            "Use T5-XXL 1.1 as GGUF, or this encoder as safetensors",
        )
    state = read_state_dict(container, torch.float16, own_memory=own_memory)
    return {t5_name(name): value for name, value in state.items()}


def _wants_own_memory(device: torch.device, disable_dynamic: bool) -> bool:
    """Views of the mapped file are best where weights are read in place or streamed by ComfyUI's dynamic VRAM.

    Pinning for a static GPU model registers memory page by page, which neighbouring views would share.
    """
    dynamic = comfy.memory_management.aimdo_enabled and not disable_dynamic
    return not comfy.model_management.is_device_cpu(device) and not dynamic


def _settle_residency(patcher: Any, residency: Residency, dtype: torch.dtype, container: Container) -> None:
    need = sum(tensor.parameters for tensor in container.tensors) * dtype.itemsize
    free = min(
        comfy.model_management.get_free_memory(patcher.load_device),
        comfy.model_management.get_free_memory(torch.device("cpu")),
    )
    expanded = residency is Residency.EXPANDED or (residency is Residency.AUTO and need <= free * _EXPAND_SHARE)
    log.info(
        "%s: weights %s (%s asked; %d MB packed, %d MB as %s, %d MB free)",
        container.path.name,
        "expanded once" if expanded else "kept packed",
        residency.value,
        container.file_bytes >> 20,
        need >> 20,
        dtype,
        free >> 20,
    )
    if expanded:
        expand(patcher, dtype)
