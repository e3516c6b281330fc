"""Portraits are reproducible, are found by a face cascade, and are what their ground truth says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flux_face.nodes.face.classic.detect import find_candidates
from flux_face.starter.portrait import MONK_TONES, PortraitSpec, SkinDefect
from flux_face.starter.renderer import render, render_with_truth
from flux_face.starter.vocabulary import sample_spec


def test_same_spec_same_pixels() -> None:
    spec = sample_spec(np.random.default_rng(3))
    assert np.array_equal(render(spec), render(spec))
    assert render(spec, 128).shape == (128, 128, 3)


def test_picture_is_in_range() -> None:
    picture = render(PortraitSpec(illuminant=(1.4, 1.0, 0.6)))
    assert picture.dtype == np.float32
    assert picture.min() >= 0.0
    assert picture.max() <= 1.0


@pytest.mark.parametrize("skin", range(1, 11))
def test_one_face_is_found_in_portraits_of_every_tone(skin: int) -> None:
    rng = np.random.default_rng(skin)
    greys = [render(replace(sample_spec(rng), skin=skin)).mean(axis=-1) for _ in range(8)]
    assert sum(len(find_candidates(grey)) == 1 for grey in greys) >= 6


def test_skin_mask_covers_skin_of_the_asked_tone() -> None:
    for skin, tone in enumerate(MONK_TONES, start=1):
        picture, truth = render_with_truth(PortraitSpec(skin=skin))
        median = np.median(picture[truth.skin > 0.95], axis=0)
        # Shading takes some light off, in proportion to the tone.
        share = median / np.array(tone)
        assert share.min() > 0.84, skin
        assert share.max() < 1.06, skin


def test_landmarks_lie_on_the_features() -> None:
    picture, truth = render_with_truth(PortraitSpec(tilt=5.0, shift=(0.02, -0.01)))
    for x, y in (truth.left_eye, truth.right_eye):
        assert picture[round(y), round(x)].max() < 0.35, "a pupil is dark"
    assert truth.skin[round(truth.nose[1]), round(truth.nose[0])] > 0.9
    assert truth.points()[1, 1] > truth.points()[0, 1], "a positive tilt lowers the right eye"


@pytest.mark.parametrize("defect", [defect for defect in SkinDefect if defect is not SkinDefect.NONE])
def test_defect_changes_skin_only(defect: SkinDefect) -> None:
    plain, truth = render_with_truth(PortraitSpec())
    spoilt = render(PortraitSpec(defect=defect))
    change = np.abs(spoilt - plain).max(axis=-1)
    assert change[truth.skin == 0.0].max() == 0.0
    assert change[truth.skin > 0.95].mean() > 0.08
