"""Networks that sharpen an aligned face before it is pasted."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from .align import Matrix


class Restorer(Protocol):
    """A face restoration network.

    name: its file name, for reports.
    """

    name: str

    def restore(self, crops: Tensor, template: Matrix) -> Tensor:
        """Sharpened crops ``[n, side, side, 3]``, RGB 0..1, of crops aligned to `template` (fractions of the side)."""
        ...
