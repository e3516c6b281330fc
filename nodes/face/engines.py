"""What every face engine offers, and the engine that needs no weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from .align import Patch
from .identity import Identity
from .masks import MaskSettings
from .restorer import Restorer
from .types import Face, FaceSet

ColourMethod = Literal["mean_std", "histogram"]


def no_progress() -> None:
    """For callers that neither show progress nor interrupt."""


@dataclass(frozen=True)
class SwapSettings:
    """How a face is put in.

    Attributes:
        colour_match: 0 keeps the colours the network drew, 1 takes those of the face that is replaced.
        colour_method: how: mean and spread in L*a*b*, or the whole histogram.
        blend: opacity of the new face, 0..1.
        mask: which part of the aligned crop is replaced.
        pixel_boost: the network draws the face in this many tiles a side, each of its own size (onnx engine).
        restorer: sharpens the drawn face before it is pasted; None for none.
        restore_strength: share of the restored picture, 0..1.
    """

    colour_match: float = 1.0
    colour_method: ColourMethod = "mean_std"
    blend: float = 1.0
    mask: MaskSettings = field(default_factory=MaskSettings)
    pixel_boost: int = 1
    restorer: Restorer | None = None
    restore_strength: float = 1.0


@dataclass(frozen=True, eq=False)
class Placement:
    """One face to be replaced: in image `image` of a batch, `face` becomes `identity`."""

    image: int
    face: Face
    identity: Identity


class FaceEngine(Protocol):
    """Detection, comparison and replacement of faces by one family of methods.

    `name` and `provider` appear in reports: which engine ran and on what. `device` is where patches are made, and
    where images had best lie. Every method that works through several images or faces calls `on_progress` once for
    each, before it is worked on or, where the network takes them as one batch, before that batch; the caller shows
    progress and interrupts by raising.
    """

    name: str
    provider: str
    device: torch.device

    def detect(self, images: Tensor, on_progress: Callable[[], None] = no_progress) -> FaceSet:
        """The faces of ``[B, H, W, 3]``, the largest first in each image."""
        ...

    def identity(self, photo: Tensor, face: Face) -> Identity:
        """The person in a photo ``[H, W, 3]``."""
        ...

    def compare(self, images: Tensor, placements: Sequence[Placement]) -> tuple[float, ...]:
        """How alike each placement's face, as images ``[B, H, W, 3]`` show it now, is to its identity, -1..1.

        Raises:
            UserInputError: ``identity_incomplete`` where the identity lacks what this engine compares by.
        """
        ...

    def patches(
        self,
        images: Tensor,
        placements: Sequence[Placement],
        settings: SwapSettings,
        on_progress: Callable[[], None] = no_progress,
    ) -> list[Patch]:
        """For every placement its identity made to fit the face in images ``[B, H, W, 3]``, ready to paste.

        Raises:
            UserInputError: ``identity_incomplete`` where the identity lacks what this engine draws from.
        """
        ...


def classic_engine() -> FaceEngine:
    """The engine without weights: cascade detection, classic landmarks, warped and blended photo."""
    from .classic.engine import ClassicEngine

    return ClassicEngine()
