"""Detection against insightface's own class and OpenCV's own resize."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_face.nodes.errors import UserInputError
from flux_face.nodes.face.resize import resize_8bit
from flux_face.nodes.face.scrfd import CLOSE_SIDE, SIDE, Scrfd
from flux_face.nodes.face.types import Face

from . import graphs, mask_graphs, samples

cv2 = pytest.importorskip("cv2")
model_zoo = pytest.importorskip("insightface.model_zoo")

Bytes = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def photo() -> Bytes:
    return samples.photo()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("detectors")
    graphs.scrfd(base / "det_10g.onnx")
    mask_graphs.free_scrfd(base / "interleaved.onnx", leading=False)
    mask_graphs.free_scrfd(base / "leading.onnx", leading=True)
    return base


def insightface_faces(path: Path, rgb: Bytes, side: int = SIDE) -> tuple[Any, Any]:
    detector = model_zoo.scrfd.SCRFD(model_file=str(path), static_shape_sessions=False)
    boxes, points = detector.detect(samples.as_bgr(rgb), input_size=(side, side))
    return boxes, points


def assert_same(faces: Sequence[Face], boxes: Any, points: Any) -> None:
    assert len(faces) == len(boxes)
    order = sorted(range(len(boxes)), key=lambda i: (-boxes[i, 4], boxes[i, 0], boxes[i, 1]))
    ours = sorted(faces, key=lambda face: (-face.score, face.box[0], face.box[1]))
    for face, i in zip(ours, order, strict=True):
        np.testing.assert_allclose(face.box, boxes[i, :4], atol=1e-3)
        np.testing.assert_allclose(face.landmarks, points[i], atol=1e-3)
        assert face.score == pytest.approx(float(boxes[i, 4]), abs=1e-5)


SIZES = st.integers(1, 200)


@settings(max_examples=60, deadline=None)
@given(height=SIZES, width=SIZES, rows=SIZES, columns=SIZES, seed=st.integers(0, 2**32 - 1))
def test_resize_equals_opencv_to_the_bit(height: int, width: int, rows: int, columns: int, seed: int) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    ours = resize_8bit(samples.as_image(picture), rows, columns)
    np.testing.assert_array_equal(ours.numpy(), cv2.resize(picture, (columns, rows)))


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [(1280, 1280, 640, 640), (1280, 1281, 640, 640), (2000, 8192, 156, 640), (3, 1, 640, 213), (960, 640, 640, 426)],
)
def test_resize_equals_opencv_at_the_sizes_of_detection(height: int, width: int, rows: int, columns: int) -> None:
    picture = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    ours = resize_8bit(samples.as_image(picture), rows, columns)
    np.testing.assert_array_equal(ours.numpy(), cv2.resize(picture, (columns, rows)))


@pytest.mark.parametrize(
    ("height", "width"), [(640, 640), (640, 480), (500, 640), (886, 1280), (886, 301), (333, 333), (101, 97)]
)
def test_detection_equals_insightface(folder: Path, photo: Bytes, height: int, width: int) -> None:
    rgb = photo[:height, :width]
    boxes, points = insightface_faces(folder / "det_10g.onnx", rgb)
    assert 3 < len(boxes) < 5000
    assert_same(Scrfd(samples.session(folder / "det_10g.onnx")).detect(samples.as_image(rgb)), boxes, points)


@pytest.mark.parametrize("name", ["det_10g.onnx", "interleaved.onnx", "leading.onnx"])
def test_several_pictures_at_once_equal_each_alone(folder: Path, photo: Bytes, name: str) -> None:
    pictures = np.stack([photo[:500, start : start + 700] for start in (0, 130, 290, 540)])
    called: list[None] = []
    found = Scrfd(samples.session(folder / name)).detect_all(samples.as_image(pictures), lambda: called.append(None))
    assert len(called) == len(pictures)
    for faces, picture in zip(found, pictures, strict=True):
        assert_same(faces, *insightface_faces(folder / "det_10g.onnx", picture))
    assert len({len(faces) for faces in found}) > 1


def test_close_ups_are_searched_again_at_half_the_side(folder: Path, photo: Bytes, tmp_path: Path) -> None:
    images = samples.as_image(np.stack([photo[:600, :900], photo[200:800, 300:1200]]))
    never = Scrfd(samples.session(mask_graphs.quiet_scrfd(tmp_path / "a.onnx", quiet_at=SIDE)))
    for faces, start in zip(never.detect_all(images), (photo[:600, :900], photo[200:800, 300:1200]), strict=True):
        assert_same(faces, *insightface_faces(folder / "det_10g.onnx", start, CLOSE_SIDE))
    # Where 640 finds faces, 320 is not looked at.
    always = Scrfd(samples.session(mask_graphs.quiet_scrfd(tmp_path / "b.onnx", quiet_at=CLOSE_SIDE)))
    assert_same(always.detect(images[0]), *insightface_faces(folder / "det_10g.onnx", photo[:600, :900]))


def test_where_nothing_is_found_the_answer_is_empty(folder: Path, photo: Bytes) -> None:
    detector = Scrfd(samples.session(folder / "interleaved.onnx"), threshold=1.1)
    assert detector.detect_all(samples.as_image(photo[None, :64, :64])) == [[]]


@pytest.mark.parametrize(("height", "width"), [(16, 16), (1, 1), (1, 700), (2000, 1), (8192, 640)])
def test_any_size_of_picture_is_taken(folder: Path, height: int, width: int) -> None:
    detector = Scrfd(samples.session(folder / "interleaved.onnx"))
    blob, scale = detector.blob(torch.rand(height, width, 3, generator=torch.Generator().manual_seed(1)))
    assert blob.shape == (1, 3, SIDE, SIDE)
    assert scale > 0
    assert blob.isfinite().all()
    detector.detect(torch.zeros(height, width, 3))


def test_a_large_picture_is_not_copied(folder: Path) -> None:
    """A picture of one pixel's storage: a copy of it would take 200 GB."""
    huge = torch.full((1, 1, 1, 3), 0.5).expand(1, 131072, 131072, 3)
    detector = Scrfd(samples.session(folder / "interleaved.onnx"))
    blob, _ = detector.blob(huge[0])
    torch.testing.assert_close(blob, torch.full_like(blob, (128.0 - 127.5) / 128.0))
    assert len(detector.detect_all(huge)) == 1


def test_a_graph_that_loses_the_batch_is_named(tmp_path: Path) -> None:
    """Its outputs hold one picture's candidates, whatever comes in."""
    import onnx

    path = mask_graphs.free_scrfd(tmp_path / "lost.onnx", leading=True)
    model = onnx.load_model(str(path))
    for node in model.graph.node:
        if node.op_type == "AveragePool":
            node.input[0] = "first"
    starts = [onnx.numpy_helper.from_array(np.array([n], np.int64), name) for n, name in ((0, "zero"), (1, "one"))]
    model.graph.initializer.extend(starts)
    model.graph.node.insert(0, onnx.helper.make_node("Slice", ["input.1", "zero", "one", "zero"], ["first"]))
    onnx.save_model(model, str(path))
    detector = Scrfd(samples.session(path))
    with pytest.raises(UserInputError, match="2 pictures") as caught:
        detector.detect_all(torch.zeros(2, 64, 64, 3))
    assert caught.value.code == "onnx_contract"


def test_other_networks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="detector") as caught:
        Scrfd(samples.session(graphs.arcface(tmp_path / "w600k_r50.onnx")))
    assert caught.value.code == "onnx_contract"
