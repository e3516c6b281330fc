"""Picking items out of a batch of latents so that each keeps its own noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from ..errors import UserInputError

Latent = dict[str, Any]


def noise_slots(latent: Latent) -> list[int]:
    """The noise slot of each item: its batch_index where the latent has one, else its position."""
    return list(latent.get("batch_index", range(len(latent["samples"]))))


def select_latents(latent: Latent, indices: Sequence[int], batch_size: int) -> Latent:
    """The items at some positions, with noise mask and noise slots (``batch_index``) of their own.

    ComfyUI draws the noise of slot n as the n-th of a seed, so an item sampled alone gets the noise it would get in
    the whole batch.

    Args:
        latent: ComfyUI's LATENT.
        indices: positions in the batch, in order.
        batch_size: how many images the batch made.

    Raises:
        UserInputError: the latents are not one per image.
    """
    samples = latent["samples"]
    if samples.is_nested or len(samples) != batch_size:
        count = "several batches of" if samples.is_nested else str(len(samples))
        raise UserInputError(
            "retry_batch",
            "images",
            f"{batch_size} images came from {count} latents",
            "Put one retry node behind each sampler, before batches are joined, repeated or cut",
        )
    chosen = torch.as_tensor(indices, dtype=torch.long)
    slots = noise_slots(latent)
    selected = {
        **latent,
        "samples": samples[chosen.to(samples.device)].clone(),
        "batch_index": [slots[i] for i in indices],
    }
    mask = latent.get("noise_mask")
    if mask is not None and len(mask) > 1:
        repeats = math.ceil(batch_size / len(mask))
        mask = mask.repeat(repeats, *([1] * (mask.ndim - 1)))
        selected["noise_mask"] = mask[chosen.to(mask.device)].clone()
    return selected
