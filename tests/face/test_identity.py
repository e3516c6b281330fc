"""Identities from several photos, and their files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from flux_face.nodes.errors import UserInputError
from flux_face.nodes.face.align import ARCFACE_112_V2, crop_face, similarity_matrix
from flux_face.nodes.face.classic.engine import ClassicEngine
from flux_face.nodes.face.engines import Placement, SwapSettings, classic_engine
from flux_face.nodes.face.identities import Combine, IdentityReport, build_identity
from flux_face.nodes.face.identity import Identity, cosine, unit
from flux_face.nodes.face.identity_file import REACTOR_RECOGNISER, file_name, load_identity, save_identity
from flux_face.nodes.face.swap import photo_identity
from flux_face.nodes.face.types import Face, FloatArray
from flux_face.starter.portrait import PortraitSpec
from flux_face.starter.renderer import render


class PixelEngine(ClassicEngine):
    """The classic engine with embeddings: the aligned face itself, 16 by 32 grey pixels about their mean."""

    def identity(self, photo: Tensor, face: Face) -> Identity:
        crop = crop_face(photo, similarity_matrix(face.landmarks, ARCFACE_112_V2 * 32), (32, 32)).mean(-1)
        grey = crop.reshape(16, 2, 32).mean(1).reshape(-1)
        vector: FloatArray = (grey - grey.mean()).numpy()
        return Identity(vector, "pixels", photo, replace(face, embedding=vector))


ENGINE = PixelEngine()


@pytest.fixture(scope="module")
def person() -> Tensor:
    """``[512, 512, 3]``."""
    import skimage.data

    return torch.from_numpy(skimage.data.astronaut()).float() / 255.0


@pytest.fixture(scope="module")
def stranger() -> Tensor:
    return torch.from_numpy(render(PortraitSpec())).float()


def softened(photo: Tensor) -> Tensor:
    """Without fine detail."""
    planes = photo.permute(2, 0, 1)[None]
    small = torch.nn.functional.interpolate(planes, scale_factor=0.4, mode="area")
    return torch.nn.functional.interpolate(small, size=planes.shape[2:], mode="bilinear")[0].permute(1, 2, 0)


def own(photo: Tensor) -> FloatArray:
    vector = photo_identity(ENGINE, photo[None]).embedding
    assert vector is not None
    return vector


def build(photos: Sequence[Tensor], **options: object) -> tuple[Identity, IdentityReport]:
    return build_identity(ENGINE, photos, **options)  # type: ignore[arg-type]  # names are checked by the call


def test_one_photo_is_kept_as_it_is(person: Tensor) -> None:
    identity, report = build([person])
    assert identity.embedding is not None
    assert np.array_equal(identity.embedding, own(person))
    assert identity.photos == 1
    assert report.to_json()["photos"] == [
        {"used": True, "similarity": None, "detail": pytest.approx(report.photos[0].detail, abs=1e-5)}
    ]


@pytest.mark.parametrize("combine", ["mean", "median"])
def test_photos_weigh_the_same_whatever_their_contrast(person: Tensor, stranger: Tensor, combine: Combine) -> None:
    photos = [person, 0.5 * person + 0.2, stranger]
    vectors = [own(photo) for photo in photos]
    units = np.stack([vector / np.linalg.norm(vector) for vector in vectors])
    expected = units.mean(0) if combine == "mean" else np.median(units, axis=0)
    identity, _ = build(photos, combine=combine)
    assert identity.embedding is not None
    assert identity.embedding.dtype == np.float32
    assert np.allclose(unit(identity.embedding), expected / np.linalg.norm(expected), atol=1e-5)
    assert np.linalg.norm(identity.embedding) == pytest.approx(np.mean([np.linalg.norm(v) for v in vectors]), rel=1e-4)
    assert identity.photos == 3


def test_the_photo_with_most_detail_is_kept(person: Tensor) -> None:
    identity, report = build([softened(person), person, softened(person)])
    assert report.best == 1
    assert identity.photo is not None
    assert torch.equal(identity.photo, person)
    assert report.photos[1].detail > 1.5 * report.photos[0].detail


def test_a_stranger_is_reported_and_left_out_if_asked(person: Tensor, stranger: Tensor) -> None:
    photos = [person, 0.8 * person, stranger, softened(person)]
    alike = cosine(own(person), own(stranger))
    assert alike < 0.75
    kept, report = build(photos, lowest_similarity=0.75)
    assert report.outliers == (2,)
    assert [item.used for item in report.photos] == [True] * 4
    cleaned, report = build(photos, lowest_similarity=0.75, outliers="leave out")
    assert report.outliers == (2,)
    assert [item.used for item in report.photos] == [True, True, False, True]
    assert cleaned.photos == 3
    assert kept.embedding is not None
    assert cleaned.embedding is not None
    assert cosine(cleaned.embedding, own(stranger)) < cosine(kept.embedding, own(stranger)) - 0.05


def test_photos_of_nobody_in_common_are_an_error(person: Tensor, stranger: Tensor) -> None:
    with pytest.raises(UserInputError, match=r"no two of the 2 photos are alike by at least 0\.9") as error:
        build([person, stranger], lowest_similarity=0.9, outliers="leave out")
    assert error.value.code == "photos_disagree"


def test_a_photo_without_a_face_is_named(person: Tensor) -> None:
    with pytest.raises(UserInputError, match="photo 2 of 3: no face was found") as error:
        build([person, torch.full((80, 120, 3), 0.5), person])
    assert error.value.code == "photo_no_face"


def test_several_faces_are_an_error_or_the_largest_counts(person: Tensor) -> None:
    pair = torch.cat([person[:, 80:380], softened(person[:, 80:380])], dim=1)
    with pytest.raises(UserInputError, match=r"photo 1 of 2: the photo shows 2 faces") as error:
        build([pair, person])
    assert error.value.code == "photo_several_faces"
    identity, _ = build([pair, person], several="largest")
    assert identity.photos == 2


def test_an_engine_without_embeddings_takes_the_best_photo(person: Tensor) -> None:
    identity, report = build_identity(classic_engine(), [softened(person), person], outliers="leave out")
    assert identity.embedding is None
    assert identity.photo is not None
    assert torch.equal(identity.photo, person)
    assert report.note == ("the classic engine works with one photo: 2 was taken, the others were not compared with it")


# Files.


@pytest.fixture
def identity(person: Tensor) -> Identity:
    made = photo_identity(ENGINE, person[None])
    assert made.face is not None
    return replace(made, recogniser="w600k_r50.onnx", photos=3, face=replace(made.face, sex="female", age=36.0))


def test_a_file_brings_back_the_embedding_without_pixels(identity: Identity, tmp_path: Path) -> None:
    path = tmp_path / "anna.safetensors"
    save_identity(identity, path, keep_photo=False)
    loaded = load_identity(path)
    assert loaded.embedding is not None
    assert np.array_equal(loaded.embedding, np.asarray(identity.embedding))
    assert (loaded.recogniser, loaded.photos, loaded.photo, loaded.face) == ("w600k_r50.onnx", 3, None, None)
    assert path.stat().st_size < 3000
    assert list(tmp_path.iterdir()) == [path]


def test_a_kept_photo_serves_the_classic_engine_as_the_whole_one(
    identity: Identity, stranger: Tensor, tmp_path: Path
) -> None:
    path = tmp_path / "anna.safetensors"
    save_identity(identity, path, keep_photo=True)
    loaded = load_identity(path)
    assert loaded.photo is not None
    assert loaded.face is not None
    assert identity.photo is not None
    assert loaded.photo.shape[1] < identity.photo.shape[1]
    assert (loaded.face.sex, loaded.face.age) == ("female", 36.0)
    engine = classic_engine()
    target = engine.detect(stranger[None]).faces[0][0]
    drawn = [
        engine.patches(stranger[None], [Placement(0, target, who)], SwapSettings())[0] for who in (identity, loaded)
    ]
    covered = drawn[0].mask > 0
    assert float((drawn[0].pixels - drawn[1].pixels)[covered].abs().max()) < 0.01


def test_saving_again_replaces_the_file(identity: Identity, tmp_path: Path) -> None:
    path = tmp_path / "anna.safetensors"
    save_identity(identity, path, keep_photo=True)
    save_identity(replace(identity, photos=7), path, keep_photo=False)
    assert load_identity(path).photos == 7
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(identity: Identity, tmp_path: Path) -> None:
    folder = tmp_path / "anna.safetensors"
    folder.mkdir()
    (folder / "inside").touch()
    with pytest.raises(OSError, match=r"anna\.safetensors"):
        save_identity(identity, folder, keep_photo=False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["anna.safetensors"]


def test_a_photo_only_identity_needs_its_photo(identity: Identity, tmp_path: Path) -> None:
    only_photo = Identity(photo=identity.photo, face=identity.face)
    with pytest.raises(UserInputError, match="Set keep_photo") as error:
        save_identity(only_photo, tmp_path / "a.safetensors", keep_photo=False)
    assert error.value.code == "identity_incomplete"
    save_identity(only_photo, tmp_path / "a.safetensors", keep_photo=True)
    loaded = load_identity(tmp_path / "a.safetensors")
    assert loaded.embedding is None
    assert loaded.recogniser == ""
    assert loaded.photo is not None


def reactor_file(path: Path, embedding: FloatArray) -> Path:
    """As ``save_face_model`` of ComfyUI-ReActor's ``reactor_utils.py`` writes it."""
    rng = np.random.default_rng(5)
    tensors = {
        "bbox": torch.tensor([10.0, 20.0, 110.0, 140.0]),
        "kps": torch.from_numpy(rng.random((5, 2), dtype=np.float32)),
        "det_score": torch.tensor(0.87),
        "landmark_3d_68": torch.from_numpy(rng.random((68, 3), dtype=np.float32)),
        "pose": torch.from_numpy(rng.random(3, dtype=np.float32)),
        "landmark_2d_106": torch.from_numpy(rng.random((106, 2), dtype=np.float32)),
        "embedding": torch.from_numpy(embedding),
        "gender": torch.tensor(1),
        "age": torch.tensor(44),
    }
    save_file(tensors, str(path))
    return path


def test_reactors_face_models_are_read(tmp_path: Path) -> None:
    embedding = np.random.default_rng(4).standard_normal(512).astype(np.float32)
    loaded = load_identity(reactor_file(tmp_path / "bob.safetensors", embedding))
    assert loaded.embedding is not None
    assert np.array_equal(loaded.embedding, embedding)
    assert (loaded.recogniser, loaded.photo, loaded.face) == (REACTOR_RECOGNISER, None, None)


def test_ours_has_the_field_that_reactor_reads(identity: Identity, tmp_path: Path) -> None:
    """Which takes ``embedding`` and, where they are, ``bbox``, ``kps``, ``gender`` and ``age``."""
    path = tmp_path / "anna.safetensors"
    save_identity(identity, path, keep_photo=True)
    header = json.loads(path.read_bytes()[8:].split(b"}}")[0] + b"}}")
    fields = {name: (value["dtype"], value["shape"]) for name, value in header.items() if name != "__metadata__"}
    assert fields["embedding"] == ("F32", [512])
    assert fields["bbox"] == ("F32", [4])
    assert fields["kps"] == ("F32", [5, 2])
    assert {"det_score", "gender", "age"} < set(fields)


def write_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, str] | None = None) -> None:
    save_file(tensors, str(path), metadata=header)


OURS = {"format": "flux_face_identity", "version": "1", "recogniser": "w600k_r50.onnx", "photos": "1"}


@pytest.mark.parametrize(
    ("tensors", "header", "problem"),
    [
        ({"weight": torch.zeros(4)}, None, "neither an embedding nor a photo"),
        ({"embedding": torch.ones(128)}, None, "not 512 numbers other than zero"),
        ({"embedding": torch.zeros(512)}, OURS, "not 512 numbers other than zero"),
        ({"embedding": torch.full((512,), torch.nan)}, OURS, "not 512 numbers other than zero"),
        ({"photo": torch.zeros(9, 9, 3, dtype=torch.uint8)}, OURS, "photo or the face in it"),
        ({"photo": torch.zeros(9, 9, 3), "bbox": torch.ones(4), "kps": torch.ones(5, 2)}, OURS, "photo or the face"),
        ({"embedding": torch.ones(512)}, {**OURS, "version": "2"}, "its version is 2, not 1"),
    ],
)
def test_other_files_are_refused(
    tensors: dict[str, Tensor], header: dict[str, str] | None, problem: str, tmp_path: Path
) -> None:
    write_tensors(tmp_path / "x.safetensors", tensors, header)
    with pytest.raises(UserInputError, match=problem) as error:
        load_identity(tmp_path / "x.safetensors")
    assert (error.value.code, error.value.field) == ("identity_file", "file")


@pytest.mark.parametrize("data", [b"", b"\x80\x04pickle", bytes(8), b"\xff" * 200])
def test_files_of_other_formats_are_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(UserInputError, match="it cannot be read"):
        load_identity(path)


@pytest.mark.parametrize(
    "name",
    ["", "  ", "../anna", "a/b", "a\\b", "C:anna", "anna?", "NUL", "con.txt", "lpt1", ".hidden", "anna.", "a\nb", "..",
     "x" * 101],
)  # fmt: skip
def test_names_that_some_system_does_not_take_are_refused(name: str) -> None:
    with pytest.raises(UserInputError, match="name") as error:
        file_name(name)
    assert error.value.code == "identity_name"


@pytest.mark.parametrize("name", ["anna", "Anna-2", "张伟", "Jörg & Söhne", "anna.safetensors", " anna "])
def test_plain_names_are_taken(name: str) -> None:
    assert file_name(name) == name.strip().removesuffix(".safetensors") + ".safetensors"


@given(st.text(max_size=120))
def test_a_name_never_leaves_its_folder(name: str) -> None:
    try:
        made = file_name(name)
    except UserInputError:
        return
    assert Path(made).name == made
    assert Path("folder", made).parent == Path("folder")
