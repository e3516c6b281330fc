"""Training state as safetensors: weights, optimiser state and a few numbers, written atomically."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

Optimisers = dict[str, torch.optim.Optimizer]


def save(path: Path, modules: dict[str, nn.Module], optimisers: Optimisers, numbers: dict[str, float]) -> None:
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        tensors |= {f"{name}/{key}": tensor.detach().contiguous() for key, tensor in module.state_dict().items()}
    for name, optimiser in optimisers.items():
        for index, state in optimiser.state_dict()["state"].items():
            tensors |= {f"{name}/{index}/{key}": torch.as_tensor(value).contiguous() for key, value in state.items()}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"numbers": json.dumps(numbers)})
    partial.replace(path)


def load(path: Path, modules: dict[str, nn.Module], optimisers: Optimisers) -> dict[str, float]:
    """Restore in place; returns the numbers."""
    with safe_open(path, framework="pt") as file:
        numbers: dict[str, float] = json.loads(file.metadata()["numbers"])
        keys = list(file.keys())
        for name, module in modules.items():
            module.load_state_dict(_under(file, keys, name))
        for name, optimiser in optimisers.items():
            state: dict[int, dict[str, Tensor]] = {}
            for key, tensor in _under(file, keys, name).items():
                index, _, field = key.partition("/")
                state.setdefault(int(index), {})[field] = tensor
            optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return numbers


def _under(file: Any, keys: list[str], name: str) -> dict[str, Tensor]:
    prefix = f"{name}/"
    return {key.removeprefix(prefix): file.get_tensor(key) for key in keys if key.startswith(prefix)}
