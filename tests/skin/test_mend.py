"""Mending skin tone: what a shift mends, what it must leave alone."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from flux_face.nodes.errors import UserInputError
from flux_face.nodes.face.types import Face
from flux_face.nodes.skin.colour import lab_to_srgb, srgb_to_lab
from flux_face.nodes.skin.measure import measure_skin
from flux_face.nodes.skin.mend import Aim, MendedImage, mend_images
from flux_face.nodes.skin.nodes import FluxFaceMendSkin
from flux_face.nodes.skin.regions import face_mask
from flux_face.nodes.skin.thresholds import Thresholds
from flux_face.starter.portrait import SkinDefect
from flux_face.tests.skin.portraits import TONES, face_set, portrait

# Changes of L*, a* and b*.
CASTS = {"blue": (0.0, -4.0, -28.0), "magenta": (0.0, 26.0, -14.0), "red": (-2.0, 34.0, 8.0)}
LIMITS = Thresholds(max_neck_difference=12.0)


def tinted(tone: int, change: tuple[float, float, float], seed: int = 3) -> tuple[torch.Tensor, Face]:
    """A portrait ``[H, W, 3]`` whose face, not its neck, has another colour."""
    image, face = portrait(tone, seed=seed, size=256)
    mask = face_mask([face], 256, 256, softness=0.25)[..., None]
    return lab_to_srgb(srgb_to_lab(image) + mask * torch.tensor(change)), face


def mend(
    image: torch.Tensor, face: Face, aim: Aim, limits: Thresholds = LIMITS, photo: int | None = None
) -> MendedImage:
    skin = None
    if photo is not None:
        other, other_face = portrait(photo, seed=5, size=256)
        skin = measure_skin(other[None], [(0, other_face)])[0]
    return mend_images(image[None], face_set([[face]], image), limits, aim, skin)[0]


@pytest.mark.parametrize("cast", CASTS)
@pytest.mark.parametrize("tone", TONES)
def test_a_face_of_another_colour_than_its_neck_passes_afterwards(tone: int, cast: str) -> None:
    image, face = tinted(tone, CASTS[cast])
    result = mend(image, face, Aim("neck", max_shift=40.0))
    assert not result.before.passed
    assert result.verdict.passed, result.verdict.reasons
    healthy = portrait(tone, seed=3, size=256)[0]
    inside = face_mask([face], 256, 256) > 0
    assert (result.image - healthy)[inside].abs().mean() < 0.7 * (image - healthy)[inside].abs().mean()


def test_pixels_outside_the_face_are_untouched() -> None:
    image, face = tinted(4, CASTS["blue"])
    image = torch.cat([image, torch.rand(256, 256, 1)], dim=-1)
    result = mend(image, face, Aim("neck", max_shift=40.0))
    outside = result.mask == 0
    assert 0.5 < float(outside.float().mean()) < 0.98
    assert torch.equal(result.image[outside], image[outside])
    assert torch.equal(result.image[..., 3], image[..., 3])


def test_the_shift_is_bounded_and_says_so() -> None:
    image, face = tinted(5, CASTS["magenta"])
    result = mend(image, face, Aim("neck", max_shift=6.0))
    assert result.faces[0].limited
    assert torch.tensor(result.faces[0].shift).norm() == pytest.approx(6.0, abs=1e-3)
    everything = mend(image, face, Aim("neck", max_shift=60.0))
    assert not everything.faces[0].limited


def test_half_strength_is_half_the_shift() -> None:
    image, face = tinted(5, CASTS["red"])
    half, whole = (mend(image, face, Aim("neck", strength, 60.0)).faces[0].shift for strength in (0.5, 1.0))
    assert half == pytest.approx([value / 2 for value in whole])


def test_towards_the_photo() -> None:
    image, face = tinted(6, CASTS["blue"])
    result = mend(image, face, Aim("photo", max_shift=40.0), photo=6)
    assert result.faces[0].towards == "photo"
    assert result.verdict.score > result.before.score


@pytest.mark.parametrize(
    ("defect", "reason"), [(SkinDefect.GREY, "grey"), (SkinDefect.BURNT, "burnt"), (SkinDefect.CRUSHED, "crushed")]
)
def test_what_a_shift_cannot_mend_is_left_and_named(defect: SkinDefect, reason: str) -> None:
    image, face = portrait(5, defect=defect, size=256)
    result = mend(image, face, Aim())
    assert torch.equal(result.image, image)
    assert reason in result.faces[0].note
    assert result.verdict == result.before
    assert not result.mask.any()


def test_an_image_that_passed_is_left_unless_everyone_is_asked_for() -> None:
    image, face = tinted(5, (4.0, 3.0, -3.0))
    kept = mend(image, face, Aim("neck"))
    assert kept.before.passed
    assert torch.equal(kept.image, image)
    evened = mend(image, face, Aim("neck", everyone=True))
    assert evened.verdict.passed
    assert not torch.equal(evened.image, image)


def test_a_neck_that_is_off_too_is_no_aim() -> None:
    image, face = portrait(5, defect=SkinDefect.GREEN, size=256)
    assert "no neck" in mend(image, face, Aim("neck")).faces[0].note
    assert mend(image, face, Aim("auto", max_shift=60.0), photo=5).faces[0].towards == "photo"


def test_images_without_faces_or_with_bad_pixels_pass_through() -> None:
    empty = torch.full((1, 64, 64, 3), 0.5)
    result = mend_images(empty, face_set([[]], empty), LIMITS, Aim())[0]
    assert torch.equal(result.image, empty[0])
    assert result.verdict.reasons[0].code == "no_face"
    image, face = portrait(5)
    broken = image.clone()
    broken[3, 3] = float("nan")
    result = mend(broken, face, Aim())
    assert result.verdict.reasons[0].code == "bad_pixels"
    assert "bad_pixels" in result.faces[0].note


def test_progress_may_interrupt() -> None:
    image, face = tinted(5, CASTS["blue"])

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mend_images(image[None], face_set([[face]], image), LIMITS, Aim(), None, stop)


def test_the_node_reports_what_it_did() -> None:
    image, face = tinted(3, CASTS["blue"])
    batch = torch.stack([image, portrait(3, seed=3, size=256)[0]])
    faces = dataclasses.replace(face_set([[face], [face]], batch), engine="classic")
    images, verdicts, report, mask = FluxFaceMendSkin.execute(batch, faces, towards="neck", max_shift=40.0).result
    items = json.loads(report)["items"]
    assert [item["mended"] for item in items] == [True, False]
    assert [verdict.passed for verdict in verdicts] == [True, True]
    assert items[0]["before"]["passed"] is False
    assert items[1]["faces"][0]["note"] == "the image passed"
    assert torch.equal(images[1], batch[1])
    assert mask[0].any()
    assert not mask[1].any()


def test_towards_a_photo_that_is_not_there() -> None:
    image, face = portrait(5)
    with pytest.raises(UserInputError) as caught:
        FluxFaceMendSkin.execute(image[None], face_set([[face]], image), towards="photo")
    assert caught.value.code == "photo_missing"
