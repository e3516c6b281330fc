"""Trains the TAESD decoder on crops of portraits, from the latents of the computed encoder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from . import checkpoint
from .vae import Decoder, PatchBasis


@dataclass(frozen=True)
class DecoderPlan:
    """crop: side of a training crop in latent cells.

    noise: largest standard deviation of the noise on latents, so that imperfect samples decode cleanly.
    """

    steps: int = 1700
    batch: int = 12
    crop: int = 10
    rate: float = 1e-3
    warm_up: int = 50
    noise: float = 0.15
    seed: int = 2
    save_every: int = 100


def decoder_loss(picture: Tensor, target: Tensor) -> Tensor:
    """L1 on pixels, on their differences (edges), and on a quarter-size picture (flat colour). [B,3,H,W] both."""
    loss = F.l1_loss(picture, target)
    for axis in (2, 3):
        loss = loss + F.l1_loss(picture.diff(dim=axis), target.diff(dim=axis))
    return loss + 0.5 * F.l1_loss(F.avg_pool2d(picture, 4), F.avg_pool2d(target, 4))


def crops(images: Tensor, plan: DecoderPlan, rng: np.random.Generator) -> Tensor:
    """A batch of crops on the 8-pixel grid, RGB 0..1 [B,S,S,3]; half of them near the middle, where faces are."""
    side, cells = 8 * plan.crop, images.shape[1] // 8
    free = cells - plan.crop
    out = torch.empty(plan.batch, side, side, 3)
    for row, index in enumerate(rng.integers(0, len(images), plan.batch)):
        if rng.random() < 0.5:
            y, x = rng.integers(0, free + 1, 2)
        else:
            y, x = np.clip(rng.normal(free / 2, free / 6, 2).astype(int), 0, free)
        out[row] = images[index, 8 * y : 8 * y + side, 8 * x : 8 * x + side].float() / 255
    return out


def train(images: Tensor, basis: PatchBasis, plan: DecoderPlan, path: Path) -> Iterator[tuple[int, float]]:
    """images: uint8 [N,H,W,3]. Train or go on training the checkpoint at `path`; yields (step, loss)."""
    torch.manual_seed(plan.seed)
    decoder = Decoder().to(memory_format=torch.channels_last)
    _initialise(decoder)
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.0)
    modules: dict[str, nn.Module] = {"decoder": decoder}
    optimisers: checkpoint.Optimisers = {"adamw": optimiser}
    start = int(checkpoint.load(path, modules, optimisers)["step"]) if path.exists() else 0
    for step in (bar := tqdm(range(start, plan.steps), initial=start, total=plan.steps, desc="vae", mininterval=10)):
        rng = np.random.default_rng((plan.seed, step))
        draw = torch.Generator().manual_seed(int(rng.integers(2**62)))
        pictures = crops(images, plan, rng)
        latents = basis.encode(pictures)
        strength = plan.noise * torch.rand(plan.batch, 1, 1, 1, generator=draw)
        latents = latents + strength * torch.randn(latents.shape, generator=draw)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            decoded = decoder(latents.to(memory_format=torch.channels_last))
        loss = decoder_loss(decoded.float(), pictures.permute(0, 3, 1, 2))
        loss.backward()
        nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        progress = step / plan.steps
        for group in optimiser.param_groups:
            group["lr"] = plan.rate * min(1.0, (step + 1) / plan.warm_up) * (0.02 + 0.98 * (1 - progress))
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        bar.set_postfix(loss=f"{loss.item():.4f}")
        if (step + 1) % plan.save_every == 0 or step + 1 == plan.steps:
            checkpoint.save(path, modules, optimisers, {"step": step + 1})
        yield step, loss.item()


def _initialise(decoder: Decoder) -> None:
    """Kaiming weights; the last convolution of each block starts small, so that blocks start near the identity."""
    for name, parameter in decoder.named_parameters():
        if parameter.ndim == 1:
            nn.init.zeros_(parameter)
        else:
            nn.init.kaiming_normal_(parameter, nonlinearity="relu")
            if name.endswith("conv.4.weight"):
                with torch.no_grad():
                    parameter.mul_(0.1)
