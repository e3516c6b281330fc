"""Embeddings against insightface's own class on the same graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from flux_face.nodes.errors import UserInputError
from flux_face.nodes.face.recogniser import Recogniser, space_of

from . import graphs
from .samples import Bytes, as_bgr, as_image, face_at, photo, session

pytest.importorskip("cv2")
model_zoo = pytest.importorskip("insightface.model_zoo")


def _norm_crop(rgb: Bytes, landmarks: object) -> Bytes:
    from insightface.utils import face_align

    with pytest.warns(FutureWarning):
        crop: Bytes = face_align.norm_crop(as_bgr(rgb), landmarks, 112)
    return crop


def test_faces_of_several_images_equal_insightface(tmp_path: Path) -> None:
    path = graphs.arcface(tmp_path / "w600k_r50.onnx")
    reference = model_zoo.arcface_onnx.ArcFaceONNX(model_file=str(path))
    pictures = [photo()[:, :900], np.ascontiguousarray(photo()[:, -900:])]
    faces = [face_at(780, 400, 130), face_at(515, 330, 150, -15), face_at(60, 300, 160, 20), face_at(500, 300, 140)]
    index = [0, 1, 0, 1]
    ours = Recogniser(session(path)).embeddings(torch.stack([as_image(rgb) for rgb in pictures]), index, faces)
    for place, face, vector in zip(index, faces, ours, strict=True):
        theirs = reference.get_feat(_norm_crop(pictures[place], face.landmarks)).flatten()
        np.testing.assert_allclose(vector / np.linalg.norm(vector), theirs / np.linalg.norm(theirs), atol=1e-3)


def test_no_faces_make_no_batch(tmp_path: Path) -> None:
    recogniser = Recogniser(session(graphs.arcface(tmp_path / "w600k_r50.onnx")))
    assert recogniser.embeddings(torch.zeros(1, 8, 8, 3), [], []).shape == (0, 512)


def test_one_network_under_two_names_is_one_space() -> None:
    assert space_of("arcface_w600k_r50.onnx") == space_of("w600k_r50.onnx")
    assert space_of("w600k_mbf.onnx") != space_of("w600k_r50.onnx")
    assert space_of("of-my-own.onnx") == "of-my-own.onnx"


def test_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="recogniser") as caught:
        Recogniser(session(graphs.genderage(tmp_path / "genderage.onnx")))
    assert caught.value.code == "onnx_contract"
