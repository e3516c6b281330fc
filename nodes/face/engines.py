"""What every face engine offers, and the engine that needs no weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from .align import Patch
from .types import Face, FaceSet, FloatArray


def no_progress() -> None:
    """For callers that neither show progress nor interrupt."""


@dataclass(frozen=True)
class SwapSettings:
    """How a face is put in.

    colour_match: 0 keeps the photo's colours, 1 takes those of the face that is replaced.
    blend: opacity of the new face, 0..1.
    """

    colour_match: float = 1.0
    blend: float = 1.0


@dataclass(frozen=True, eq=False)
class Source:
    """The face to put in: the photo ``[H, W, 3]``, the face in it, and its normalised embedding where one exists."""

    photo: Tensor
    face: Face
    embedding: FloatArray | None = None


class FaceEngine(Protocol):
    """Detection, comparison and replacement of faces by one family of methods.

    `name` and `provider` appear in reports: which engine ran and on what. Every method that works through several
    images or faces calls `on_progress` before each, so that the caller can show progress and interrupt by raising.
    """

    name: str
    provider: str

    def detect(self, images: Tensor, on_progress: Callable[[], None] = no_progress) -> FaceSet:
        """The faces of ``[B, H, W, 3]``."""
        ...

    def similarity(self, image_a: Tensor, face_a: Face, image_b: Tensor, face_b: Face) -> float:
        """How alike two faces are, -1..1; images ``[H, W, 3]``."""
        ...

    def source(self, photo: Tensor, face: Face) -> Source:
        """Prepares the face of a photo ``[H, W, 3]`` for swapping."""
        ...

    def patches(
        self,
        image: Tensor,
        faces: Sequence[Face],
        source: Source,
        settings: SwapSettings,
        on_progress: Callable[[], None] = no_progress,
    ) -> list[Patch]:
        """The source's face made to fit each given face of an image ``[H, W, 3]``, ready to paste."""
        ...


def classic_engine() -> FaceEngine:
    """The engine without weights: cascade detection, classic landmarks, warped and blended photo."""
    from .classic import ClassicEngine

    return ClassicEngine()
