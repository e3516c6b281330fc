"""LoRA on the activation side: ``x @ (W + s * U D).T`` computed as ``x @ W.T + s * (x @ D.T) @ U.T``.

A packed weight cannot take a LoRA in place. Adding the low-rank product to the dequantised weight on every forward
costs a pass over the whole weight per LoRA; two thin matrix products cost almost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch


@dataclass
class LowRankTerm:
    """One LoRA of one linear layer.

    Attributes:
        up: ``[rows, rank]``.
        down: ``[rank, columns]``.
        scale: strength times alpha over rank.
        rows: the output features it adds to.
        columns: the input features it reads.
    """

    up: torch.Tensor
    down: torch.Tensor
    scale: float
    rows: slice = field(default_factory=lambda: slice(None))
    columns: slice = field(default_factory=lambda: slice(None))

    def add_to(self, output: torch.Tensor, inputs: torch.Tensor) -> None:
        """Adds the term to ``output`` ``[..., out]`` in place; ``inputs`` is ``[..., in]``."""
        self._move(inputs.device, inputs.dtype)
        thin = torch.nn.functional.linear(inputs[..., self.columns], self.down)
        output[..., self.rows].add_(torch.nn.functional.linear(thin, self.up), alpha=self.scale)

    def _move(self, device: torch.device, dtype: torch.dtype) -> None:
        # Moved once and kept: a term lives as long as its LoRA is on the loaded model.
        self.up = self.up.to(device=device, dtype=dtype)
        self.down = self.down.to(device=device, dtype=dtype)
