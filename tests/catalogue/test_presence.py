"""What is there is found where the pack would find it."""

from __future__ import annotations

from pathlib import Path

from flux_face.catalogue.manifest import Manifest, load_manifest
from flux_face.catalogue.presence import FACE_FOLDERS, folders_below, look
from flux_face.nodes.face import model_folders
from flux_face.tests.catalogue.conftest import LICENCES


def model(name: str, folder: str, file: str, size: int | None, aliases: tuple[str, ...] = ()) -> dict[str, object]:
    return {
        "id": name,
        "folder": folder,
        "name": file,
        "source": {"repository": "someone/models", "path": file},
        "size": size,
        "sha256": None,
        "verified": "no" if size is None else "one-source",
        "licence": "free",
        "gated": False,
        "aliases": aliases,
    }


MODELS = Manifest.model_validate(
    {
        "version": 1,
        "default_set": "all",
        "sets": {"all": ["vae", "unet", "face", "swap"]},
        "licences": LICENCES,
        "models": [
            model("vae", "vae", "ae.safetensors", 4),
            model("unet", "diffusion_models", "flux.gguf", None),
            model("face", "insightface", "models/pack/det.onnx", 3, ("scrfd.onnx",)),
            model("swap", "facefusion", "ghost.onnx", 5),
        ],
    }
).models


def states(models_dir: Path) -> dict[str, str]:
    return {row.model: row.state for row in look(MODELS, folders_below(models_dir))}


def put(models_dir: Path, name: str, size: int) -> Path:
    path = models_dir / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    return path


def test_the_face_folders_are_those_of_the_nodes() -> None:
    assert model_folders._FOLDERS == FACE_FOLDERS


def test_every_folder_of_the_manifest_is_looked_into(tmp_path: Path) -> None:
    assert {model.folder for model in load_manifest().models} <= set(folders_below(tmp_path))


def test_nothing_is_there(tmp_path: Path) -> None:
    assert set(states(tmp_path / "nowhere").values()) == {"missing"}


def test_files_in_their_places(tmp_path: Path) -> None:
    for name, size in (
        ("vae/ae.safetensors", 4),
        ("unet/flux.gguf", 9),
        ("insightface/models/pack/det.onnx", 3),
        ("facefusion/ghost.onnx", 5),
    ):
        put(tmp_path, name, size)
    assert set(states(tmp_path).values()) == {"found"}


def test_a_file_of_another_size_is_told(tmp_path: Path) -> None:
    path = put(tmp_path, "vae/ae.safetensors", 5)
    (row, *_) = look(MODELS, folders_below(tmp_path))
    assert (row.state, row.path, row.size) == ("wrong_size", path, 5)


def test_a_generators_file_must_have_the_name_that_profiles_say(tmp_path: Path) -> None:
    put(tmp_path, "vae/flux/ae.safetensors", 4)
    assert states(tmp_path)["vae"] == "missing"


def test_the_right_one_of_several_directories_counts(tmp_path: Path) -> None:
    wrong, right = put(tmp_path, "one/ae.safetensors", 5), put(tmp_path, "two/ae.safetensors", 4)
    (row, *_) = look(MODELS, {"vae": [wrong.parent, right.parent]})
    assert (row.state, row.path) == ("found", right)


def test_the_face_engines_files_count_wherever_it_finds_them(tmp_path: Path) -> None:
    put(tmp_path, "hyperswap/deep/down/ghost.onnx", 5)
    put(tmp_path, "facexlib/scrfd.onnx", 77)
    assert states(tmp_path) == {"vae": "missing", "unet": "missing", "face": "found", "swap": "found"}
