"""Colour transfer: what it reaches, what it must not break, and scikit-image as the reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from flux_face.nodes.face.align import ARCFACE_128
from flux_face.nodes.face.colour import match_colour, match_histogram, skin_weights, toned
from flux_face.nodes.face.engines import ColourMethod
from flux_face.nodes.skin.colour import chroma, hue, lab_to_srgb, srgb_to_lab
from flux_face.nodes.skin.monk import monk_lab

from . import samples

METHODS: tuple[ColourMethod, ...] = ("mean_std", "histogram")
SIDE = 96
BRIGHTEST = 98.0


def shaded(mean: Tensor, spread: tuple[float, float, float], seed: int, side: int = SIDE) -> Tensor:
    """L*a*b* ``[side, side, 3]`` of a lit ball of one colour: lightness falls to one side, chroma a little with it."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.linspace(-1, 1, side)
    light = (x + 0.6 * x[:, None] + 0.15 * torch.randn(side, side, generator=generator)) / 1.0
    light = (light - light.mean()) / light.std()
    warm = 0.6 * light + 0.8 * torch.randn(side, side, generator=generator)
    field = torch.stack([light, warm, torch.randn(side, side, generator=generator)], dim=-1)
    field = (field - field.mean((0, 1))) / field.std((0, 1))
    return mean + torch.tensor(spread) * field


def ones(lab: Tensor) -> Tensor:
    return torch.ones(lab.shape[:-1])


def moments(lab: Tensor) -> tuple[Tensor, Tensor]:
    return lab.mean((-3, -2)), lab.std((-3, -2))


def angle(a: Tensor, b: Tensor) -> Tensor:
    """Distance of hues in degrees."""
    return ((hue(a) - hue(b) + 180.0) % 360.0 - 180.0).abs()


@pytest.fixture(scope="module")
def faces() -> tuple[Tensor, Tensor]:
    """Two faces cut from a photograph, RGB."""
    pixels = samples.as_image(samples.photo())
    return pixels[260:388, 480:608], pixels[330:458, 100:228]


def test_mean_and_spread_are_reached() -> None:
    source = shaded(torch.tensor([60.0, 18.0, 22.0]), (9.0, 3.0, 3.0), 1)
    target = shaded(torch.tensor([45.0, 12.0, 16.0]), (8.0, 2.5, 2.4), 2)
    mean, spread = moments(match_colour(source, target, ones(source), ones(target)))
    torch.testing.assert_close(mean, moments(target)[0], atol=1e-3, rtol=0)
    torch.testing.assert_close(spread, moments(target)[1], atol=1e-2, rtol=0)


def test_the_histogram_reaches_mean_and_spread_too() -> None:
    source = shaded(torch.tensor([60.0, 18.0, 22.0]), (7.0, 3.0, 3.0), 1)
    target = shaded(torch.tensor([45.0, 12.0, 16.0]), (9.0, 2.5, 3.5), 2)
    mean, spread = moments(match_histogram(source, target, ones(source), ones(target)))
    torch.testing.assert_close(mean, moments(target)[0], atol=0.1, rtol=0)
    torch.testing.assert_close(spread, moments(target)[1], atol=0, rtol=0.05)


def test_the_histogram_equals_scikit_image() -> None:
    exposure = pytest.importorskip("skimage.exposure")
    source = shaded(torch.tensor([62.0, 18.0, 22.0]), (8.0, 3.0, 3.0), 3)
    # Another curve and another arrangement: lightness bent, chroma shifted and widened.
    target = shaded(torch.tensor([50.0, 12.0, 17.0]), (8.0, 2.5, 3.6), 4)
    target[..., 0] = 40.0 + 0.25 * (target[..., 0] - 20.0) + 0.007 * (target[..., 0] - 20.0) ** 2
    ours = match_histogram(source, target, ones(source), ones(target)).numpy()
    theirs = exposure.match_histograms(source.numpy(), target.numpy(), channel_axis=-1)
    difference = np.abs(ours - theirs)
    assert difference.mean() < 0.1
    # The rarest values, where the reference follows single pixels.
    assert np.quantile(difference, 0.99) < 0.6
    assert np.abs(source.numpy() - theirs).mean() > 4.0


def test_weights_choose_the_pixels(faces: tuple[Tensor, Tensor]) -> None:
    """Only the left half counts: whatever the right half holds changes nothing."""
    source, target = (srgb_to_lab(face) for face in faces)
    weight = torch.zeros(source.shape[:2])
    weight[:, :64] = 1.0
    other = target.clone()
    other[:, 64:] = torch.tensor([95.0, -40.0, 60.0])
    for match in (match_colour, match_histogram):
        torch.testing.assert_close(match(source, target, weight, weight), match(source, other, weight, weight))
        assert not torch.allclose(
            match(source, target, weight, weight), match(source, target, torch.ones_like(weight), weight), atol=0.5
        )


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_equals_each_alone(method: ColourMethod, faces: tuple[Tensor, Tensor]) -> None:
    drawn, target = srgb_to_lab(torch.stack(faces)), srgb_to_lab(torch.stack(faces[::-1]))
    weights = torch.rand(2, 2, 128, 128, generator=torch.Generator().manual_seed(5))
    batch = toned(drawn, target, weights[0], weights[1], 0.7, method)
    for index in range(2):
        one = slice(index, index + 1)
        alone = toned(drawn[one], target[one], weights[0, one], weights[1, one], 0.7, method)
        torch.testing.assert_close(batch[one], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("step", range(10))
def test_every_skin_tone_keeps_its_hue(method: ColourMethod, step: int) -> None:
    """A drawing of middle tone is put on a face of each Monk tone, and the other way round."""
    tone = monk_lab()[step]
    spread = min(6.0, (97.0 - float(tone[0])) / 2.5)
    middle = torch.tensor([62.0, 14.0, 22.0])
    for have, want in ((middle, tone), (tone, middle)):
        spreads = [(spread, 1.0, 1.0), (6.0, 1.5, 1.5)]
        source, target = shaded(have, spreads[have is middle], 6), shaded(want, spreads[want is middle], 7)
        drawn, meant = lab_to_srgb(source), lab_to_srgb(target)
        weight = torch.ones(1, SIDE, SIDE)
        result = srgb_to_lab(toned(srgb_to_lab(drawn)[None], srgb_to_lab(meant)[None], weight, weight, 1.0, method))[0]
        reached, wanted = result.mean((0, 1)), srgb_to_lab(meant).mean((0, 1))
        assert float((reached - wanted).norm()) < 1.0
        # A hue means something where there is chroma: a degree is 0.2 of a just visible step at chroma 10.
        bound = math.degrees(1.0 / max(float(chroma(wanted)), 5.0))
        assert float(angle(reached, wanted)) < bound


@pytest.mark.parametrize("method", METHODS)
def test_highlights_never_clip(method: ColourMethod) -> None:
    """A drawing with burnt highlights on a very light, strongly lit face: no channel is full, no two levels merge."""
    source = shaded(torch.tensor([70.0, 14.0, 20.0]), (10.0, 2.0, 2.0), 8)
    ramp = torch.linspace(70.0, 99.5, SIDE)
    source[:8, :, 0] = ramp
    source[:8, :, 1:] = torch.tensor([8.0, 10.0]) * (1.0 - (ramp[:, None] - 70.0) / 30.0)
    target = shaded(torch.tensor([93.0, 4.0, 9.0]), (4.0, 1.0, 1.0), 9)
    drawn, meant = lab_to_srgb(source)[None], lab_to_srgb(target)[None]
    weight = torch.ones(1, SIDE, SIDE)
    result = toned(srgb_to_lab(drawn), srgb_to_lab(meant), weight, weight, 1.0, method)[0]
    assert float(result.max()) < 1.0
    lightness = srgb_to_lab(result)[4, :, 0]
    assert float(lightness.max()) < BRIGHTEST
    assert bool((lightness.diff() > 0).all())


def test_a_flat_histogram_makes_no_steps() -> None:
    """Where the target has but two tones, exact matching would draw two flat patches with an edge between."""
    source = shaded(torch.tensor([60.0, 14.0, 20.0]), (8.0, 2.0, 2.0), 10)
    source[..., 0] = 40.0 + 40.0 * torch.linspace(0, 1, SIDE)
    target = torch.tensor([50.0, 12.0, 18.0]).repeat(SIDE, SIDE, 1)
    target[:, : SIDE // 2, 0] = 70.0
    result = match_histogram(source, target, ones(source), ones(target))
    steps = result[0, :, 0].diff() / source[0, :, 0].diff()
    assert float(steps.min()) > 0.35
    assert float(steps.max()) < 1.85
    assert float(result[..., 0].mean()) == pytest.approx(60.0, abs=0.3)


TONES = st.tuples(st.floats(2.0, 98.0), st.floats(-30.0, 60.0), st.floats(-30.0, 60.0))
SPREADS = st.tuples(st.floats(0.0, 15.0), st.floats(0.0, 8.0), st.floats(0.0, 8.0))


@settings(max_examples=30, deadline=None)
@given(
    have=TONES,
    want=TONES,
    spreads=st.tuples(SPREADS, SPREADS),
    strength=st.floats(0.0, 1.0),
    method=st.sampled_from(METHODS),
    covered=st.booleans(),
)
def test_any_two_faces_give_a_picture(
    have: tuple[float, float, float],
    want: tuple[float, float, float],
    spreads: tuple[tuple[float, float, float], tuple[float, float, float]],
    strength: float,
    method: ColourMethod,
    covered: bool,
) -> None:
    """Flat ones, colours sRGB has not, and faces of which no pixel counts."""
    drawn = lab_to_srgb(shaded(torch.tensor(have), spreads[0], 11, 24))[None]
    target = lab_to_srgb(shaded(torch.tensor(want), spreads[1], 12, 24))[None]
    weight = torch.zeros(1, 24, 24) if covered else torch.ones(1, 24, 24)
    result = toned(srgb_to_lab(drawn), srgb_to_lab(target), weight, torch.ones(1, 24, 24), strength, method)
    assert result.shape == drawn.shape
    assert bool(result.isfinite().all())
    assert float(result.min()) >= 0.0
    assert float(result.max()) <= 1.0


def test_skin_is_what_looks_like_the_cheeks() -> None:
    tones = monk_lab()
    for step in range(10):
        lab = shaded(tones[step], (4.0, 1.0, 1.0), 13, 128)
        face = lab.clone()
        hair, cloth = slice(0, 20), slice(112, 128)
        face[hair] = torch.tensor([85.0 if tones[step, 0] < 50 else 15.0, 3.0, 5.0])
        face[cloth] = torch.tensor([50.0, -30.0, -20.0])
        # A lock of hair over one cheek.
        face[56:100, 40:52] = face[0, 0]
        weight = skin_weights(face[None], torch.from_numpy(ARCFACE_128 * 128.0).float()[None])[0]
        assert float(weight[hair].max()) < 0.05
        assert float(weight[cloth].max()) < 0.05
        assert float(weight[60:96, 42:50].max()) < 0.05
        assert float(weight[30:54, 20:108].mean()) > 0.8
