"""Which files are found where, and the engines made from them, with ComfyUI's own folder and memory management."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import folder_paths
import pytest
import torch

from flux_face.nodes.errors import UserInputError
from flux_face.nodes.face import model_files
from flux_face.nodes.face.engines import FaceEngine, Placement, SwapSettings
from flux_face.nodes.face.model_folders import AUTOMATIC

from . import graphs
from .samples import as_image, face_at, photo

FOLDERS = ("insightface", "reswapper", "hyperswap", "facefusion", "facerestore_models", "facerestore", "facexlib")


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty models folder that ComfyUI knows."""
    for name in FOLDERS:
        (tmp_path / name).mkdir()
        monkeypatch.setitem(folder_paths.folder_names_and_paths, name, ([str(tmp_path / name)], set()))
    folder_paths.filename_list_cache.clear()
    yield tmp_path
    folder_paths.filename_list_cache.clear()


def buffalo(models: Path) -> None:
    """The pack buffalo_l where insightface puts it."""
    pack = models / "insightface" / "models" / "buffalo_l"
    pack.mkdir(parents=True)
    graphs.scrfd(pack / "det_10g.onnx")
    graphs.arcface(pack / "w600k_r50.onnx")
    graphs.genderage(pack / "genderage.onnx")


def load(
    engine: str = "onnx",
    swapper: str = AUTOMATIC,
    recogniser: str = AUTOMATIC,
    detector: str = AUTOMATIC,
    *,
    attributes: bool = False,
) -> tuple[FaceEngine, str]:
    return model_files.load_engine(
        engine,  # type: ignore[arg-type]  # the tests' strings
        "onnxruntime",
        "cpu",
        "float32",
        detector,
        recogniser,
        swapper,
        attributes,
    )


def test_files_are_found_in_all_folders_the_best_first(models: Path) -> None:
    buffalo(models)
    graphs.scrfd(models / "facefusion" / "scrfd_2.5g.onnx")
    graphs.swapper(models / "hyperswap" / "hyperswap_1b_256.onnx", 256, mask=True)
    graphs.swapper(models / "reswapper" / "reswapper_256.onnx", 256, graphs.random_emap())
    graphs.swapper(models / "insightface" / "inswapper_128_fp16.onnx", emap=graphs.random_emap())
    (models / "insightface" / "something_else.onnx").write_bytes(b"")
    graphs.restorer(models / "facerestore_models" / "GPEN-BFR-512.onnx")
    graphs.occluder(models / "facefusion" / "xseg_2.onnx")
    graphs.parser(models / "facexlib" / "bisenet_resnet_18.onnx")
    assert model_files.detector_files() == ["insightface/models/buffalo_l/det_10g.onnx", "facefusion/scrfd_2.5g.onnx"]
    assert model_files.recogniser_files() == ["insightface/models/buffalo_l/w600k_r50.onnx"]
    assert model_files.swapper_files() == [
        "insightface/inswapper_128_fp16.onnx",
        "hyperswap/hyperswap_1b_256.onnx",
        "reswapper/reswapper_256.onnx",
    ]
    assert model_files.restorer_files() == ["facerestore_models/GPEN-BFR-512.onnx"]
    assert model_files.occluder_files() == ["facefusion/xseg_2.onnx"]
    assert model_files.parser_files() == ["facexlib/bisenet_resnet_18.onnx"]


def test_the_report_names_what_runs_where_and_its_licence(models: Path) -> None:
    buffalo(models)
    graphs.swapper(models / "insightface" / "inswapper_128.onnx", emap=graphs.random_emap())
    engine, report = load()
    where, *rest = report.split("; ")
    assert where == "onnx on CPUExecutionProvider: det_10g.onnx, w600k_r50.onnx, inswapper_128.onnx"
    assert rest[-1] == "not licensed for commercial use: det_10g.onnx, w600k_r50.onnx, inswapper_128.onnx"
    assert engine.name == "onnx"
    assert engine.provider == "CPUExecutionProvider"


def test_a_loaded_engine_swaps(models: Path) -> None:
    buffalo(models)
    graphs.swapper(models / "insightface" / "inswapper_128.onnx", emap=graphs.random_emap())
    engine, _ = load(attributes=True)
    image = as_image(photo())[None]
    face = face_at(515, 330, 150)
    identity = engine.identity(image[0], face)
    assert engine.compare(image, [Placement(0, face, identity)])[0] == pytest.approx(1.0, abs=1e-5)
    assert engine.patches(image, [Placement(0, face, identity)], SwapSettings())[0].pixels.shape == (128, 128, 3)
    faces = engine.detect(image[:, :64, :64]).faces[0]
    assert all(found.sex in ("male", "female") and found.contour is None for found in faces)


@pytest.mark.usefixtures("models")
def test_auto_says_why_it_is_classic() -> None:
    engine, report = load("auto")
    assert engine.name == "classic"
    assert report.startswith("classic: no swapper model is there")
    assert load("classic")[1] == "classic: chosen"
    with pytest.raises(
        UserInputError,
        match=r"inswapper_128\.onnx .*models/insightface .*https://\S+/inswapper_128\.onnx \(.* MB, licence: ",
    ) as caught:
        load("onnx")
    assert caught.value.code == "model_missing"


def test_a_converter_is_found_and_a_missing_one_named(models: Path) -> None:
    buffalo(models)
    graphs.swapper(models / "facefusion" / "ghost_1_256.onnx", 256, signed=True)
    with pytest.raises(UserInputError, match=r"crossface_ghost\.onnx.*https://.*licence: ") as caught:
        load()
    assert caught.value.code == "model_missing"
    graphs.converter(models / "facefusion" / "crossface_ghost.onnx")
    folder_paths.filename_list_cache.clear()
    assert "crossface_ghost.onnx" in load()[1]


def test_the_recogniser_follows_the_swapper(models: Path) -> None:
    """Embeddings of buffalo_s's recogniser would make inswapper draw somebody else."""
    graphs.scrfd(models / "insightface" / "det_500m.onnx")
    graphs.arcface(models / "insightface" / "w600k_mbf.onnx")
    graphs.swapper(models / "insightface" / "inswapper_128.onnx", emap=graphs.random_emap())
    with pytest.raises(UserInputError, match=r"w600k_r50\.onnx"):
        load()
    engine, report = load(recogniser="insightface/w600k_mbf.onnx")
    assert "inswapper_128.onnx needs embeddings of w600k_r50.onnx" in report
    image = torch.rand(1, 200, 200, 3, generator=torch.Generator().manual_seed(0))
    identity = engine.identity(image[0], face_at(100, 100, 90))
    with pytest.raises(UserInputError) as caught:
        engine.patches(image, [Placement(0, face_at(100, 100, 90), identity)], SwapSettings())
    assert caught.value.code == "identity_incomplete"
    graphs.photo_swapper(models / "facefusion" / "blendswap_256.onnx", 256, 112)
    folder_paths.filename_list_cache.clear()
    assert "needs embeddings" not in load(swapper="facefusion/blendswap_256.onnx")[1]


def test_attributes_that_are_not_there(models: Path) -> None:
    buffalo(models)
    graphs.swapper(models / "insightface" / "inswapper_128.onnx", emap=graphs.random_emap())
    assert "2d106det.onnx is not there: no contours" in load(attributes=True)[1]
    (models / "insightface" / "models" / "buffalo_l" / "genderage.onnx").unlink()
    folder_paths.filename_list_cache.clear()
    with pytest.raises(UserInputError, match=r"genderage\.onnx") as caught:
        load(attributes=True)
    assert caught.value.field == "attributes"


def test_restorers_and_masks_are_loaded_by_any_of_their_names(models: Path) -> None:
    graphs.restorer(models / "facerestore_models" / "GPEN-BFR-512.onnx")
    graphs.occluder(models / "facefusion" / "xseg_1.onnx")
    graphs.parser(models / "facefusion" / "bisenet_resnet_34.onnx")
    restorer = model_files.load_restorer("facerestore_models/GPEN-BFR-512.onnx", "auto", "cpu", "float32")
    assert (restorer.name, restorer.side) == ("GPEN-BFR-512.onnx", 512)
    crops = torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(0))
    occluder = model_files.load_occluder("facefusion/xseg_1.onnx", "auto", "cpu", "float32")
    assert occluder.mask(crops).shape == (1, 128, 128)
    parser = model_files.load_parser("facefusion/bisenet_resnet_34.onnx", "auto", "cpu", "float32")
    assert parser.mask(crops, ["skin"]).shape == (1, 128, 128)
    with pytest.raises(UserInputError, match="facerestore_models") as caught:
        model_files.load_restorer("facerestore_models/gfpgan_1.4.onnx", "auto", "cpu", "float32")
    assert caught.value.code == "model_missing"
    assert "classic" not in caught.value.remedy


def test_a_newer_pack_finds_and_recognises(models: Path) -> None:
    pytest.importorskip("insightface")
    graphs.pack(models / "insightface" / "models" / "raccoon_l")
    graphs.swapper(models / "insightface" / "inswapper_128.onnx", emap=graphs.random_emap())
    graphs.photo_swapper(models / "facefusion" / "uniface_256.onnx", 256, 256, signed=True)
    # A manifest of something else.
    (models / "facefusion" / "manifest.json").write_text('{"manifest_version": 3}')
    name = "insightface/models/raccoon_l"
    assert model_files.detector_files() == [name]
    assert model_files.recogniser_files() == [name]
    engine, report = load(swapper="facefusion/uniface_256.onnx", detector=name, recogniser=name)
    assert report.startswith("onnx on CPUExecutionProvider: raccoon_l, uniface_256.onnx; raccoon_l is run by")
    image = as_image(photo())[None]
    identity = engine.identity(image[0], face_at(515, 330, 150))
    placement = Placement(0, face_at(515, 330, 150), identity)
    assert identity.recogniser == "raccoon_l"
    assert engine.compare(image, [placement])[0] == pytest.approx(1.0, abs=1e-5)
    assert len(engine.patches(image, [placement], SwapSettings())) == 1
    _, report = load(swapper="insightface/inswapper_128.onnx", detector=name, recogniser=name)
    assert "inswapper_128.onnx needs embeddings of w600k_r50.onnx" in report
