"""Swapping the face of a photo into a batch of images, with any engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ..errors import UserInputError
from .align import paste
from .engines import FaceEngine, Placement, SwapSettings, no_progress
from .identity import Identity
from .types import Face, FaceSet

Target = Literal["largest", "all"]
SeveralFaces = Literal["error", "largest"]


@dataclass(frozen=True)
class ImageReport:
    """What happened to one image.

    faces: how many were found. swapped: how many were replaced. similarity: of each replaced face to the photo's,
    before and after, -1..1. milliseconds: detection, swap and pasting.
    """

    faces: int
    swapped: int
    similarity_before: tuple[float, ...]
    similarity: tuple[float, ...]
    milliseconds: float


@dataclass(frozen=True, eq=False)
class SwapResult:
    """The swapped batch.

    images: float32 ``[B, H, W, C]``. faces: the faces in it. mask: float32 ``[B, H, W]``, what was touched.
    """

    images: Tensor
    faces: FaceSet
    mask: Tensor
    report: tuple[ImageReport, ...]
    engine: str
    provider: str

    def to_json(self) -> dict[str, object]:
        """The report as plain values."""
        return {
            "engine": self.engine,
            "provider": self.provider,
            "images": [
                {
                    "faces": item.faces,
                    "swapped": item.swapped,
                    "similarity_before": [round(value, 4) for value in item.similarity_before],
                    "similarity": [round(value, 4) for value in item.similarity],
                    "ms": round(item.milliseconds, 1),
                }
                for item in self.report
            ],
        }


def photo_identity(
    engine: FaceEngine, photo: Tensor, several: SeveralFaces = "error", field: str = "photo"
) -> Identity:
    """The face of a photo ``[1, H, W, C]``, ready for swapping.

    Raises:
        UserInputError: ``photo_no_face`` or ``photo_several_faces``.
    """
    faces = engine.detect(three_channels(photo[:1])).faces[0]
    if not faces:
        raise UserInputError(
            "photo_no_face",
            field,
            "no face was found in the photo",
            "Use a photo in which one face is seen from the front, well lit and at least a tenth of the picture wide",
        )
    if len(faces) > 1 and several == "error":
        raise UserInputError(
            "photo_several_faces",
            field,
            f"the photo shows {len(faces)} faces and it is not clear which is meant",
            "Crop the photo to one person, or set several_faces_in_photo to largest",
        )
    return engine.identity(three_channels(photo[0]), faces[0])


def swap_faces(
    engine: FaceEngine,
    images: Tensor,
    identity: Identity,
    target: Target = "largest",
    settings: SwapSettings | None = None,
    on_progress: Callable[[], None] = no_progress,
) -> SwapResult:
    """Puts the source's face on the faces of ``[B, H, W, C]``.

    An image without a face passes through unchanged, and the report says so. Faces are replaced from the largest
    to the smallest, so that where two overlap the smaller, nearer to the camera's focus, lies on top. Alpha and
    further channels are kept. `on_progress` is called before every image and every face.
    """
    settings = settings or SwapSettings()
    result = images.detach().float().cpu().clone()
    mask = torch.zeros(result.shape[:3])
    found: list[tuple[Face, ...]] = []
    reports = []
    for index in range(len(result)):
        started = time.perf_counter()
        before = result[index].clone()
        rgb = three_channels(before)
        faces = engine.detect(rgb[None], on_progress).faces[0]
        chosen = faces[:1] if target == "largest" else faces
        placements = [Placement(0, face, identity) for face in chosen]
        earlier = engine.compare(rgb[None], placements)
        canvas = rgb.clone()
        for patch in engine.patches(rgb[None], placements, settings, on_progress):
            paste(canvas, mask[index], patch)
        result[index] = _like(canvas, before)
        later = engine.compare(canvas[None], placements)
        # The new face lies where the old one was; what was read from its pixels no longer holds.
        found.append(tuple(replace(face, embedding=None) if face in chosen else face for face in faces))
        elapsed = 1000.0 * (time.perf_counter() - started)
        reports.append(ImageReport(len(faces), len(chosen), earlier, later, elapsed))
    faces_set = FaceSet(tuple(found), result.shape[1], result.shape[2], engine.name)
    return SwapResult(result, faces_set, mask, tuple(reports), engine.name, engine.provider)


def three_channels(images: Tensor) -> Tensor:
    """RGB ``[..., H, W, 3]`` of grey, RGB or RGBA images."""
    grey = images.shape[-1] == 1
    return images.expand(*images.shape[:-1], 3).contiguous() if grey else images[..., :3].contiguous()


def _like(rgb: Tensor, image: Tensor) -> Tensor:
    """The RGB picture with the channels of `image`: luma for grey, further channels kept."""
    if image.shape[-1] == 1:
        # Untouched pixels have three equal channels; their mean could differ in the last bit.
        mixed = rgb.mean(-1, keepdim=True)
        return torch.where((rgb == image).all(-1, keepdim=True), image, mixed)
    return torch.cat([rgb, image[..., 3:]], dim=-1)
