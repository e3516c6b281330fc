"""Newer packs of insightface: the package's networks give what ours give for the same graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from flux_face.nodes.errors import UserInputError
from flux_face.nodes.face.insightface_pack import InsightfacePack, is_pack
from flux_face.nodes.face.recogniser import Recogniser
from flux_face.nodes.face.scrfd import Scrfd
from flux_face.nodes.face.types import Face

from . import graphs
from .samples import as_image, photo, session

pytest.importorskip("insightface")


def test_faces_and_embeddings_equal_those_of_plain_files(tmp_path: Path) -> None:
    folder = graphs.pack(tmp_path / "raccoon_l")
    pack = InsightfacePack(folder, "cpu")
    assert (pack.name, pack.provider) == ("raccoon_l", "CPUExecutionProvider")
    image = as_image(photo())
    images = torch.stack([image[:640, :640], image[:640, 100:740]])
    calls: list[None] = []
    theirs = pack.detect_all(images, lambda: calls.append(None))
    assert len(calls) == 2
    ours = Scrfd(session(folder / "finder.onnx")).detect_all(images)
    for some, others in zip(theirs, ours, strict=True):
        assert len(some) == len(others) > 10
        areas = [face.width * face.height for face in some]
        assert areas == sorted(areas, reverse=True)
        for face, other in zip(by_box(some), by_box(others), strict=True):
            np.testing.assert_allclose(face.box, other.box, atol=1e-3)
            np.testing.assert_allclose(face.landmarks, other.landmarks, atol=1e-3)
    faces = [theirs[0][0], theirs[1][0], theirs[0][1]]
    vectors = pack.embeddings(images, [0, 1, 0], faces)
    np.testing.assert_allclose(
        vectors, Recogniser(session(folder / "teller.onnx")).embeddings(images, [0, 1, 0], faces), rtol=1e-3, atol=1e-3
    )
    assert pack.embeddings(images, [], []).shape[0] == 0


def by_box(faces: list[Face]) -> list[Face]:
    return sorted(faces, key=lambda face: (face.score, face.box))


def test_only_packs_of_this_kind_are_taken_for_one(tmp_path: Path) -> None:
    assert is_pack(graphs.pack(tmp_path / "raccoon_s"))
    for number, text in enumerate(("", "[]", '{"manifest_version": 1}', '{"manifest_version": 2, "tasks": []}')):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "manifest.json").write_text(text)
        assert not is_pack(folder)
    assert not is_pack(tmp_path / "nothing")


def test_a_damaged_pack_is_named(tmp_path: Path) -> None:
    folder = graphs.pack(tmp_path / "raccoon_l")
    (folder / "teller.onnx").unlink()
    with pytest.raises(UserInputError, match="raccoon_l") as caught:
        InsightfacePack(folder, "cpu")
    assert caught.value.code == "onnx_contract"
