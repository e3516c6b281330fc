"""Networks that sharpen an aligned face before it is pasted: GFPGAN, GPEN, RestoreFormer++, CodeFormer.

They are trained on crops wider than a swapper's (FFHQ's alignment), from 256 to 2048 pixels a side. The swapper's
drawing is moved there and back by one cubic resampling each, along rows and columns; what lies outside it is mirrored
in, for these networks take a hard edge for a thing to sharpen. What comes back is as large as what was handed in, so
hand in the drawing enlarged to `Restorer.side`: at the swapper's own 128 or 256 pixels the added detail has no room.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from .align import Matrix
from .blend import smoothstep
from .contracts import RestorerContract
from .runtime.session import Session, Shape, broken, fits, require

# Pixels that go through the network at once, in crops of 512 x 512.
_AT_ONCE = 4
# Where the restorer's own crop ends, its picture fades out over this share of it.
_FADE = 0.06
# Slope of Keys' cubic at one (1981): -0.5 is exact for quadratic pictures.
_CUBIC = -0.5


class Restorer(Protocol):
    """A face restoration network.

    Attributes:
        name: its file name, for reports.
        side: crops smaller than this lose what it adds.
    """

    name: str
    side: int

    def restore(self, crops: Tensor, template: Matrix) -> Tensor:
        """Sharpened crops ``[n, side, side, 3]``, RGB 0..1, of crops aligned to `template` (fractions of the side)."""
        ...


class OnnxRestorer:
    """A ``Restorer`` from a session."""

    def __init__(self, session: Session, contract: RestorerContract, faithfulness: float = 0.5) -> None:
        """faithfulness: for CodeFormer, 0 for the most restored face to 1 for the one most like its input.

        Raises:
            UserInputError: ``onnx_contract``.
        """
        size = contract.size
        picture: Shape = (None, 3, size, size)
        pictures = [spec for spec in session.inputs if len(spec.shape) == 4]
        others = [spec for spec in session.inputs if len(spec.shape) != 4]
        if len(pictures) != 1 or len(others) != int(contract.weight) or not session.outputs:
            shown = ", ".join(f"{spec.name} {spec.shape}" for spec in session.inputs)
            raise broken(session, "restorer", f"it takes {shown}")
        wanted = {pictures[0].name: picture}
        for spec in others:
            if not fits(spec.shape, ()) and not fits(spec.shape, (1,)):
                raise broken(session, "restorer", f"input {spec.name!r} should be one number, not {spec.shape}")
            wanted[spec.name] = spec.shape
        # Some exports give more than the picture.
        rest = [spec.shape for spec in session.outputs[1:]]
        require(session, "restorer", [wanted[spec.name] for spec in session.inputs], [picture, *rest])
        self.name = session.path.name
        self.side = size
        self._session = session
        self._contract = contract
        self._picture = pictures[0]
        self._weights = {
            spec.name: torch.full((1,) * len(spec.shape), faithfulness, dtype=torch.float64) for spec in others
        }

    def restore(self, crops: Tensor, template: Matrix) -> Tensor:
        """See ``Restorer``."""
        side, size = crops.shape[1], self.side
        scale, shift = _between(template * side, self._contract.template * size)
        there = [_resampling(side, size, scale, by).to(crops) for by in shift]
        back = [_resampling(size, side, 1.0 / scale, -by / scale).to(crops) for by in shift]
        planes = crops.permute(0, 3, 1, 2)
        # Where a crop's pixel lies in the restorer's.
        reach = [scale * torch.arange(side) + by for by in shift]
        edge = [smoothstep(torch.minimum(at, size - 1 - at), 0.0, _FADE * size).to(crops) for at in reach]
        covered = edge[1][:, None] * edge[0]
        parts = []
        for some in planes.split(self._step()):
            drawn = (there[1] @ some @ there[0].T).clamp(0, 1)
            sharp = self._run(drawn).to(crops)
            restored = (back[1] @ sharp @ back[0].T).clamp(0, 1)
            parts.append(some + covered * (restored - some))
        return torch.cat(parts).permute(0, 2, 3, 1).contiguous()

    def _step(self) -> int:
        if self._picture.shape[0] is not None:
            return 1
        return max(1, _AT_ONCE * 512**2 // self.side**2)

    def _run(self, planes: Tensor) -> Tensor:
        """The network on ``[n, 3, size, size]``, RGB 0..1."""
        feeds = {self._picture.name: self._contract.normalisation.apply(planes), **self._weights}
        answer = self._session.run(feeds)[self._session.outputs[0].name]
        return self._contract.normalisation.undo(answer).clamp(0, 1)


def _between(points: Matrix, onto: Matrix) -> tuple[float, tuple[float, float]]:
    """Scale and shift, least squares, from one template's pixels to another's.

    Templates are turned against each other by less than half a degree, which is left as it is: the way back undoes it.
    """
    centred = points - points.mean(axis=0)
    scale = float((centred * (onto - onto.mean(axis=0))).sum() / (centred**2).sum())
    shift = onto.mean(axis=0) - scale * points.mean(axis=0)
    return scale, (float(shift[0]), float(shift[1]))


def _resampling(have: int, want: int, scale: float, shift: float) -> Tensor:
    """The matrix ``[want, have]`` that puts pixel u at ``scale u + shift``: cubic, wider where it shrinks, mirrored."""
    narrow = min(scale, 1.0)
    at = (torch.arange(want, dtype=torch.float64) - shift) / scale
    reach = int(2.0 / narrow) + 1
    taps = at.floor().long()[:, None] + torch.arange(-reach, reach + 1)
    x = ((taps - at[:, None]) * narrow).abs()
    near = ((_CUBIC + 2.0) * x - (_CUBIC + 3.0)) * x**2 + 1.0
    far = _CUBIC * (((x - 5.0) * x + 8.0) * x - 4.0)
    weight = torch.where(x <= 1.0, near, torch.where(x < 2.0, far, torch.zeros_like(x)))
    period = max(2 * have - 2, 1)
    folded = taps.remainder(period)
    folded = torch.minimum(folded, period - folded).clamp(max=have - 1)
    matrix = torch.zeros(want, have, dtype=torch.float64)
    matrix.scatter_add_(1, folded, weight / weight.sum(dim=1, keepdim=True))
    return matrix.float()
