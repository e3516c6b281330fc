"""Mending skin tone without sampling again: a bounded shift of the face's skin towards the neck or the user's photo.

What a shift can mend is colour and lightness that are off as a whole: a cast, a red or washed-out face, a face of
another shade than its neck. Skin that has lost its colour, its highlights or its shadows needs another attempt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from ..face.types import Face, FaceSet
from .colour import lab_to_srgb, srgb_to_lab
from .judge import is_skin_hue
from .measure import SkinMeasurement
from .qa import Inspection, check_faces, check_images, inspect_images
from .regions import face_mask
from .thresholds import Thresholds
from .verdict import Verdict

Towards = Literal["auto", "neck", "photo"]

# Reasons that a shift can answer; any other asks for another attempt.
MENDABLE = frozenset({"cast", "over_red", "over_colourful", "neck_mismatch", "photo_mismatch", "too_dark"})

# Shades of one skin differ with the light that falls on it, as below a chin: so much of lightness is no mistake.
_SHADING = 15.0
# A colour within this of the skin's median, in a*b* and in L*, is skin; at twice that it is not.
_CHROMA_REACH, _LIGHTNESS_REACH = 12.0, 30.0
# Share of the face's radius over which the mended part fades out.
_SOFTNESS = 0.2
# Smaller shifts cannot be seen.
_LEAST_SHIFT = 1.0


@dataclass(frozen=True)
class Aim:
    """What to shift and how far.

    Attributes:
        towards: whose colour a face takes; ``auto`` is the neck's where it is seen, else the photo's.
        strength: share of the difference that is made up, 0..1.
        max_shift: the greatest length of a shift, in Lab units.
        everyone: shift the faces of images that passed too.
    """

    towards: Towards = "auto"
    strength: float = 1.0
    max_shift: float = 20.0
    everyone: bool = False


@dataclass(frozen=True)
class Mend:
    """What was done to one face.

    Attributes:
        towards: ``neck``, ``photo`` or ``nothing``.
        shift: change of L*, a* and b* at full strength.
        limited: whether the shift was cut to its bound.
        note: why nothing was done; empty where something was.
    """

    towards: Literal["neck", "photo", "nothing"]
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    limited: bool = False
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "shift": [round(value, 2) for value in self.shift]}


@dataclass(frozen=True, eq=False)
class MendedImage:
    """One image afterwards.

    Attributes:
        image: ``[H, W, C]``; the input itself where nothing helped.
        mask: ``[H, W]``, 1 over the faces that were changed.
        faces: what was done to each face.
        before: the verdict on the image as it came.
        verdict: the verdict on `image`.
        note: why a shift was taken back; empty otherwise.
    """

    image: Tensor
    mask: Tensor
    faces: tuple[Mend, ...]
    before: Verdict
    verdict: Verdict
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "mended": bool(self.mask.any()),
            "note": self.note,
            "faces": [mend.to_json() for mend in self.faces],
            "before": self.before.to_json(),
            "after": self.verdict.to_json(),
        }


def mend_images(
    images: Tensor,
    faces: FaceSet,
    thresholds: Thresholds,
    aim: Aim,
    photo: SkinMeasurement | None = None,
    on_image: Callable[[], None] = lambda: None,
) -> list[MendedImage]:
    """Shift the skin of a batch ``[B, H, W, C]`` where that helps, and judge it again.

    Every image may show as many faces as it does: their number is no question of colour. `on_image` is called before
    each image and may raise to stop.

    Raises:
        UserInputError: as ``inspect_images``.
    """
    check_images(images)
    check_faces(images, faces)
    result = []
    for index in range(len(images)):
        on_image()
        found = replace(faces, faces=faces.faces[index : index + 1])
        result.append(_mend_image(images[index : index + 1], found, thresholds, aim, photo))
    return result


def _mend_image(
    image: Tensor, faces: FaceSet, thresholds: Thresholds, aim: Aim, photo: SkinMeasurement | None
) -> MendedImage:
    expected = max(1, len(faces.faces[0]))
    before = inspect_images(image, faces, thresholds, expected, photo)[0]
    mends = _plans(before, thresholds, aim, photo)
    untouched = torch.zeros(image.shape[1:3])
    if all(mend.towards == "nothing" for mend in mends):
        return MendedImage(image[0], untouched, mends, before.verdict, before.verdict)
    mended = apply_mends(image[0], before.faces, before.measurements, mends)
    after = inspect_images(mended[None], faces, thresholds, expected, photo)[0].verdict
    if not after.passed and (before.verdict.passed or after.score <= before.verdict.score):
        note = "the shift did not help and was taken back"
        return MendedImage(image[0], untouched, mends, before.verdict, before.verdict, note)
    changed = [face for face, mend in zip(before.faces, mends, strict=True) if mend.towards != "nothing"]
    return MendedImage(mended, face_mask(changed, *image.shape[1:3]), mends, before.verdict, after)


def _plans(seen: Inspection, thresholds: Thresholds, aim: Aim, photo: SkinMeasurement | None) -> tuple[Mend, ...]:
    codes = {reason.code for reason in seen.verdict.reasons}
    note = ""
    if seen.verdict.passed and not aim.everyone:
        note = "the image passed"
    elif codes - MENDABLE:
        note = f"a shift of colour does not mend: {', '.join(sorted(codes - MENDABLE))}"
    if note:
        return tuple(Mend("nothing", note=note) for _ in seen.faces)
    return tuple(plan_mend(skin, photo, thresholds, aim) for skin in seen.measurements)


def plan_mend(skin: SkinMeasurement, photo: SkinMeasurement | None, thresholds: Thresholds, aim: Aim) -> Mend:
    """The shift for one face; the user's skin is put under the light that the face's own eye whites show."""
    target = _target(skin, photo, thresholds, aim.towards)
    if target is None:
        missing = {"neck": "no neck of healthy colour is seen", "photo": "there is no photo"}
        return Mend("nothing", note=missing.get(aim.towards, " and ".join(missing.values())))
    name, lab = target
    difference = [there - here for there, here in zip(lab, skin.lab, strict=True)]
    difference[0] -= max(-_SHADING, min(_SHADING, difference[0]))
    shift = [aim.strength * value for value in difference]
    length = math.hypot(*shift)
    if length < _LEAST_SHIFT:
        return Mend("nothing", note=f"the skin is within {_LEAST_SHIFT:g} Lab unit of the {name} already")
    scale = min(1.0, aim.max_shift / length)
    return Mend(name, (scale * shift[0], scale * shift[1], scale * shift[2]), scale < 1.0)


def apply_mends(
    image: Tensor, faces: Sequence[Face], skins: Sequence[SkinMeasurement], mends: Sequence[Mend]
) -> Tensor:
    """The image ``[H, W, C]`` with its faces' skin shifted; every pixel outside the faces keeps its exact value."""
    result = image.clone()
    height, width = image.shape[:2]
    for face, skin, mend in zip(faces, skins, mends, strict=True):
        if mend.towards == "nothing":
            continue
        mask = face_mask([face], height, width, _SOFTNESS)
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        if not len(rows):
            continue
        part = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
        rgb = result[part][..., :3].float().cpu()
        lab = srgb_to_lab(rgb)
        # A cast lies over eyes and lips too; what is not skin is left alone only where hair may hang.
        inner = face_mask([face], height, width, 2.0 * _SOFTNESS, inner=True)[part]
        weight = (mask[part] * torch.maximum(_skin_likeness(lab, skin), inner))[..., None]
        mended = lab_to_srgb(lab + weight * torch.tensor(mend.shift))
        result[part][..., :3] = torch.where(weight > 0.0, mended, rgb).to(result)
    return result


def _target(
    skin: SkinMeasurement, photo: SkinMeasurement | None, thresholds: Thresholds, towards: Towards
) -> tuple[Literal["neck", "photo"], tuple[float, float, float]] | None:
    if towards != "photo" and skin.neck is not None and is_skin_hue(skin.neck, thresholds):
        return "neck", skin.neck
    if towards != "neck" and photo is not None:
        relit = _under_the_same_light(photo, skin)
        # A cast that reaches the eyes is no light.
        return "photo", relit if is_skin_hue(relit, thresholds) else photo.balanced_lab
    return None


def _under_the_same_light(photo: SkinMeasurement, skin: SkinMeasurement) -> tuple[float, float, float]:
    """The photo's balanced skin with the tint of the picture's light, in CIELAB."""
    lab = torch.tensor(photo.balanced_lab)
    if skin.white is not None:
        white = torch.tensor(skin.white)
        tinted = lab_to_srgb(lab) * white / white.amax().clamp_min(1e-3)
        lab = srgb_to_lab(tinted)
    lightness, a, b = lab.tolist()
    return lightness, a, b


def _skin_likeness(lab: Tensor, skin: SkinMeasurement) -> Tensor:
    """How much each pixel ``[h, w, 3]`` has the colour of the measured skin, 0..1."""
    middle = torch.tensor(skin.lab)
    chroma = (lab[..., 1:] - middle[1:]).norm(dim=-1) / _CHROMA_REACH
    lightness = (lab[..., 0] - middle[0]).abs() / _LIGHTNESS_REACH
    t = (2.0 - torch.hypot(chroma, lightness)).clamp(0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)
