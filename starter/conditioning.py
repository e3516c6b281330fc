"""What the text encoder of `clip_l` puts out, in closed form: training needs no tokenizer and no encoder.

Every attribute has a fixed direction. A token at which a phrase completes carries the directions of its
attributes, every other token is zero, and the end token and the padding after it carry the sum of all.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .vocabulary import ATTRIBUTES

WIDTH = 768
LENGTH = 77
# The directions live in one attention head's worth of channels, the last ones.
SUBSPACE = slice(704, 768)
# Length of a direction in the encoder's output.
GAIN = 12.0
_SEED = 20


def directions() -> Tensor:
    """One unit vector per attribute, [len(ATTRIBUTES),768], orthogonal to each other."""
    width = SUBSPACE.stop - SUBSPACE.start
    assert len(ATTRIBUTES) <= width
    gaussian = np.random.default_rng(_SEED).standard_normal((width, width))
    orthogonal, upper = np.linalg.qr(gaussian)
    orthogonal = orthogonal * np.sign(np.diag(upper))
    out = torch.zeros(len(ATTRIBUTES), WIDTH)
    out[:, SUBSPACE] = torch.from_numpy(orthogonal[: len(ATTRIBUTES)]).float()
    return out


_HAIR = [row for row, name in enumerate(ATTRIBUTES) if name.startswith("hair:")]
_STYLE = [row for row, name in enumerate(ATTRIBUTES) if name.startswith("style:")]


class Conditioner:
    """Makes the encoder's output for attribute sets, each distinct token once."""

    slots = 14

    def __init__(self) -> None:
        self.directions = directions() * GAIN

    def __call__(self, attributes: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """attributes: multi-hot [B,A]. Returns context [B,slots,768], pooled [B,768] and log_count [B,slots].

        `rng` decides how many words say nothing, whether hair colour and style share a noun, and the strength
        of the sum, which in the encoder's arithmetic falls short of the ideal by up to an eighth.
        """
        batch = len(attributes)
        strength = torch.from_numpy(rng.uniform(0.85, 1.03, (batch, 1))).float()
        pooled = attributes.float() @ self.directions * strength
        context = torch.zeros(batch, self.slots, WIDTH)
        log_count = torch.full((batch, self.slots), -math.inf)
        for row in range(batch):
            named = attributes[row].nonzero().flatten().tolist()
            tokens = [[index] for index in named]
            shared = [index for index in named if index in _HAIR or index in _STYLE]
            if len(shared) == 2 and rng.random() < 0.5:
                tokens = [[index] for index in named if index not in shared] + [shared]
            silent = 1 + int(rng.integers(0, 16))
            for slot, indices in enumerate(tokens):
                context[row, 2 + slot] = self.directions[indices].sum(0)
                log_count[row, 2 + slot] = 0.0
            context[row, 1] = pooled[row]
            log_count[row, 0] = math.log(silent)
            log_count[row, 1] = math.log(LENGTH - silent - len(tokens))
        return context, pooled, log_count
