"""Sex, age and contour against insightface's own classes on the same graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from flux_face.nodes.errors import UserInputError
from flux_face.nodes.face.attributes import FaceAttributes
from flux_face.nodes.face.contracts import ATTRIBUTES
from flux_face.nodes.face.types import Face

from . import graphs, samples

pytest.importorskip("cv2")
model_zoo = pytest.importorskip("insightface.model_zoo")

Bytes = npt.NDArray[np.uint8]

SEX_AGE = next(contract for contract in ATTRIBUTES if contract.reads == "sex_age")
CONTOUR = next(contract for contract in ATTRIBUTES if contract.reads == "contour")

Box = tuple[float, float, float, float]

# Upright, wide, tall, reaching out of the picture, and tiny ones. Odd numbers, as detectors give: with round ones many
# pixels fall half way between two levels, where the last bit of the arithmetic decides.
BOXES: list[Box] = [
    (480.137, 260.411, 560.293, 370.519),
    (100.733, 80.177, 400.391, 160.267),
    (700.113, 200.357, 780.771, 620.209),
    (-60.273, -40.519, 140.611, 200.133),
    (600.317, 300.219, 606.737, 309.401),
]


@pytest.fixture(scope="module")
def photo() -> Bytes:
    return samples.photo()


def faces_at(boxes: list[Box]) -> list[Face]:
    return [Face(box, 0.9, np.zeros((5, 2), np.float32)) for box in boxes]


def as_images(*pictures: Bytes) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures).astype(np.float32) / 255.0)


def insightface_face(face: Face) -> dict[str, object]:
    from insightface.app.common import Face as TheirFace

    made: dict[str, object] = TheirFace(bbox=np.array(face.box, np.float32), kps=face.landmarks, det_score=0.9)
    return made


def test_sex_and_age_equal_insightface(photo: Bytes, tmp_path: Path) -> None:
    path = graphs.genderage(tmp_path / "genderage.onnx")
    reference = model_zoo.attribute.Attribute(model_file=str(path))
    assert (reference.taskname, reference.input_mean, reference.input_std) == ("genderage", 0.0, 1.0)
    bgr = samples.as_bgr(photo)
    faces = faces_at(BOXES)
    ours = FaceAttributes(samples.session(path), SEX_AGE).read(as_images(photo), [0] * len(faces), faces)
    for face, before in zip(ours, faces, strict=True):
        sex, age = reference.get(bgr, insightface_face(before))
        assert face.sex == ("female", "male")[sex]
        assert face.age is not None
        assert round(face.age) == age
        # Under another name the same class gives the network's numbers as they are.
        reference.taskname = "attribute_3"
        raw = reference.get(bgr, insightface_face(before))
        reference.taskname = "genderage"
        assert face.age / 100.0 == pytest.approx(float(raw[2]), abs=1e-3)
        assert face.box == before.box
    assert {face.sex for face in ours} == {"female", "male"}


def test_the_contour_equals_insightface(photo: Bytes, tmp_path: Path) -> None:
    path = graphs.contour(tmp_path / "2d106det.onnx")
    reference = model_zoo.landmark.Landmark(model_file=str(path))
    bgr = samples.as_bgr(photo)
    faces = faces_at(BOXES)
    ours = FaceAttributes(samples.session(path), CONTOUR).read(as_images(photo), [0] * len(faces), faces)
    for face, before in zip(ours, faces, strict=True):
        theirs = reference.get(bgr, insightface_face(before))
        assert face.contour is not None
        assert face.contour.shape == (106, 2)
        # The network's own numbers are shares of half its crop.
        unit = 0.5 * 1.5 * max(before.width, before.height)
        np.testing.assert_allclose(face.contour / unit, theirs / unit, atol=1e-3)


def test_faces_of_several_images_go_as_one_batch(photo: Bytes, tmp_path: Path) -> None:
    session = samples.session(graphs.contour(tmp_path / "2d106det.onnx"))
    network = FaceAttributes(session, CONTOUR)
    images = as_images(photo, np.ascontiguousarray(photo[:, ::-1]))
    faces = faces_at(BOXES)
    index = [0, 1, 1, 0, 1]
    for item, face in enumerate(network.read(images, index, faces)):
        alone = network.read(images[index[item]][None], [0], [faces[item]])[0]
        assert face.contour is not None
        assert alone.contour is not None
        np.testing.assert_allclose(face.contour, alone.contour, atol=1e-2)
    assert network.read(images, [], []) == []


def test_a_box_without_extent_is_read(tmp_path: Path) -> None:
    network = FaceAttributes(samples.session(graphs.genderage(tmp_path / "genderage.onnx")), SEX_AGE)
    face = network.read(torch.rand(1, 40, 40, 3), [0], faces_at([(5.0, 5.0, 5.0, 5.0)]))[0]
    assert face.age is not None
    assert np.isfinite(face.age)


def test_the_other_network_is_refused(tmp_path: Path) -> None:
    session = samples.session(graphs.genderage(tmp_path / "genderage.onnx"))
    with pytest.raises(UserInputError, match=r"genderage\.onnx") as caught:
        FaceAttributes(session, CONTOUR)
    assert caught.value.code == "onnx_contract"
