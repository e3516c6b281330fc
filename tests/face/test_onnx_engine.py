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

from flux_face.nodes.errors import UserInputError
from flux_face.nodes.face.align import ARCFACE_112_V2, similarity_matrix
from flux_face.nodes.face.contracts import SWAPPERS, SwapperContract
from flux_face.nodes.face.engines import SwapSettings
from flux_face.nodes.face.onnx_engine import OnnxEngine
from flux_face.nodes.face.onnx_file import OnnxFileError, matrix_of_shape
from flux_face.nodes.face.ort_session import OrtSession
from flux_face.nodes.face.scrfd import Scrfd
from flux_face.nodes.face.swap import photo_identity, swap_faces
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
        OrtSession(folder / "det_10g.onnx", "cpu"),
        OrtSession(folder / "w600k_r50.onnx", "cpu"),
        OrtSession(swapper or folder / "inswapper_128.onnx", "cpu"),
        contract,
    )


@pytest.mark.parametrize("crop", [(640, 640), (640, 480), (500, 640)])
def test_detection_equals_insightface(folder: Path, photo: Bytes, crop: tuple[int, int]) -> None:
    rgb = photo[: crop[0], : crop[1]]
    reference = model_zoo.scrfd.SCRFD(model_file=str(folder / "det_10g.onnx"), static_shape_sessions=False)
    boxes, points = reference.detect(as_bgr(rgb), input_size=(640, 640))
    assert 3 < len(boxes) < 2000
    faces = Scrfd(OrtSession(folder / "det_10g.onnx", "cpu")).detect(as_image(rgb))
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
    source = engine.identity(as_image(photo), face_at(515, 330, 150, -15))
    assert source.embedding is not None
    raw = source.embedding
    theirs, matrix = reference.get(
        as_bgr(photo),
        SimpleNamespace(kps=target.landmarks),
        SimpleNamespace(normed_embedding=raw / np.linalg.norm(raw)),
        paste_back=False,
    )
    crop, ours_matrix = engine.aligned(as_image(photo), target)
    np.testing.assert_allclose(ours_matrix, matrix, rtol=1e-4, atol=1e-3)
    ours = engine.swap_crops(crop[None], engine.source_vector(source)[None])[0]
    difference = np.abs((ours.numpy() * 255).astype(np.uint8).astype(int) - theirs[..., ::-1].astype(int))
    assert difference.max() <= 1


def test_a_larger_picture_is_reduced_as_by_insightface(folder: Path, photo: Bytes) -> None:
    """To one of 255 levels: OpenCV rounds its weights to 1/2048."""
    blob, scale = Scrfd(OrtSession(folder / "det_10g.onnx", "cpu")).blob(as_image(photo))
    assert scale == pytest.approx(0.5, abs=1e-3)
    rows = int(640 * photo.shape[0] / photo.shape[1])
    expected = np.zeros((640, 640, 3), np.float32)
    expected[:rows] = cv2.resize(photo, (640, rows))
    ours = blob[0].permute(1, 2, 0).numpy() * 128 + 127.5
    assert np.abs(ours - expected).max() <= 1.001


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("last", [True, False])
def test_the_projection_is_found_by_its_shape(tmp_path: Path, dtype: Any, last: bool) -> None:
    emap = graphs.random_emap(dtype)
    path = graphs.swapper(tmp_path / "inswapper_128.onnx", emap=emap, emap_last=last)
    np.testing.assert_array_equal(matrix_of_shape(path, 512, 512), emap.astype(np.float32))


def test_files_that_are_no_models_are_refused(tmp_path: Path) -> None:
    for content in (b"", b"not a model at all", bytes(range(256)) * 40):
        path = tmp_path / "broken.onnx"
        path.write_bytes(content or b"\0")
        with pytest.raises(OnnxFileError):
            matrix_of_shape(path, 512, 512)
        with pytest.raises(UserInputError) as caught:
            OrtSession(path, "cpu")
        assert caught.value.code == "onnx_contract"


def test_a_swapper_without_projection_is_named(folder: Path, tmp_path: Path) -> None:
    path = graphs.swapper(tmp_path / "inswapper_128.onnx")
    with pytest.raises(UserInputError, match="512x512 initializer") as caught:
        make_engine(folder, path)
    assert caught.value.code == "onnx_contract"


def test_swapped_roles_are_named(folder: Path) -> None:
    with pytest.raises(UserInputError, match="recogniser") as caught:
        OnnxEngine(
            OrtSession(folder / "det_10g.onnx", "cpu"),
            OrtSession(folder / "inswapper_128.onnx", "cpu"),
            OrtSession(folder / "inswapper_128.onnx", "cpu"),
            INSWAPPER,
        )
    assert caught.value.code == "onnx_contract"
    with pytest.raises(UserInputError, match=r"input\.1"):
        make_engine(folder, folder / "w600k_r50.onnx")


def test_a_gpu_that_is_not_there_is_an_error(folder: Path) -> None:
    import onnxruntime

    if any(
        name.split("Exec")[0] in ("CUDA", "ROCM", "Dml", "CoreML") for name in onnxruntime.get_available_providers()
    ):
        pytest.skip("this onnxruntime can use a GPU")
    with pytest.raises(UserInputError) as caught:
        OrtSession(folder / "det_10g.onnx", "gpu")
    assert caught.value.code == "provider_inactive"
    session = OrtSession(folder / "det_10g.onnx", "auto")
    assert session.provider == "CPUExecutionProvider"
    assert "CPU" in session.note


def test_a_free_batch_equals_batch_one(folder: Path, photo: Bytes, tmp_path: Path) -> None:
    emap = graphs.random_emap()
    free = make_engine(folder, graphs.swapper(tmp_path / "inswapper_128.onnx", emap=emap, batch="n"))
    fixed = make_engine(folder)
    image = as_image(photo)
    source = fixed.identity(image, face_at(515, 330, 150))
    crops = torch.stack([free.aligned(image, face_at(x, 400, 140, x / 50))[0] for x in (200, 500, 780)])
    vectors = np.repeat(fixed.source_vector(source)[None], len(crops), axis=0)
    torch.testing.assert_close(free.swap_crops(crops, vectors), fixed.swap_crops(crops, vectors), atol=1e-5, rtol=0)


@pytest.mark.parametrize("contract", SWAPPERS, ids=lambda contract: contract.name)
def test_every_swapper_contract(folder: Path, photo: Bytes, tmp_path: Path, contract: SwapperContract) -> None:
    """The network's input and output against the published formulas, written out on the graph's own session."""
    hyper = contract.name.startswith("hyperswap")
    path = graphs.swapper(
        tmp_path / contract.name,
        contract.size,
        None if hyper else graphs.random_emap(),
        source_first=hyper,
        mask=hyper,
    )
    engine = make_engine(folder, path, contract)
    image = as_image(photo)
    source = engine.identity(image, face_at(515, 330, 150))
    assert source.embedding is not None
    vector = source.embedding / np.linalg.norm(source.embedding)
    if not hyper:
        vector = vector @ graphs.random_emap()
        vector = vector / np.linalg.norm(vector)
    crop, matrix = engine.aligned(image, face_at(780, 400, 130))
    expected = similarity_matrix(face_at(780, 400, 130).landmarks, _template_128() * contract.size / 128)
    np.testing.assert_allclose(matrix, expected, atol=1e-4)
    blob = crop.numpy().transpose(2, 0, 1)[None]
    blob = (blob - 0.5) / 0.5 if hyper else blob
    session = OrtSession(path, "cpu")
    feeds = {"target": torch.from_numpy(blob.astype(np.float32)), "source": torch.from_numpy(vector[None])}
    output = session.run(feeds)["output"][0].permute(1, 2, 0).numpy()
    output = output * 0.5 + 0.5 if hyper else output
    np.testing.assert_allclose(
        engine.swap_crops(crop[None], engine.source_vector(source)[None])[0].numpy(), output.clip(0, 1), atol=1e-5
    )


def _template_128() -> npt.NDArray[np.float64]:
    """insightface's five points in a crop of 128: the 112 template shifted by 8."""
    from insightface.utils.face_align import arcface_dst

    points: npt.NDArray[np.float64] = np.asarray(arcface_dst, dtype=np.float64) + np.array([8.0, 0.0])
    return points


def test_a_whole_swap_touches_only_the_face(folder: Path, photo: Bytes) -> None:
    engine = make_engine(folder)
    image = as_image(photo)[None, :640, :640]
    source = engine.identity(image[0], face_at(515, 330, 150))
    result = swap_faces(engine, image, source, settings=SwapSettings(colour_match=0.5))
    assert result.report[0].swapped == 1
    assert torch.equal(result.images[result.mask == 0], image[result.mask == 0])
    assert result.provider == "CPUExecutionProvider"
    assert -1.0 <= result.report[0].similarity[0] <= 1.0
    assert photo_identity(engine, image, "largest").embedding is not None
