"""Alignment against OpenCV and scikit-image, and what pasting may touch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_face.nodes.face.align import (
    ARCFACE_128,
    Matrix,
    Patch,
    compose,
    crop_face,
    invert,
    paste,
    similarity_matrix,
    transform_points,
)
from flux_face.nodes.face.blend import box_mask

cv2 = pytest.importorskip("cv2")


def smooth_picture(height: int, width: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Colourful and smooth, float32 ``[H, W, 3]``, 0..1."""
    noise = np.random.default_rng(seed).random((height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4.0)
    low, high = smooth.min(), smooth.max()
    return np.ascontiguousarray((smooth - low) / (high - low))


def turned(scale: float, degrees: float, x: float, y: float) -> Matrix:
    angle = np.radians(degrees)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[cos, -sin, x], [sin, cos, y]])


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_similarity_equals_umeyama(seed: int) -> None:
    from skimage.transform import SimilarityTransform

    rng = np.random.default_rng(seed)
    truth = turned(rng.uniform(0.1, 4.0), rng.uniform(-180, 180), rng.uniform(-50, 50), rng.uniform(-50, 50))
    template = ARCFACE_128 * 128
    points = transform_points(template, truth) + rng.normal(0, 2, (5, 2)).astype(np.float32)
    expected = SimilarityTransform.from_estimate(points.astype(np.float64), template).params[:2]
    np.testing.assert_allclose(similarity_matrix(points, template), expected, atol=1e-6, rtol=1e-6)


def test_coinciding_landmarks_are_refused() -> None:
    with pytest.raises(ValueError, match="coincide"):
        similarity_matrix(np.ones((5, 2), dtype=np.float32), ARCFACE_128)


@pytest.mark.parametrize(
    "matrix",
    [
        turned(1.0, 0.0, -40.25, -31.5),
        turned(0.7, 25.0, 10.0, -60.0),
        turned(2.3, -14.0, -150.0, -80.0),
        turned(1.0, 10.0, 90.0, 60.0),  # reaches beyond the upper left corner
    ],
)
def test_crop_equals_warp_affine(matrix: Matrix) -> None:
    picture = smooth_picture(151, 203)
    for border, flag in (("zeros", cv2.BORDER_CONSTANT), ("border", cv2.BORDER_REPLICATE)):
        expected = cv2.warpAffine(picture, matrix, (128, 128), flags=cv2.INTER_LINEAR, borderMode=flag)
        ours = crop_face(torch.from_numpy(picture), matrix, (128, 128), border=border, antialias=False).numpy()  # type: ignore[arg-type]
        # Along a black border OpenCV's 1/32 pixel steps show; inside they do not.
        assert np.quantile(np.abs(ours - expected), 0.995) < 1 / 255
        if border == "border":
            assert np.abs(ours - expected).max() < 1 / 255


def test_reduction_is_filtered() -> None:
    stripes = torch.zeros(256, 256, 3)
    stripes[:, ::2] = 1.0
    matrix = np.array([[0.125, 0.0, 0.0], [0.0, 0.125, 0.0]])
    assert crop_face(stripes, matrix, (32, 32))[4:-4, 4:-4].sub(0.5).abs().max() < 0.01


@given(
    scale=st.floats(0.2, 3.0),
    degrees=st.floats(-180, 180),
    x=st.floats(-40, 240),
    y=st.floats(-40, 200),
    seed=st.integers(0, 9),
)
@settings(max_examples=40, deadline=None)
def test_paste_touches_only_what_the_mask_covers(scale: float, degrees: float, x: float, y: float, seed: int) -> None:
    frame = torch.from_numpy(smooth_picture(161, 203, seed))
    before = frame.clone()
    to_crop = compose(np.array([[1.0, 0.0, 32.0], [0.0, 1.0, 32.0]]), invert(turned(scale, degrees, x, y)))
    touched = torch.zeros(161, 203)
    paste(frame, touched, Patch(torch.rand(64, 64, 3), box_mask(64, 0.2, frame), to_crop))
    assert torch.equal(frame[touched == 0], before[touched == 0])
    corners = transform_points(np.array([[-1, -1], [64, -1], [64, 64], [-1, 64]]), invert(to_crop))
    inside = cv2.fillConvexPoly(np.zeros((161, 203), np.uint8), np.round(corners).astype(np.int32), 1)
    assert float(touched[torch.from_numpy(cv2.dilate(inside, np.ones((5, 5)))) == 0].sum()) == 0.0


def test_a_pasted_crop_of_the_frame_changes_nothing_visible() -> None:
    frame = torch.from_numpy(smooth_picture(200, 200))
    before = frame.clone()
    matrix = turned(0.8, 12.0, 8.0, -30.0)
    touched = torch.zeros(200, 200)
    paste(frame, touched, Patch(crop_face(frame, matrix, (128, 128)), box_mask(128, 0.2, frame), matrix))
    assert touched.max() > 0.99
    assert (frame - before).abs().max() < 4 / 255
