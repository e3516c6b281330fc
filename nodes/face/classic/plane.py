"""Where the parts of a face lie in its crop, and which pixels are its skin."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..align import Matrix
from ..blend import blur_mask, smoothstep
from ..types import FloatArray

# Masks are widened and narrowed at this side: their edges are soft, and the window of a maximum must stay small.
_MORPH_SIDE = 128


class FacePlane:
    """Coordinates of a square crop's pixels in eye distances: u across, v down from the middle of the eyes.

    Attributes:
        u, v: ``[side, side]``. span: pixels between the eyes. mouth: v of the middle of the mouth.
    """

    def __init__(self, points: FloatArray | Matrix, side: int) -> None:
        """points: both eyes and the middle of the mouth ``[3, 2]``, xy in pixels of the crop."""
        middle = (points[0] + points[1]) / 2
        across = (points[1] - points[0]).astype(np.float64)
        span = float(np.linalg.norm(across))
        across /= span
        self.span = span
        y, x = torch.meshgrid(
            torch.arange(side, dtype=torch.float32), torch.arange(side, dtype=torch.float32), indexing="ij"
        )
        dx, dy = x - float(middle[0]), y - float(middle[1])
        self.u = (dx * across[0] + dy * across[1]) / span
        self.v = (dy * across[0] - dx * across[1]) / span
        self.mouth = float((points[2] - middle) @ np.array([-across[1], across[0]])) / span

    def oval(self, half: float, top: float, chin: float, soft: float, square: float = 2.4) -> Tensor:
        """One inside an egg from `top` to `chin` below the mouth and `half` wide to either side, in eye distances.

        square: 2 for an ellipse, more for fuller corners. soft: share of the radius over which the edge fades.
        """
        bottom = self.mouth + chin
        centre = 0.42 * (top + bottom)
        above, below = centre - top, bottom - centre
        v = torch.where(self.v < centre, (self.v - centre) / above, (self.v - centre) / below)
        # Cheeks run in towards the chin.
        narrow = 1.0 - 0.22 * smoothstep(v, 0.0, 1.0)
        radius = ((self.u / (half * narrow)).abs() ** square + v.abs() ** square) ** (1.0 / square)
        return smoothstep(radius, 1.0, 1.0 - soft)

    def skin(self, lab: Tensor) -> Tensor:
        """How much each pixel's L*a*b* ``[side, side, 3]`` is that of the cheeks and nose, 0..1, smoothed."""
        cheeks = (self.u.abs() < 0.62) & (self.v > 0.22) & (self.v < 0.80)
        samples = lab[cheeks]
        usual = samples.median(dim=0).values
        spread = (samples - usual).abs().median(dim=0).values * 1.5
        # Shading moves lightness far more than chroma.
        bounds = torch.maximum(3.0 * spread, torch.tensor([22.0, 9.0, 9.0]))
        # Hair above the brows may be near the skin in colour.
        strict = 1.0 + 0.8 * smoothstep(self.v, -0.38, -0.50)
        distance = (((lab - usual) / bounds) ** 2).sum(-1).sqrt() * strict
        return blur_mask(smoothstep(distance, 1.6, 0.9), 0.03 * self.span)

    def closed(self, mask: Tensor, reach: float) -> Tensor:
        """The mask with gaps up to twice `reach` wide filled, in eye distances: lips, brows, creases, frames."""
        return self._moved(self._moved(mask, reach), -reach)

    def shrunk(self, mask: Tensor, reach: float) -> Tensor:
        """The mask with its edges drawn in by `reach` eye distances and softened."""
        return blur_mask(self._moved(mask, -reach), 0.5 * reach * self.span)

    def _moved(self, mask: Tensor, reach: float) -> Tensor:
        """Edges moved outwards by `reach` eye distances, inwards where it is negative."""
        side = len(mask)
        small = functional.interpolate(mask[None, None], size=_MORPH_SIDE, mode="bilinear", antialias=True)
        pixels = max(1, round(abs(reach) * self.span * _MORPH_SIDE / side))
        sign = 1.0 if reach > 0.0 else -1.0
        moved = sign * functional.max_pool2d(sign * small, 2 * pixels + 1, stride=1, padding=pixels)
        large: Tensor = functional.interpolate(moved, size=side, mode="bilinear")[0, 0]
        return large
