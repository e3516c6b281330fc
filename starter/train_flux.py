"""Trains the Flux twin on the latents of rendered portraits: rectified flow, Muon and AdamW, an EMA of the weights.

A phase at half resolution comes first: a quarter of the tokens teaches composition and words at a quarter of the
cost. The learning rate is constant until the last part of the run, so a run can be lengthened when it is resumed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from . import checkpoint
from .conditioning import Conditioner
from .flux import Flux, initialise


@dataclass(frozen=True)
class FluxPlan:
    """How long and how fast. Steps count both phases; `half_steps` of them are at half resolution."""

    steps: int = 4200
    half_steps: int = 1200
    batch: int = 32
    half_batch: int = 64
    rate: float = 1e-3
    warm_up: int = 150
    decay_share: float = 0.35
    ema: float = 0.998
    seed: int = 1
    save_every: int = 100


@dataclass(frozen=True)
class Latents:
    """full: [N,16,32,32]. half: [N,16,16,16], of the same portraits at half size. attributes: [N,A], multi-hot."""

    full: Tensor
    half: Tensor
    attributes: Tensor


def rate_at(plan: FluxPlan, step: int) -> float:
    """Linear warm-up, constant, linear decay to a twentieth."""
    tail = max(1, int(plan.steps * plan.decay_share))
    falling = min(1.0, (plan.steps - step) / tail)
    return plan.rate * min(1.0, (step + 1) / plan.warm_up) * (0.05 + 0.95 * falling)


def make_optimisers(model: Flux, plan: FluxPlan) -> checkpoint.Optimisers:
    """Muon for the matrices inside the blocks, AdamW for everything else."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        inside = "_blocks." in name and parameter.ndim == 2 and ".lin." not in name and "_mod." not in name
        (matrices if inside else others).append(parameter)
    return {
        "muon": torch.optim.Muon(matrices, lr=plan.rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        "adamw": torch.optim.AdamW(others, lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.0),
    }


def loss_of(
    model: nn.Module, data: Tensor, conditioning: tuple[Tensor, Tensor, Tensor], draw: torch.Generator, pitch: float
) -> Tensor:
    """Mean squared error of the predicted flow at logit-normal times."""
    noise = torch.randn(data.shape, generator=draw)
    t = torch.sigmoid(torch.randn(len(data), generator=draw))
    mixed = torch.lerp(data, noise, t[:, None, None, None])
    context, pooled, log_count = conditioning
    with torch.autocast(data.device.type, dtype=torch.bfloat16):
        flow = model(mixed, t, context, pooled, log_count, pitch)
    return F.mse_loss(flow.float(), noise - data)


def train(data: Latents, plan: FluxPlan, path: Path, compiled: bool) -> Iterator[tuple[int, float]]:
    """Train or go on training the checkpoint at `path`; yields (step, loss)."""
    model = Flux()
    initialise(model, plan.seed)
    average = copy.deepcopy(model).requires_grad_(False)
    optimisers = make_optimisers(model, plan)
    modules: dict[str, nn.Module] = {"model": model, "ema": average}
    start = int(checkpoint.load(path, modules, optimisers)["step"]) if path.exists() else 0
    runner: nn.Module = torch.compile(model, dynamic=False) if compiled else model  # type: ignore[assignment]
    conditioner = Conditioner()
    for step in (bar := tqdm(range(start, plan.steps), initial=start, total=plan.steps, desc="flux", mininterval=10)):
        half = step < plan.half_steps
        latents = data.half if half else data.full
        # A step's randomness depends on the step alone, so a resumed run repeats what an unbroken one does.
        rng = np.random.default_rng((plan.seed, step))
        draw = torch.Generator().manual_seed(int(rng.integers(2**62)))
        rows = torch.from_numpy(rng.integers(0, len(latents), plan.half_batch if half else plan.batch))
        conditioning = conditioner(data.attributes[rows], rng)
        loss = loss_of(runner, latents[rows].float(), conditioning, draw, 2.0 if half else 1.0)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = rate_at(plan, step)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        keep = min(plan.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, value in zip(average.parameters(), model.parameters(), strict=True):
                mean.lerp_(value, 1 - keep)
        bar.set_postfix(loss=f"{loss.item():.4f}")
        if (step + 1) % plan.save_every == 0 or step + 1 == plan.steps:
            checkpoint.save(path, modules, optimisers, {"step": step + 1})
        yield step, loss.item()
