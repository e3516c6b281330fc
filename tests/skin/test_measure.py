"""Measures of rendered and photographed skin."""

from __future__ import annotations

import pytest
import torch

from flux_face.nodes.skin.measure import measure_skin
from flux_face.starter.portrait import SkinDefect
from flux_face.tests.skin.portraits import TONES, astronaut, group, portrait


@pytest.mark.parametrize("tone", TONES)
def test_the_tone_drawn_is_the_tone_measured(tone: int) -> None:
    image, face = portrait(tone)
    assert abs(measure_skin(image[None], [(0, face)])[0].monk_step - tone) <= 1


def test_darker_tones_have_smaller_typology_angles() -> None:
    angles = []
    for tone in (2, 4, 5, 6, 7, 8):
        image, face = portrait(tone)
        angles.append(measure_skin(image[None], [(0, face)])[0].ita)
    assert angles == sorted(angles, reverse=True)


@pytest.mark.parametrize("tone", [1, 4, 7, 9])
def test_balancing_undoes_the_light(tone: int) -> None:
    """Relative to the eye whites, skin has the same colour under every light."""
    white = portrait(tone)
    reference = measure_skin(white[0][None], [(0, white[1])])[0]
    for gain in ((1.0, 0.92, 0.78), (0.85, 0.94, 1.0)):
        lit = measure_skin((white[0] * torch.tensor(gain))[None], [(0, white[1])])[0]
        assert lit.difference(reference) < 3.0


def test_light_does_not_change_how_colour_varies() -> None:
    image, face = astronaut()
    plain, warm = measure_skin(torch.stack((image, image * torch.tensor([1.0, 0.85, 0.65]))), [(0, face), (1, face)])
    assert warm.variation == pytest.approx(plain.variation, rel=0.15)
    assert plain.variation > 0.03


def test_a_batch_measures_as_its_images_do() -> None:
    pairs = [portrait(tone, seed=tone) for tone in (1, 5, 10)]
    batch = torch.stack([image for image, _ in pairs])
    together = measure_skin(batch, [(i, face) for i, (_, face) in enumerate(pairs)])
    alone = [measure_skin(image[None], [(0, face)])[0] for image, face in pairs]
    for one, other in zip(together, alone, strict=True):
        assert one.lab == pytest.approx(other.lab, abs=1e-3)
        assert one.spread == pytest.approx(other.spread, abs=1e-3)
        assert one.monk_step == other.monk_step


def test_size_does_not_matter() -> None:
    small, small_face = portrait(5, size=128)
    large, large_face = portrait(5, size=512)
    a = measure_skin(small[None], [(0, small_face)])[0]
    b = measure_skin(large[None], [(0, large_face)])[0]
    assert a.lab == pytest.approx(b.lab, abs=2.0)


def test_closed_and_tiny_eyes_are_not_taken_for_white() -> None:
    image, faces = group()
    measured = measure_skin(image[None], [(0, face) for face in faces])
    assert measured[1].white is None
    assert all(skin.white_ratio is None for skin in measured if skin.white is None)


def test_blur_lowers_detail() -> None:
    image, face = astronaut()
    blurred = torch.nn.functional.avg_pool2d(image.movedim(-1, 0)[None], 9, 1, 4)[0].movedim(0, -1)
    sharp, soft = measure_skin(torch.stack((image, blurred)), [(0, face), (1, face)])
    assert soft.detail < 0.6 * sharp.detail


def test_the_neck_is_compared_with_the_face() -> None:
    """A face of another tone than its neck, as a swap without colour matching leaves it."""
    image, face = portrait(3, seed=1)
    other, _ = portrait(8, seed=1)
    matching = measure_skin(image[None], [(0, face)])[0].neck_difference
    pasted = image.clone()
    x0, y0, x1, y1 = (int(value) for value in face.box)
    pasted[y0:y1, x0:x1] = other[y0:y1, x0:x1]
    assert matching is not None
    differing = measure_skin(pasted[None], [(0, face)])[0].neck_difference
    assert differing is None or differing > matching + 5.0


def test_classic_skin_ranges_fail_on_deep_skin() -> None:
    """Why no verdict rests on them: the share of skin-like pixels drops with the tone."""
    share = {}
    for tone in (4, 10):
        image, face = portrait(tone)
        share[tone] = measure_skin(image[None], [(0, face)])[0].ycrcb_share
    assert share[4] > 0.7
    assert share[10] < 0.3


def test_clipping_is_counted() -> None:
    image, face = portrait(4)
    white, black = measure_skin(torch.stack((torch.ones_like(image), torch.zeros_like(image))), [(0, face), (1, face)])
    assert white.burnt_share == 1.0
    assert black.crushed_share == 1.0


def test_a_face_outside_the_picture_is_unseen() -> None:
    image, face = portrait(4)
    far = type(face)((5000.0, 5000.0, 5100.0, 5100.0), 1.0, face.landmarks + 5000.0)
    measured = measure_skin(image[None], [(0, far)])[0]
    assert measured.seen == 0.0
    assert all(value == value for value in measured.lab)


def test_defects_leave_the_rest_of_the_picture() -> None:
    """The renderer's defects are of the skin only, so that a judge who looks at the whole frame may miss them."""
    clean, _ = portrait(5)
    blue, _ = portrait(5, defect=SkinDefect.BLUE)
    assert torch.equal(clean[:8], blue[:8])
    assert (clean - blue).abs().max() > 0.2
