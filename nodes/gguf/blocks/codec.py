"""What a block type consists of, and unpacking helpers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

Factors = tuple[Tensor, Tensor | None]


@dataclass(frozen=True)
class Codec:
    """One block type.

    Attributes:
        write_integers: ``(blocks, out)``: the integers of ``blocks``, uint8 ``[n, bytes per block]`` with contiguous
            rows, as float32 into ``out`` ``[n, values per block]``, contiguous.
        factors: ``blocks`` to scale and offset, float32 ``[n, sub-blocks]`` each; no offset where it is always 0.
            None for types that have neither.
    """

    write_integers: Callable[[Tensor, Tensor], None]
    factors: Callable[[Tensor], Factors] | None


def half(blocks: Tensor, start: int) -> Tensor:
    """The float16 at byte ``start`` of every block, as float32 ``[n, 1]``."""
    return blocks[:, start : start + 2].view(torch.float16).float()


def part(blocks: Tensor, start: int, stop: int) -> Tensor:
    """Bytes ``start`` to ``stop`` of every block, contiguous: torch computes several times faster on such, and copying
    is cheap.
    """
    return blocks[:, start:stop].contiguous()


def nibbles(packed: Tensor, groups: int) -> Tensor:
    """Both nibbles of every byte, uint8.

    Args:
        packed: contiguous ``[n, groups * width]``.
        groups: how many runs of bytes there are; of every run the low nibbles come first, then the high ones.

    Returns:
        ``[n, groups, 2, width]``.
    """
    width = packed.shape[1] // groups
    out = packed.new_empty(packed.shape[0], groups, 2, width)
    out[:, :, 0].copy_((packed & 15).view(-1, groups, width))
    out[:, :, 1].copy_((packed >> 4).view(-1, groups, width))
    return out


def bit_planes(packed: Tensor, value: int) -> Tensor:
    """Bit 0 of all bytes, then bit 1 of all, and so on: contiguous ``[n, width]`` to uint8 ``[n, 8 * width]`` of 0 or
    ``value``.
    """
    width = packed.shape[1]
    spread = packed.unsqueeze(1).expand(-1, 8, -1).reshape(-1, 8 * width)
    return spread.bitwise_and_(_plane_masks(width, packed.device)).ne_(0).mul_(value)


@cache
def _plane_masks(width: int, device: torch.device) -> Tensor:
    masks = torch.tensor([1 << bit for bit in range(8)], dtype=torch.uint8)
    return masks.repeat_interleave(width).to(device)
