"""The onnx engine against insightface's own classes on the same graphs."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from flux_face.nodes.face.align import ARCFACE_112_V2
from flux_face.nodes.face.contracts import SWAPPERS, SwapperContract
from flux_face.nodes.face.onnx_engine import OnnxEngine
from flux_face.nodes.face.scrfd import Scrfd
from flux_face.nodes.face.session import OnnxSession
from flux_face.nodes.face.types import Face

from . import graphs

cv2 = pytest.importorskip("cv2")
model_zoo = pytest.importorskip("insightface.model_zoo")

Bytes = npt.NDArray[np.uint8]

INSWAPPER = SWAPPERS[0]


@pytest.fixture(scope="module")
def photo() -> Bytes:
    import insightface

    path = Path(insightface.__file__).parent / "data" / "images" / "t1.jpg"
    return np.asarray(Image.open(path).convert("RGB"))


def as_image(rgb: Bytes) -> torch.Tensor:
    return torch.from_numpy(rgb.astype(np.float32) / 255.0)


def as_bgr(rgb: Bytes) -> Bytes:
    return np.ascontiguousarray(rgb[..., ::-1])


def face_at(x: float, y: float, size: float, tilt: float = 8.0) -> Face:
    """A face whose five points fit the template, turned by `tilt` degrees."""
    angle = np.radians(tilt)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    points = ((ARCFACE_112_V2 - 0.5) @ turn * size + (x, y)).astype(np.float32)
    half = size / 2
    return Face((x - half, y - half, x + half, y + half), 0.9, points)


def insightface_swapper(path: Path) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        return model_zoo.inswapper.INSwapper(model_file=str(path))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("models")
    graphs.scrfd(base / "det_10g.onnx")
    graphs.arcface(base / "w600k_r50.onnx")
    graphs.swapper(base / "inswapper_128.onnx", emap=graphs.random_emap())
    return base


def make_engine(folder: Path, swapper: Path | None = None, contract: SwapperContract = INSWAPPER) -> OnnxEngine:
    return OnnxEngine(
        OnnxSession(folder / "det_10g.onnx", "cpu"),
        OnnxSession(folder / "w600k_r50.onnx", "cpu"),
        OnnxSession(swapper or folder / "inswapper_128.onnx", "cpu"),
        contract,
    )


@pytest.mark.parametrize("crop", [(640, 640), (640, 480), (500, 640)])
def test_detection_equals_insightface(folder: Path, photo: Bytes, crop: tuple[int, int]) -> None:
    rgb = photo[: crop[0], : crop[1]]
    reference = model_zoo.scrfd.SCRFD(model_file=str(folder / "det_10g.onnx"), static_shape_sessions=False)
    boxes, points = reference.detect(as_bgr(rgb), input_size=(640, 640))
    assert 3 < len(boxes) < 2000
    faces = Scrfd(OnnxSession(folder / "det_10g.onnx", "cpu")).detect(as_image(rgb))
    assert len(faces) == len(boxes)
    order = sorted(range(len(boxes)), key=lambda i: (-boxes[i, 4], boxes[i, 0], boxes[i, 1]))
    ours = sorted(faces, key=lambda face: (-face.score, face.box[0], face.box[1]))
    for face, i in zip(ours, order, strict=True):
        np.testing.assert_allclose(face.box, boxes[i, :4], atol=1e-3)
        np.testing.assert_allclose(face.landmarks, points[i], atol=1e-3)
        assert face.score == pytest.approx(float(boxes[i, 4]), abs=1e-5)


def test_embeddings_equal_insightface(folder: Path, photo: Bytes) -> None:
    engine = make_engine(folder)
    reference = model_zoo.arcface_onnx.ArcFaceONNX(model_file=str(folder / "w600k_r50.onnx"))
    faces = [face_at(780, 400, 130), face_at(515, 330, 150, -15), face_at(60, 300, 160, 20)]
    ours = engine.embeddings(as_image(photo), faces)
    for face, vector in zip(faces, ours, strict=True):
        theirs = reference.get_feat(_norm_crop(photo, face, 112)).flatten()
        np.testing.assert_allclose(vector / np.linalg.norm(vector), theirs / np.linalg.norm(theirs), atol=1e-3)


def _norm_crop(rgb: Bytes, face: Face, size: int) -> Bytes:
    from insightface.utils import face_align

    with pytest.warns(FutureWarning):
        crop: Bytes = face_align.norm_crop(as_bgr(rgb), face.landmarks, size)
    return crop


def test_swap_equals_insightface(folder: Path, photo: Bytes) -> None:
    engine = make_engine(folder)
    reference = insightface_swapper(folder / "inswapper_128.onnx")
    target = face_at(780, 400, 130)
    source = engine.source(as_image(photo), face_at(515, 330, 150, -15))
    assert source.face.embedding is not None
    raw = source.face.embedding
    theirs, matrix = reference.get(
        as_bgr(photo),
        SimpleNamespace(kps=target.landmarks),
        SimpleNamespace(normed_embedding=raw / np.linalg.norm(raw)),
        paste_back=False,
    )
    crop, ours_matrix = engine.aligned(as_image(photo), target)
    np.testing.assert_allclose(ours_matrix, matrix, rtol=1e-4, atol=1e-3)
    ours = engine.swap_crops(crop[None], source)[0]
    difference = np.abs((ours.numpy() * 255).astype(np.uint8).astype(int) - theirs[..., ::-1].astype(int))
    assert difference.max() <= 1
