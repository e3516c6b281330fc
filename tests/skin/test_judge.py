"""Verdicts: fair to every tone, hard on defects, clear about reasons."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from flux_face.nodes.errors import UserInputError
from flux_face.nodes.face.types import Face
from flux_face.nodes.skin.judge import judge_image
from flux_face.nodes.skin.measure import SkinMeasurement, measure_skin
from flux_face.nodes.skin.thresholds import PRESETS, Thresholds, thresholds_for
from flux_face.nodes.skin.verdict import Verdict
from flux_face.starter.portrait import SkinDefect
from flux_face.tests.skin.portraits import ILLUMINANTS, TONES, astronaut, group, portrait

CASTS = (SkinDefect.BLUE, SkinDefect.GREEN, SkinDefect.MAGENTA, SkinDefect.RED)


def judge(image: torch.Tensor, face: Face, preset: str = "standard") -> Verdict:
    return judge_image(measure_skin(image[None], [(0, face)]), [face.width], PRESETS[preset])


@pytest.fixture(scope="module")
def healthy() -> SkinMeasurement:
    image, face = portrait(5)
    return measure_skin(image[None], [(0, face)])[0]


@pytest.mark.parametrize("illuminant", ILLUMINANTS)
@pytest.mark.parametrize("tone", TONES)
def test_healthy_skin_of_every_tone_passes_under_every_light(tone: int, illuminant: str) -> None:
    verdict = judge(*portrait(tone, illuminant=illuminant))
    assert verdict.passed, verdict.reasons
    assert verdict.score >= 0.5


@pytest.mark.parametrize("tone", TONES)
@pytest.mark.parametrize("defect", CASTS)
def test_casts_fail_on_every_tone(defect: SkinDefect, tone: int) -> None:
    codes = {reason.code for reason in judge(*portrait(tone, defect=defect)).reasons}
    assert codes & {"cast", "over_red"}


@pytest.mark.parametrize("tone", range(1, 10))
def test_grey_skin_fails(tone: int) -> None:
    """All but the deepest step, which is nearly grey by nature."""
    assert "grey" in {reason.code for reason in judge(*portrait(tone, defect=SkinDefect.GREY)).reasons}


@pytest.mark.parametrize("tone", TONES)
@pytest.mark.parametrize("defect", [SkinDefect.BURNT, SkinDefect.CRUSHED])
def test_lost_tones_fail(defect: SkinDefect, tone: int) -> None:
    assert not judge(*portrait(tone, defect=defect)).passed


@pytest.mark.parametrize("gain", [(1.0, 1.0, 1.0), (1.0, 0.9, 0.75), (0.88, 0.95, 1.0), (0.6, 0.6, 0.6)])
def test_photographs_pass_under_every_light(gain: tuple[float, float, float]) -> None:
    light = torch.tensor(gain)
    image, face = astronaut()
    assert judge(image * light, face).passed
    picture, faces = group()
    for person in faces:
        verdict = judge(picture * light, person)
        assert verdict.passed, verdict.reasons


@pytest.mark.parametrize(
    ("gain", "code"),
    [((0.5, 0.7, 1.3), "cast"), ((0.6, 1.2, 0.6), "cast"), ((1.25, 0.55, 1.2), "cast"), ((1.5, 0.55, 0.5), "over_red")],
)
def test_photographs_with_discoloured_faces_fail(gain: tuple[float, float, float], code: str) -> None:
    image, face = astronaut()
    x0, y0, x1, y1 = (int(value) for value in face.box)
    spoilt = image.clone()
    spoilt[y0:y1, x0:x1] = (spoilt[y0:y1, x0:x1] * torch.tensor(gain)).clamp(0.0, 1.0)
    assert code in {reason.code for reason in judge(spoilt, face).reasons}


def test_a_photograph_without_colour_fails() -> None:
    image, face = astronaut()
    grey = image.mean(dim=-1, keepdim=True).expand_as(image)
    assert {"grey", "monochrome"} & {reason.code for reason in judge(grey, face).reasons}


def test_a_reason_names_value_and_limits() -> None:
    verdict = judge(*portrait(4, defect=SkinDefect.GREEN))
    reason = next(reason for reason in verdict.reasons if reason.code == "cast")
    assert reason.message.startswith("cast: hue 1")
    assert "degrees, skin is 40 to 100" in reason.message
    assert reason.measured is not None
    assert reason.high is not None
    assert reason.measured > reason.high


def test_worse_skin_scores_less() -> None:
    image, face = portrait(4)
    scores = [
        judge((image * torch.tensor(gain)), face).score
        for gain in ((1.0, 1.0, 1.0), (0.85, 0.95, 1.0), (0.7, 0.85, 1.0), (0.5, 0.7, 1.0))
    ]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1]


def test_presets_grow_stricter() -> None:
    images = [portrait(tone, illuminant="sunset", seed=9) for tone in TONES]
    scores = {preset: [judge(*item, preset).score for item in images] for preset in PRESETS}
    for lenient, standard, strict in zip(*scores.values(), strict=True):
        assert lenient >= standard >= strict


def test_no_face() -> None:
    verdict = judge_image([], [], Thresholds())
    assert (verdict.passed, verdict.score, verdict.reasons[0].code) == (False, 0.0, "no_face")


def test_more_and_fewer_faces_than_expected(healthy: SkinMeasurement) -> None:
    two = judge_image([healthy, healthy], [100.0, 100.0], Thresholds())
    assert [reason.message for reason in two.reasons] == ["too_many_faces: 2 faces, expected 1"]
    one = judge_image([healthy], [100.0], Thresholds(), expected_faces=2)
    assert one.reasons[0].code == "too_few_faces"
    assert judge_image([healthy, healthy], [100.0, 100.0], Thresholds(), expected_faces=2).passed


def test_a_small_face(healthy: SkinMeasurement) -> None:
    verdict = judge_image([healthy], [20.0], Thresholds(min_face_size=48.0))
    assert [reason.message for reason in verdict.reasons] == ["face_too_small: 20 pixels, at least 48"]


def test_one_bad_face_among_several_fails_the_image(healthy: SkinMeasurement) -> None:
    blue = replace(healthy, lab=(50.0, 10.0, -40.0), balanced_lab=(50.0, 10.0, -40.0))
    assert not judge_image([healthy, blue], [100.0, 100.0], Thresholds(), expected_faces=2).passed


def test_a_cut_face(healthy: SkinMeasurement) -> None:
    verdict = judge_image([replace(healthy, seen=0.2)], [100.0], Thresholds())
    assert verdict.reasons[0].code == "face_cut"


def test_the_photo_may_be_compared() -> None:
    pale, deep = (measure_skin(image[None], [(0, face)])[0] for image, face in (portrait(2), portrait(9)))
    limits = thresholds_for("standard", max_photo_difference=20.0)
    assert judge_image([pale], [100.0], limits, photo=pale).passed
    assert judge_image([pale], [100.0], limits, photo=deep).reasons[0].code == "photo_mismatch"


def test_a_minimal_score_may_be_asked(healthy: SkinMeasurement) -> None:
    """A face a little above the least size is inside the limits but not well inside."""
    assert judge_image([healthy], [40.0], Thresholds()).passed
    verdict = judge_image([healthy], [40.0], Thresholds(min_score=0.9))
    assert verdict.reasons[0].code == "score"


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_limits_that_are_none_are_refused(value: float) -> None:
    with pytest.raises(UserInputError, match="min_face_size"):
        Thresholds(min_face_size=value)


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(UserInputError, match="lenient, standard, strict"):
        thresholds_for("harsh")
