"""ComfyUI's model patcher for packed weights. The one module of this room that relies on ComfyUI's private parts.

ComfyUI's own patchers would lose a LoRA on a packed weight without a word: they add it to a dequantised copy. Here a
packed weight is never written. Patches on it are applied when its layer runs:

- a plain LoRA as a low-rank term beside the matrix product (``low_rank.py``),
- anything else (full differences, DoRA, LoKr, merges) on the dequantised weight through ``weight_function``.

Patches on dense weights take ComfyUI's ordinary way.

Private parts used: ``ModelPatcher.load``, ``partially_unload``, ``unpatch_model``, ``patch_weight_to_device``,
``patch_hooks``, ``unpatch_hooks``, ``model_state_dict_for_saving``, ``clone``; ``LowVramPatch``, ``LazyCastingParam``
and the ``<parameter>_lowvram_function`` attributes of the dynamic-VRAM patcher (ComfyUI 0.30.0).
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.lora
import comfy.model_management
import comfy.model_patcher
import comfy.utils
import torch
from comfy.model_patcher import LazyCastingParam, LowVramPatch, ModelPatcher, ModelPatcherDynamic
from comfy.weight_adapter.lora import LoRAAdapter

from .layout import is_packed
from .low_rank import LowRankTerm

_Backup = namedtuple("_Backup", ["weight", "inplace_update"])


class _HookPatch(LowVramPatch):
    """A patch put on by a hook (a scheduled LoRA), told apart from the model's own."""


class _LazyDense(LazyCastingParam):
    """A weight that becomes dense when the writer of a file asks for it; until then one value, expanded."""

    def is_contiguous(self, *args: Any, **kwargs: Any) -> bool:
        return True  # what the writer will get is


class _PatchedState(dict[str, Any]):
    """A model's state dict in which a packed weight with patches reads as dense, patches applied.

    ComfyUI's LoRA extraction expects that of a loaded model, whose dense weights hold their patches.
    """

    def __init__(self, patcher: _PackedPatcher, state: dict[str, Any]) -> None:
        super().__init__(state)
        self._patcher = patcher

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        if is_packed(value) and key in self._patcher.patches:
            return self._patcher.patch_weight_to_device(key, self._patcher.load_device, return_weight=True)
        return value


class _PackedPatcher:
    """Mixed into either of ComfyUI's patchers."""

    model: torch.nn.Module
    patches: dict[str, list[Any]]
    backup: dict[str, Any]
    load_device: torch.device

    def packed_modules(self) -> Iterator[tuple[str, Any]]:
        """Every module with a packed weight, by the key of that weight."""
        for name, module in self.model.named_modules():
            if is_packed(module._parameters.get("weight")):
                yield f"{name}.weight", module

    def load(self, *args: Any, **kwargs: Any) -> None:
        super().load(*args, **kwargs)  # type: ignore[misc]
        self._attach_patches()

    def partially_unload(self, *args: Any, **kwargs: Any) -> int:
        freed: int = super().partially_unload(*args, **kwargs)  # type: ignore[misc]
        self._attach_patches()
        return freed

    def unpatch_model(self, device_to: torch.device | None = None, unpatch_weights: bool = True) -> None:
        super().unpatch_model(device_to, unpatch_weights)  # type: ignore[misc]
        if unpatch_weights:
            for _, module in self.packed_modules():
                _detach_patches(module)

    def patch_weight_to_device(
        self,
        key: str,
        device_to: torch.device | None = None,
        inplace_update: bool = False,
        return_weight: bool = False,
        force_cast: bool = False,
    ) -> torch.Tensor | None:
        weight = comfy.utils.get_attr(self.model, key)
        if not is_packed(weight):
            result: torch.Tensor | None = super().patch_weight_to_device(  # type: ignore[misc]
                key, device_to, inplace_update, return_weight, force_cast
            )
            return result
        if return_weight:
            return self._patched_dense(key, weight, device_to)
        if force_cast:
            self.backup.setdefault(key, _Backup(weight, False))
            comfy.utils.set_attr_param(self.model, key, weight.to(device=device_to))
        return None

    def patch_hooks(self, hooks: Any) -> None:
        super().patch_hooks(hooks)  # type: ignore[misc]
        if hooks is None:
            return
        combined = self.get_combined_hook_patches(hooks)  # type: ignore[attr-defined]
        for key, module in self.packed_modules():
            module.weight_function = [f for f in module.weight_function if not isinstance(f, _HookPatch)]
            if key in combined:
                module.weight_function.append(_HookPatch(key, combined))

    def patch_hook_weight_to_device(
        self, hooks: Any, combined_patches: Any, key: str, *args: Any, **kwargs: Any
    ) -> None:
        if not is_packed(comfy.utils.get_attr(self.model, key)):
            super().patch_hook_weight_to_device(hooks, combined_patches, key, *args, **kwargs)  # type: ignore[misc]

    def unpatch_hooks(self, whitelist_keys_set: set[str] | None = None) -> None:
        super().unpatch_hooks(whitelist_keys_set)  # type: ignore[misc]
        for _, module in self.packed_modules():
            module.weight_function = [f for f in module.weight_function if not isinstance(f, _HookPatch)]

    def model_state_dict(self, filter_prefix: str | None = None) -> dict[str, Any]:
        return _PatchedState(self, super().model_state_dict(filter_prefix))  # type: ignore[misc]

    def model_state_dict_for_saving(self, model: torch.nn.Module | None = None, prefix: str = "") -> dict[str, Any]:
        """Dense weights, patches applied; each is made when the writer asks for it, so only one is in memory."""
        target = self.model if model is None else model
        packed = {key: value for key, value in target.state_dict().items() if is_packed(value)}
        with self._packed_weights_hidden():
            saving: dict[str, Any] = super().model_state_dict_for_saving(model, prefix)  # type: ignore[misc]
        for key, value in packed.items():
            stand_in = torch.empty((), dtype=value.dtype).expand(value.shape)
            saving[key] = _LazyDense(self, prefix + key, stand_in)
        return saving

    @contextmanager
    def _packed_weights_hidden(self) -> Iterator[None]:
        hidden = [(module, module._parameters["weight"]) for _, module in self.packed_modules()]
        for module, _ in hidden:
            module._parameters["weight"] = None
        try:
            yield
        finally:
            for module, weight in hidden:
                module._parameters["weight"] = weight

    def _patched_dense(self, key: str, weight: Any, device_to: torch.device | None) -> torch.Tensor:
        # float32 until the patches are in, as ComfyUI does for dense weights.
        dense: torch.Tensor = weight.to(device=device_to or weight.device, dtype=torch.float32).dequantize()
        if key in self.patches:
            dense = comfy.lora.calculate_weight(self.patches[key], dense, key)
        return dense.to(weight.dtype)

    def _attach_patches(self) -> None:
        for key, module in self.packed_modules():
            _detach_patches(module)
            # The dynamic patcher's place for patches packs the patched weight again, which blocks cannot do.
            if getattr(module, "weight_lowvram_function", None) is not None:
                module.weight_lowvram_function = None
            if key not in self.patches:
                continue
            # An embedding looks rows up: there is no product that a term could stand beside.
            terms = low_rank_terms(self.patches[key]) if isinstance(module, torch.nn.Linear) else None
            if terms is None:
                module.weight_function = [LowVramPatch(key, self.patches), *module.weight_function]
            else:
                module.low_rank_terms = terms


def _detach_patches(module: Any) -> None:
    module.low_rank_terms = ()
    module.weight_function = [
        f for f in module.weight_function if not isinstance(f, LowVramPatch) or isinstance(f, _HookPatch)
    ]


def low_rank_terms(patches: list[Any]) -> tuple[LowRankTerm, ...] | None:
    """The patches of one weight as low-rank terms, or None if any of them needs the weight itself.

    Args:
        patches: ``(strength, value, model strength, offset, function)`` tuples as ComfyUI keeps them.
    """
    terms = []
    for strength, value, model_strength, offset, function in patches:
        if model_strength != 1.0 or function is not None or not isinstance(value, LoRAAdapter):
            return None
        up, down, alpha, middle, dora_scale, reshape = value.weights
        if middle is not None or dora_scale is not None or reshape is not None or up.ndim != 2 or down.ndim != 2:
            return None
        scale = strength if alpha is None else strength * float(alpha) / down.shape[0]
        part = slice(None) if offset is None else slice(offset[1], offset[1] + offset[2])
        if offset is not None and offset[0] == 1:
            terms.append(LowRankTerm(up, down, scale, columns=part))
        else:
            terms.append(LowRankTerm(up, down, scale, rows=part))
    return tuple(terms)


class GGUFModelPatcher(_PackedPatcher, ModelPatcher):
    """For ComfyUI's static memory management (CPU, AMD, ``--disable-dynamic-vram``)."""


class GGUFModelPatcherDynamic(_PackedPatcher, ModelPatcherDynamic):
    """For ComfyUI's dynamic VRAM."""

    def clone(self, disable_dynamic: bool = False, model_override: Any = None, force_deepcopy: bool = False) -> Any:
        copy = super().clone(disable_dynamic, model_override, force_deepcopy)
        return adopt(copy) if disable_dynamic else copy


def adopt(patcher: Any) -> Any:
    """Turns a patcher that ComfyUI's loaders made into ours, in place.

    ComfyUI's loaders choose the patcher class themselves; the state is the same, so only the class changes.
    """
    patcher.__class__ = GGUFModelPatcherDynamic if patcher.is_dynamic() else GGUFModelPatcher
    return patcher


def expand(patcher: Any, dtype: torch.dtype) -> None:
    """Replaces every packed weight of a freshly loaded model by its dense value in ``dtype``."""
    for _, module in patcher.packed_modules():
        weight = module._parameters["weight"]
        module._parameters["weight"] = torch.nn.Parameter(weight.to(dtype=dtype).dequantize(), requires_grad=False)
        # The dtype in which dynamic VRAM streams the weight; the one noted at load is the packed weight's.
        if hasattr(module, "weight_comfy_model_dtype"):
            module.weight_comfy_model_dtype = dtype
    patcher.size = 0  # ComfyUI measures it again on the next use
