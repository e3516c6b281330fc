"""The Monk Skin Tone scale: ten steps from the lightest to the deepest (Ellis Monk, skintone.google, CC BY 4.0)."""

from __future__ import annotations

import torch

from .colour import ciede2000, srgb_to_lab

MONK_HEX = (
    "f6ede4", "f3e7db", "f7ead0", "eadaba", "d7bd96", "a07e56", "825c43", "604134", "3a312a", "292420",
)  # fmt: skip


def monk_lab() -> torch.Tensor:
    """CIELAB ``[10, 3]`` of the ten steps."""
    rgb = torch.tensor([list(bytes.fromhex(code)) for code in MONK_HEX], dtype=torch.float32) / 255.0
    return srgb_to_lab(rgb)


def nearest_step(lab: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Step 1..10 nearest in CIEDE2000 and the difference to it, for CIELAB ``[..., 3]``."""
    difference = ciede2000(lab.unsqueeze(-2), monk_lab().to(lab))
    nearest = difference.min(dim=-1)
    return nearest.indices + 1, nearest.values
