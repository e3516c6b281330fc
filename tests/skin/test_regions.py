"""The face frame and its zones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flux_face.nodes.face.types import Face
from flux_face.nodes.skin.regions import face_frames, zones
from flux_face.starter.portrait import PortraitSpec
from flux_face.starter.renderer import render_with_truth
from flux_face.tests.skin.portraits import face_at

UPRIGHT = np.array([(40, 50), (80, 50), (60, 70), (45, 90), (75, 90)], dtype=np.float32)


def to_pixels(face: Face, *points: tuple[float, float]) -> list[list[float]]:
    found: list[list[float]] = face_frames([face]).to_pixels(torch.tensor(points))[0].tolist()
    return found


def test_eyes_and_mouth_are_where_the_landmarks_are() -> None:
    eyes_and_mouth = to_pixels(face_at(UPRIGHT), (-0.5, 0.0), (0.5, 0.0), (0.0, 1.0))
    assert np.allclose(eyes_and_mouth, [(40, 50), (80, 50), (60, 90)], atol=1e-3)


def test_the_frame_turns_with_the_head() -> None:
    angle = np.deg2rad(25.0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], dtype=np.float32)
    face = face_at(UPRIGHT @ turn.T)
    chin = np.array(to_pixels(face_at(UPRIGHT), (0.0, 1.7))[0])
    assert np.allclose(to_pixels(face, (0.0, 1.7))[0], turn @ chin, atol=1e-2)


def test_a_profile_is_not_measured_as_a_narrow_face() -> None:
    points = UPRIGHT.copy()
    points[:2, 0] = (58, 62)
    left, right = to_pixels(face_at(points), (-0.5, 0.0), (0.5, 0.0))
    assert right[0] - left[0] == pytest.approx(0.75 * 40.0)


@pytest.mark.parametrize(
    "points",
    [
        np.full((5, 2), 60.0),
        np.full((5, 2), np.nan),
        UPRIGHT[[1, 0, 2, 4, 3]],
        np.array([(40, 90), (80, 90), (60, 70), (45, 50), (75, 50)]),
    ],
    ids=["coincident", "nan", "mirrored", "upside down"],
)
def test_impossible_landmarks_fall_back_to_the_box(points: np.ndarray) -> None:
    face = Face((30.0, 30.0, 90.0, 110.0), 1.0, points.astype(np.float32))
    ((x, y),) = to_pixels(face, (0.0, 0.5))
    assert 50 < x < 70
    assert 60 < y < 90


@pytest.mark.parametrize("seed", range(4))
def test_the_skin_zone_holds_skin(seed: int) -> None:
    """Against the renderer's own mask: hair and glasses aside, what is measured is skin."""
    rng = np.random.default_rng(seed)
    spec = PortraitSpec(
        hair_style=("short", "bald", "medium", "curly")[seed],
        tilt=float(rng.uniform(-15, 15)),
        femininity=float(rng.random()),
        smile=float(rng.random()),
    )
    _, truth = render_with_truth(spec, 256)
    x, y = face_frames([face_at(truth.points())]).to_pixels(zones().skin)[0].long().T
    assert truth.skin[y, x].mean() > 0.9


def test_zones_do_not_overlap() -> None:
    zone = zones()
    for part in (zone.eyes, zone.lips, zone.neck):
        assert torch.cdist(zone.skin, part).min() > 0.005
