"""Alignment against OpenCV and scikit-image, and what pasting may touch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch.utils._python_dispatch import TorchDispatchMode

from flux_face.nodes.face.align import (
    ARCFACE_128,
    Border,
    Matrix,
    Patch,
    compose,
    covered,
    crop_face,
    crop_faces,
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


def test_crops_of_several_images_equal_warp_affine() -> None:
    """In one call, whatever images they are of: neighbours, one several times, any order."""
    pictures = np.stack([smooth_picture(151, 203, seed) for seed in range(4)])
    index = [2, 0, 1, 2, 3, 3, 3, 0, 0, 2, 1]
    rng = np.random.default_rng(5)
    matrices = [turned(rng.uniform(0.4, 2.0), rng.uniform(-60, 60), *rng.uniform(-60, 20, 2)) for _ in index]
    ours = crop_faces(torch.from_numpy(pictures), index, matrices, (96, 64), "border", antialias=False)
    assert ours.permute(0, 3, 1, 2).is_contiguous()
    for crop, image, matrix in zip(ours, index, matrices, strict=True):
        expected = cv2.warpAffine(pictures[image], matrix, (64, 96), borderMode=cv2.BORDER_REPLICATE)
        assert np.abs(crop.numpy() - expected).max() < 1 / 255


@pytest.mark.parametrize("border", ["zeros", "border"])
def test_crops_together_equal_crops_alone(border: Border) -> None:
    """With some of them box-filtered and one wholly outside its image."""
    images = torch.rand(3, 90, 121, 4)
    index = [0, 0, 1, 2, 2, 1]
    matrices = [
        turned(scale, degrees, 5.0, -8.0)
        for scale, degrees in ((1.0, 10), (0.3, -20), (0.4, 3), (1.6, 0), (0.2, 90), (1, 0))
    ]
    matrices[3][:, 2] = (700.0, 500.0)
    together = crop_faces(images, index, matrices, (33, 41), border)
    for crop, image, matrix in zip(together, index, matrices, strict=True):
        torch.testing.assert_close(crop, crop_face(images[image], matrix, (33, 41), border), atol=2e-6, rtol=0)
    corner = images[2, 0, 0].expand(33, 41, 4) if border == "border" else torch.zeros(33, 41, 4)
    torch.testing.assert_close(together[3], corner)


def test_no_crops() -> None:
    assert crop_faces(torch.rand(2, 50, 60, 3), [], [], (32, 16)).shape == (0, 32, 16, 3)


@pytest.mark.parametrize("antialias", [False, True])
def test_a_crop_reads_only_what_it_covers(antialias: bool) -> None:
    matrix = turned(0.3, 15.0, -40.0, -60.0)
    region = covered(matrix, (64, 64), 480, 640)
    assert (region.x1 - region.x0) * (region.y1 - region.y0) < 0.4 * 480 * 640
    image = torch.full((480, 640, 3), torch.nan)
    image[region.y0 : region.y1, region.x0 : region.x1] = 0.25
    # What is not a number would not come out as one.
    torch.testing.assert_close(crop_face(image, matrix, (64, 64), antialias=antialias), torch.full((64, 64, 3), 0.25))


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that any operation made."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and not func.is_view and not func._schema.is_mutable:
            self.elements = max(self.elements, result.untyped_storage().nbytes() // result.element_size())
        return result


def test_faces_in_huge_frames() -> None:
    """Positions stay exact at 8192 pixels, and no crop copies the frame."""
    ramp = torch.arange(8192, dtype=torch.float32) / 64.0
    image = torch.stack([ramp.expand(8192, 8192), ramp[:, None].expand(8192, 8192)], dim=-1)[None]
    small = turned(1.0, 0.0, -8000.25, -8050.5)
    large = turned(1 / 16, 0.0, -400.0, -300.0)
    with Largest() as used:
        crops = crop_faces(image, [0, 0], [small, large], (128, 96))
    where = torch.arange(96) + 8000.25
    torch.testing.assert_close(crops[0, :, :, 0] * 64.0, where.expand(128, 96), atol=0.01, rtol=0)
    # Box-filtered, each crop pixel is the mean of sixteen, so its centre lies half of them further on.
    middle = 16.0 * (torch.arange(96) + 400.0)
    torch.testing.assert_close(crops[1, 1:-1, 1:-1, 0] * 64.0, middle[1:-1].expand(126, 94), atol=0.05, rtol=0)
    assert used.elements < 1.1 * 2 * (16 * 128) * (16 * 96)


def test_reduction_is_filtered() -> None:
    stripes = torch.zeros(256, 256, 3)
    stripes[:, ::2] = 1.0
    matrix = np.array([[0.125, 0.0, 0.0], [0.0, 0.125, 0.0]])
    assert crop_face(stripes, matrix, (32, 32))[4:-4, 4:-4].sub(0.5).abs().max() < 0.01


def composed(
    frame: npt.NDArray[np.float32], pixels: npt.NDArray[np.float32], mask: npt.NDArray[np.float32], matrix: Matrix
) -> npt.NDArray[np.float64]:
    """The whole frame with a patch in it, by scipy and in float64."""
    y, x = np.mgrid[: frame.shape[0], : frame.shape[1]].astype(np.float64)
    at = [matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2], matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]]
    planes = [*np.moveaxis(pixels, -1, 0), mask]
    *colour, share = (
        ndimage.map_coordinates(plane.astype(np.float64), at, order=1, mode="nearest") for plane in planes
    )
    result: npt.NDArray[np.float64] = frame + share[..., None] * (np.stack(colour, axis=-1) - frame)
    return result


@given(
    scale=st.floats(0.55, 3.0),
    degrees=st.floats(-180, 180),
    x=st.floats(-60, 460),
    y=st.floats(-60, 360),
    seed=st.integers(0, 9),
)
@settings(max_examples=40, deadline=None)
def test_paste_equals_a_composition_of_the_whole_frame(
    scale: float, degrees: float, x: float, y: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    frame, pixels = smooth_picture(301, 403, seed), smooth_picture(70, 90, seed + 1)
    mask = np.zeros((70, 90), np.float32)
    top, left = rng.integers(1, 30, 2)
    mask[top:-3, left:-12] = rng.random((67 - top, 78 - left))
    matrix = compose(np.array([[1.0, 0.0, 45.0], [0.0, 1.0, 35.0]]), invert(turned(scale, degrees, x, y)))
    ours, touched = torch.from_numpy(frame.copy()), torch.zeros(301, 403)
    paste(ours, touched, Patch(torch.from_numpy(pixels), torch.from_numpy(mask), matrix))
    np.testing.assert_allclose(ours.numpy(), composed(frame, pixels, mask, matrix), atol=2e-4)
    assert torch.equal(ours[touched == 0], torch.from_numpy(frame)[touched == 0])


@pytest.mark.parametrize(("height", "width"), [(601, 403), (600, 403), (402, 604)])
@pytest.mark.parametrize("degrees", [0.0, 33.0, -90.0])
def test_large_faces_equal_a_composition_of_the_whole_frame(degrees: float, height: int, width: int) -> None:
    """Larger ones than are pasted in one thread, at both ends of the frame and beyond."""
    frame, pixels = smooth_picture(height, width), smooth_picture(70, 90, 1)
    mask = np.zeros((70, 90), np.float32)
    mask[2:-1, 3:-2] = np.random.default_rng(0).random((67, 85))
    matrix = compose(np.array([[1.0, 0.0, 45.0], [0.0, 1.0, 35.0]]), invert(turned(9.0, degrees, width / 2, 330.25)))
    ours, touched = torch.from_numpy(frame.copy()), torch.zeros(height, width)
    paste(ours, touched, Patch(torch.from_numpy(pixels), torch.from_numpy(mask), matrix))
    assert int((touched > 0).sum()) > 2**16
    np.testing.assert_allclose(ours.numpy(), composed(frame, pixels, mask, matrix), atol=2e-4)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (37, 1), (23, 57)])
def test_frames_of_any_size(size: tuple[int, int]) -> None:
    frame = torch.rand(*size, 4)
    before = frame.clone()
    touched = torch.zeros(size)
    paste(frame, touched, Patch(torch.rand(32, 32, 3), torch.ones(32, 32), turned(1.0, 0.0, 6.0, 6.0)))
    assert float(touched[0, 0]) == 1.0
    assert not torch.equal(frame[..., :3], before[..., :3])
    assert torch.equal(frame[..., 3], before[..., 3])


def test_a_face_of_eight_pixels() -> None:
    """Its drawing, made at sixteen times the size, is averaged, and its mask still covers it."""
    stripes = torch.zeros(128, 128, 3)
    stripes[:, ::2] = 1.0
    frame, touched = torch.full((40, 50, 3), 0.25), torch.zeros(40, 50)
    paste(frame, touched, Patch(stripes, box_mask(128, 0.1, frame), turned(16.0, 0.0, -160.0, -240.0)))
    inside = frame[17:21, 12:16]
    torch.testing.assert_close(inside, torch.full_like(inside, 0.5), atol=0.02, rtol=0)
    assert float(touched[17:21, 12:16].min()) > 0.95
    assert int((touched > 0).sum()) <= 10 * 10
    assert torch.equal(frame[touched == 0], torch.full_like(frame, 0.25)[touched == 0])


def test_the_later_of_two_patches_lies_on_top() -> None:
    frame, touched = torch.zeros(64, 64, 3), torch.zeros(64, 64)
    for value, shift in ((0.3, -4.0), (0.9, -20.0)):
        pixels, mask = torch.full((32, 32, 3), value), box_mask(32, 0.1, frame)
        paste(frame, touched, Patch(pixels, mask, turned(1.0, 0.0, shift, -10.0)))
    torch.testing.assert_close(frame[26, 10], torch.full((3,), 0.3))
    torch.testing.assert_close(frame[26, 30], torch.full((3,), 0.9))
    assert float(touched[26, 10]) == float(touched[26, 30]) == 1.0


def test_an_empty_mask_pastes_nothing() -> None:
    frame, touched = torch.rand(64, 64, 3), torch.zeros(64, 64)
    before = frame.clone()
    paste(frame, touched, Patch(torch.rand(32, 32, 3), torch.zeros(32, 32), turned(1.0, 0.0, 0.0, 0.0)))
    assert torch.equal(frame, before)
    assert float(touched.max()) == 0.0


def test_pasting_needs_memory_for_the_patch_only() -> None:
    frame, touched = torch.zeros(2048, 2048, 3), torch.zeros(2048, 2048)
    patch = Patch(torch.ones(128, 128, 3), box_mask(128, 0.1, frame), turned(0.0625, 10.0, 0.0, 0.0))
    with Largest() as used:
        paste(frame, touched, patch)
    assert float(touched.max()) == 1.0
    # Four planes of the patch are the largest, on a face that fills the frame.
    assert used.elements <= 4 * 128 * 128


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
