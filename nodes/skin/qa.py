"""Skin-tone QA of a batch: checks the inputs, measures the faces, judges each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..errors import UserInputError
from ..face.types import Face, FaceSet
from .judge import bad_pixels_verdict, judge_image
from .measure import SkinMeasurement, measure_skin
from .thresholds import Thresholds
from .verdict import Verdict


@dataclass(frozen=True, eq=False)
class Inspection:
    """What QA saw in one image: its faces, their skin, and the verdict."""

    faces: tuple[Face, ...]
    measurements: tuple[SkinMeasurement, ...]
    verdict: Verdict


def inspect_images(
    images: torch.Tensor,
    faces: FaceSet,
    thresholds: Thresholds,
    expected_faces: int = 1,
    photo: SkinMeasurement | None = None,
    similarities: Sequence[float | None] | None = None,
) -> list[Inspection]:
    """Judge every image of a batch.

    Args:
        images: float32 ``[B,H,W,C]``, RGB 0..1. NaN or infinity is a reason to reject, not an error.
        faces: the faces of these images.
        thresholds: the limits.
        expected_faces: how many faces each image should show.
        photo: the user's own skin.
        similarities: of each image's largest face to the user, -1..1; None where there is no face.

    Raises:
        UserInputError: the batch is empty or no RGB image, or the faces belong to other images.
    """
    check_images(images)
    check_faces(images, faces)
    # A sum is the cheapest look at every pixel: it is finite if and only if they are.
    finite = torch.isfinite(images.flatten(1).sum(dim=1)).tolist()
    pairs = [(i, face) for i, found in enumerate(faces.faces) if finite[i] for face in found]
    measured = iter(measure_skin(images, pairs))
    inspections = []
    for i, found in enumerate(faces.faces):
        if not finite[i]:
            inspections.append(Inspection(found, (), bad_pixels_verdict()))
            continue
        skins = tuple(next(measured) for _ in found)
        sizes = [min(face.width, face.height) for face in found]
        similarity = None if similarities is None else similarities[i]
        verdict = judge_image(skins, sizes, thresholds, expected_faces, photo, similarity)
        inspections.append(Inspection(found, skins, verdict))
    return inspections


def measure_photo(photo: torch.Tensor, faces: FaceSet) -> SkinMeasurement:
    """The skin of the largest face of the user's photo, float32 ``[1,H,W,C]``.

    Raises:
        UserInputError: the photo is no RGB image or shows no face.
    """
    check_images(photo, "photo")
    if not faces.faces[0]:
        raise UserInputError(
            "photo_no_face", "photo", "no face was found in it", "Use a photo that shows one face from the front"
        )
    return measure_skin(photo.nan_to_num(), [(0, faces.faces[0][0])])[0]


def check_images(images: torch.Tensor, field: str = "images") -> None:
    """Refuse what is no batch of RGB images.

    Raises:
        UserInputError: with the shape found.
    """
    if images.ndim != 4 or images.shape[-1] < 3:
        raise UserInputError(
            "not_rgb", field, f"shape {tuple(images.shape)} is no batch of RGB images", "Connect an IMAGE in colour"
        )
    if 0 in images.shape:
        raise UserInputError("empty_batch", field, f"there are no images in shape {tuple(images.shape)}",
                             "Connect at least one image")  # fmt: skip


def check_faces(images: torch.Tensor, faces: FaceSet) -> None:
    """Refuse faces that were found in other images.

    Raises:
        UserInputError: with both counts and sizes.
    """
    count, height, width, _ = images.shape
    if len(faces.faces) != count or (faces.height, faces.width) != (height, width):
        raise UserInputError(
            "faces_of_other_images",
            "faces",
            f"they are of {len(faces.faces)} images of {faces.width}x{faces.height}, "
            f"but there are {count} images of {width}x{height}",
            "Connect the faces found in these images, or leave the input open to find them here",
        )
