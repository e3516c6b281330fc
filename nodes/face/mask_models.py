"""Networks that say what an aligned face shows: what covers it (XSeg), and which part is which (BiSeNet).

Both are trained on crops wider or tighter than a swapper's, and are given the swapper's crops as facefusion gives them.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import UserInputError
from .blend import blur
from .contracts import OccluderContract, ParserContract
from .runtime.session import Session, broken, require, run_batched

# CelebAMask-HQ's classes as zllrunning/face-parsing.PyTorch numbers them. Left and right are its annotators'.
CLASSES = (
    "background",
    "skin",
    "left_brow",
    "right_brow",
    "left_eye",
    "right_eye",
    "glasses",
    "left_ear",
    "right_ear",
    "earring",
    "nose",
    "mouth",
    "upper_lip",
    "lower_lip",
    "neck",
    "necklace",
    "clothes",
    "hair",
    "hat",
)
# What facefusion counts as the face.
FACE_REGIONS = frozenset(
    {
        "skin",
        "left_brow",
        "right_brow",
        "left_eye",
        "right_eye",
        "glasses",
        "nose",
        "mouth",
        "upper_lip",
        "lower_lip",
    }
)

# facefusion blurs both masks by 5 pixels; its crops have 256 with the models it prefers.
_BLUR = 5.0 / 256.0
# A parser's scores for one crop are 20 MB, and some exports give them three times.
_PARSED_AT_ONCE = 4


class Occluder:
    """XSeg (DeepFaceLab's, as facefusion exports it): what of the face is seen."""

    def __init__(self, session: Session, contract: OccluderContract) -> None:
        """Raises:
        UserInputError: ``onnx_contract``.
        """
        side = contract.size
        require(session, "occluder", [(None, side, side, 3)], [(None, side, side, 1)])
        self._session = session
        self._side = side

    def mask(self, crops: Tensor) -> Tensor:
        """One where the face is seen, zero where something is in front: ``[n, s, s]`` of crops ``[n, s, s, 3]``.

        Its edge lies half a blur's width inside the network's, so that what covers the face stays whole.
        """
        blob = resized(crops.permute(0, 3, 1, 2), self._side).permute(0, 2, 3, 1).flip(-1).contiguous()
        seen = run_batched(self._session, {self._session.inputs[0].name: blob})[0][..., 0].clamp(0, 1)
        return _drawn_in(resized(seen[:, None].to(crops), crops.shape[1])[:, 0])


class FaceParser:
    """BiSeNet: which of `CLASSES` each pixel shows."""

    def __init__(self, session: Session, contract: ParserContract) -> None:
        """Raises:
        UserInputError: ``onnx_contract``.
        """
        side = contract.size
        scores = (None, contract.classes, side, side)
        if not session.outputs:
            raise broken(session, "face parser", "it has no output")
        # Exports for training give two more, of coarser layers.
        require(session, "face parser", [(None, 3, side, side)], [scores] * len(session.outputs))
        self._session = session
        self._contract = contract

    def mask(self, crops: Tensor, regions: Collection[str]) -> Tensor:
        """One on the regions, zero elsewhere, the edge a little inside: ``[n, s, s]`` of ``[n, s, s, 3]``."""
        return _drawn_in(self.share(crops, regions))

    def share(self, crops: Tensor, regions: Collection[str]) -> Tensor:
        """How much of each pixel lies in the regions, 0..1: ``[n, s, s]`` of crops ``[n, s, s, 3]``.

        Raises:
            UserInputError: ``mask_name_unknown`` for a region that is none of `CLASSES`.
        """
        check_regions(regions)
        wanted = torch.tensor([CLASSES.index(name) for name in regions])
        planes = resized(crops.permute(0, 3, 1, 2), self._contract.size)
        parts = []
        for some in planes.split(_PARSED_AT_ONCE):
            blob = self._contract.normalisation.apply(some)
            scores = run_batched(self._session, {self._session.inputs[0].name: blob})[0]
            inside = torch.isin(scores.argmax(dim=1), wanted.to(scores.device))
            parts.append(resized(inside[:, None].to(crops), crops.shape[1])[:, 0])
        return torch.cat(parts)


def check_regions(regions: Collection[str]) -> None:
    """Raises:
    UserInputError: ``mask_name_unknown`` for a name that is none of `CLASSES`.
    """
    unknown = sorted(set(regions) - set(CLASSES))
    if unknown:
        raise UserInputError(
            "mask_name_unknown",
            "regions",
            f"there is no face region {unknown[0]!r}",
            f"Choose from {', '.join(CLASSES)}",
        )


def resized(planes: Tensor, side: int) -> Tensor:
    """Squares ``[n, C, s, s]`` as ``[n, C, side, side]``, bilinear, by whole factors averaged first."""
    factor = planes.shape[-1] // side
    if factor >= 2:
        planes = functional.avg_pool2d(planes, factor)
    if planes.shape[-1] == side:
        return planes
    return functional.interpolate(planes, (side, side), mode="bilinear", align_corners=False)


def _drawn_in(mask: Tensor) -> Tensor:
    """``[n, s, s]`` blurred, of which only the inner half of each edge is kept."""
    soft = blur(mask, _BLUR * mask.shape[-1])
    return (2.0 * soft - 1.0).clamp(0, 1)
