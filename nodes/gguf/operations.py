"""The layers of a model whose linear and embedding weights may be packed.

ComfyUI builds a model from such a namespace (``custom_operations``). Weights keep whatever the file has: packed ones
stay packed through every move between devices, dense ones load as in ``comfy.ops.manual_cast``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import comfy.ops
import torch

from .dequantize import dequantize_into
from .layout import dequantize_rows, is_packed
from .low_rank import LowRankTerm


class _PackedWeight:
    """What linear and embedding layers share: loading, moving and reading a weight that may be packed."""

    low_rank_terms: tuple[LowRankTerm, ...] = ()
    _parameters: dict[str, torch.nn.Parameter | None]

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        keep_dtype = local_metadata.get("assign_to_params_buffers", False)
        for name, current in self._parameters.items():
            if current is None:
                continue
            value = state_dict.get(prefix + name)
            if value is None:
                missing_keys.append(prefix + name)
                value = torch.zeros(current.shape, dtype=current.dtype)
            elif value.shape != current.shape:
                error_msgs.append(
                    f"size mismatch for {prefix}{name}: the file has {tuple(value.shape)}, "
                    f"the model needs {tuple(current.shape)}"
                )
                continue
            elif is_packed(value):
                value = value.to(dtype=current.dtype)  # only notes what a dequantised copy gets
            elif not keep_dtype or name == "bias":
                # A bias of another dtype than the model's would have dynamic VRAM cast the packed weight beside it too.
                value = value.to(dtype=current.dtype, copy=not keep_dtype)
            self._parameters[name] = torch.nn.Parameter(value, requires_grad=False)
        unexpected_keys.extend(
            key for key in state_dict if key.startswith(prefix) and key[len(prefix) :] not in self._parameters
        )

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> _PackedWeight:
        # torch's own _apply swaps the data of a parameter, which a tensor subclass does not allow.
        for name, parameter in self._parameters.items():
            if parameter is not None and not parameter.is_meta:
                self._parameters[name] = torch.nn.Parameter(_outside_inference(fn(parameter)), requires_grad=False)
        return self

    def convert_weight(self, weight: torch.Tensor, inplace: bool = False, **kwargs: Any) -> torch.Tensor:
        """ComfyUI's hook for reading a weight as a dense tensor (merging, LoRA extraction)."""
        return weight.dequantize() if is_packed(weight) else weight


def _outside_inference(value: torch.Tensor) -> torch.Tensor:
    # A parameter cannot be made of a tensor that was created under inference mode, except under it.
    return value.clone() if value.is_inference() and not torch.is_inference_mode_enabled() else value


class _Workspace(threading.local):
    """Memory of one thread that every layer in turn expands its weight into: fresh memory costs the CPU more time than
    the expansion itself. It grows to the largest weight and stays.
    """

    memory = torch.empty(0, dtype=torch.uint8)

    def take(self, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
        needed = shape.numel() * dtype.itemsize
        if self.memory.numel() < needed:
            self.memory = torch.empty(needed, dtype=torch.uint8)
        return self.memory[:needed].view(dtype).view(shape)


_workspace = _Workspace()


def _dense(weight: Any) -> torch.Tensor:
    """A packed weight expanded; on the CPU valid until this thread expands the next one."""
    if weight.device.type != "cpu" or torch.is_grad_enabled():  # autograd would keep the weight
        dense: torch.Tensor = weight.dequantize()
        return dense
    out = _workspace.take(weight.shape, weight.dtype)
    dequantize_into(weight._qdata, weight._params.tensor_type, out)
    return out


class GGUFOperations(comfy.ops.manual_cast):
    """Layers for ``model_options["custom_operations"]``."""

    class Linear(_PackedWeight, comfy.ops.manual_cast.Linear):
        def __init__(
            self,
            in_features: int,
            out_features: int,
            bias: bool = True,
            device: torch.device | None = None,
            dtype: torch.dtype | None = None,
        ) -> None:
            # On the meta device: the weights come from the file, and nothing is reserved that they would replace.
            torch.nn.Linear.__init__(self, in_features, out_features, bias=bias, device="meta", dtype=dtype)

        def forward_comfy_cast_weights(self, inputs: torch.Tensor) -> torch.Tensor:
            weight, bias, stream = comfy.ops.cast_bias_weight(self, inputs, offloadable=True)
            dense = _dense(weight) if is_packed(weight) else weight
            output = torch.nn.functional.linear(inputs, dense, bias)
            comfy.ops.uncast_bias_weight(self, weight, bias, stream)
            for term in self.low_rank_terms:
                term.add_to(output, inputs)
            return output

    class Embedding(_PackedWeight, comfy.ops.manual_cast.Embedding):
        def __init__(
            self,
            num_embeddings: int,
            embedding_dim: int,
            padding_idx: int | None = None,
            max_norm: float | None = None,
            norm_type: float = 2.0,
            scale_grad_by_freq: bool = False,
            sparse: bool = False,
            _weight: torch.Tensor | None = None,
            _freeze: bool = False,
            device: torch.device | None = None,
            dtype: torch.dtype | None = None,
        ) -> None:
            torch.nn.Embedding.__init__(
                self,
                num_embeddings,
                embedding_dim,
                padding_idx,
                max_norm,
                norm_type,
                scale_grad_by_freq,
                sparse,
                device="meta",
                dtype=dtype,
            )
            self.bias = None  # ComfyUI's casts read it on every layer

        def forward_comfy_cast_weights(
            self, indices: torch.Tensor, out_dtype: torch.dtype | None = None
        ) -> torch.Tensor:
            weight = self.weight
            if not is_packed(weight) or self.weight_function:
                dense: torch.Tensor = super().forward_comfy_cast_weights(indices, out_dtype=out_dtype)
                return dense
            return dequantize_rows(weight, indices, out_dtype or weight.dtype)
