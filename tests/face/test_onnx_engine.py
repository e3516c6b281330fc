"""The onnx engine: its networks composed, on the same graphs as insightface's own classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from flux_face.nodes.errors import UserInputError
from flux_face.nodes.face.align import Patch, crop_face, invert, transform_points
from flux_face.nodes.face.attributes import FaceAttributes
from flux_face.nodes.face.contracts import ATTRIBUTES, RESTORERS, SWAPPERS, SwapperContract
from flux_face.nodes.face.engines import Placement, SwapSettings
from flux_face.nodes.face.identity import Identity, cosine
from flux_face.nodes.face.onnx_engine import OnnxEngine
from flux_face.nodes.face.recogniser import Recogniser
from flux_face.nodes.face.restorer import OnnxRestorer
from flux_face.nodes.face.scrfd import Scrfd
from flux_face.nodes.face.swap import photo_identity, swap_faces
from flux_face.nodes.face.swapper import Swapper

from . import graphs
from .samples import as_bgr, as_image, face_at, photo, session

pytest.importorskip("cv2")
app = pytest.importorskip("insightface.app")


# The random detector gives about a dozen faces a picture that score more.
SCORE = 0.9


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack as insightface lays it out, and swappers beside it."""
    base = tmp_path_factory.mktemp("models")
    graphs.scrfd(base / "det_10g.onnx")
    graphs.arcface(base / "w600k_r50.onnx")
    graphs.genderage(base / "genderage.onnx")
    graphs.contour(base / "2d106det.onnx")
    (base / "swappers").mkdir()
    graphs.swapper(base / "swappers" / "inswapper_128.onnx", emap=graphs.random_emap())
    graphs.swapper(base / "swappers" / "hyperswap_1a_256.onnx", 256, source_first=True, mask=True, signed=True)
    return base


def row(name: str) -> SwapperContract:
    return next(contract for contract in SWAPPERS if contract.name == name)


def make_engine(folder: Path, swapper: str = "inswapper_128.onnx", *, attributes: bool = False) -> OnnxEngine:
    networks = [FaceAttributes(session(folder / item.name), item) for item in ATTRIBUTES] if attributes else []
    return OnnxEngine(
        Scrfd(session(folder / "det_10g.onnx"), SCORE),
        Recogniser(session(folder / "w600k_r50.onnx")),
        Swapper(session(folder / "swappers" / swapper), row(swapper)),
        networks,
    )


def frames(count: int = 3) -> torch.Tensor:
    """Different parts of the photograph, ``[count, 640, 640, 3]``."""
    image = as_image(photo())
    return torch.stack([image[:640, 100 * place : 100 * place + 640] for place in range(count)])


def test_faces_of_a_batch_equal_insightface(folder: Path) -> None:
    analysis = app.FaceAnalysis(str(folder), providers=["CPUExecutionProvider"], static_shape_sessions=False)
    analysis.prepare(-1, SCORE, det_size=(640, 640))
    images = frames(2)
    found = make_engine(folder, attributes=True).detect(images)
    assert found.recogniser == "w600k_r50.onnx"
    for image, faces in zip(images, found.faces, strict=True):
        bgr = as_bgr((image.numpy() * 255).round().astype(np.uint8))
        with pytest.warns(FutureWarning):
            theirs = analysis.get(bgr)
        assert len(theirs) == len(faces) > 1
        by_box = sorted(theirs, key=lambda face: tuple(face.bbox))
        for ours, their in zip(sorted(faces, key=lambda face: face.box), by_box, strict=True):
            np.testing.assert_allclose(ours.box, their.bbox, atol=1e-3)
            assert ours.embedding is not None
            assert cosine(ours.embedding, their.embedding) > 0.9999
            assert (ours.sex == "male") == bool(their.gender)
            assert ours.age == pytest.approx(their.age, abs=0.6)
            assert ours.contour is not None
            np.testing.assert_allclose(ours.contour, their.landmark_2d_106, atol=0.1)


def test_images_without_faces_are_no_stumbling_block(folder: Path) -> None:
    images = torch.cat([torch.full((1, 640, 640, 3), 0.5), frames(1)])
    counts = [len(faces) for faces in make_engine(folder, attributes=True).detect(images).faces]
    assert counts[0] == 0
    assert counts[1] > 1
    engine = make_engine(folder)
    assert engine.compare(images, []) == ()
    assert engine.patches(images, [], SwapSettings()) == []


def placements(engine: OnnxEngine) -> list[Placement]:
    """Four faces in three images, two people, out of order."""
    image = as_image(photo())
    first = engine.identity(image, face_at(515, 330, 150, -15))
    second = engine.identity(image, face_at(780, 400, 130))
    return [
        Placement(2, face_at(300, 300, 200), first),
        Placement(0, face_at(420, 330, 150, -10), second),
        Placement(0, face_at(100, 300, 120), first),
        Placement(1, face_at(320, 320, 170), second),
    ]


def same(ours: Patch, theirs: Patch) -> None:
    torch.testing.assert_close(ours.pixels, theirs.pixels, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.mask, theirs.mask, atol=1e-5, rtol=0)
    np.testing.assert_allclose(ours.matrix, theirs.matrix, atol=1e-6)


@pytest.mark.parametrize("boost", [1, 2])
@pytest.mark.parametrize("swapper", ["inswapper_128.onnx", "hyperswap_1a_256.onnx"])
def test_placements_together_equal_one_at_a_time(folder: Path, swapper: str, boost: int) -> None:
    engine = make_engine(folder, swapper)
    images, settings = frames(), SwapSettings(pixel_boost=boost, colour_match=0.0)
    wanted = placements(engine)
    called: list[None] = []
    together = engine.patches(images, wanted, settings, lambda: called.append(None))
    assert len(called) == len(wanted)
    side = row(swapper).size * boost
    for patch, placement in zip(together, wanted, strict=True):
        assert patch.pixels.shape == (side, side, 3)
        same(patch, engine.patches(images, [placement], settings)[0])
    alike = engine.compare(images, wanted)
    for value, placement in zip(alike, wanted, strict=True):
        assert value == pytest.approx(engine.compare(images, [placement])[0], abs=1e-5)
        vector = engine.identity(images[placement.image], placement.face).embedding
        assert vector is not None
        assert placement.identity.embedding is not None
        assert value == pytest.approx(cosine(vector, placement.identity.embedding), abs=1e-5)


def test_cancelling_stops_before_the_face(folder: Path) -> None:
    engine = make_engine(folder)

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        engine.patches(frames(), placements(engine), SwapSettings(), stop)
    with pytest.raises(InterruptedError):
        engine.detect(frames(), stop)


def test_a_learned_mask_limits_the_patch(folder: Path) -> None:
    """HyperSwap's own mask, about one half in this graph, against the box's plateau of one."""
    engine, plain = make_engine(folder, "hyperswap_1a_256.onnx"), SwapSettings(colour_match=0.0)
    wanted = placements(engine)[:1]
    patch = engine.patches(frames(), wanted, plain)[0]
    swapper = Swapper(session(folder / "swappers" / "hyperswap_1a_256.onnx"), row("hyperswap_1a_256.onnx"))
    crop = crop_face(frames()[2], swapper.matrix(wanted[0].face), (256, 256), antialias=False)
    learned = swapper.draw(crop[None], swapper.sources([wanted[0].identity])).mask
    assert learned is not None
    assert learned.std() > 0.001
    torch.testing.assert_close(patch.mask[100:150, 100:150], learned[0, 100:150, 100:150], atol=1e-5, rtol=0)
    assert float(patch.mask[0].max()) == 0.0


def test_a_restorer_works_at_its_own_size_before_pasting(folder: Path, tmp_path: Path) -> None:
    contract = next(item for item in RESTORERS if item.name == "gfpgan_1.4.onnx")
    restorer = OnnxRestorer(session(graphs.restorer(tmp_path / contract.name)), contract)
    engine = make_engine(folder)
    wanted = placements(engine)[:2]
    plain = engine.patches(frames(), wanted, SwapSettings(colour_match=0.0))
    whole = engine.patches(frames(), wanted, SwapSettings(colour_match=0.0, restorer=restorer))
    half = engine.patches(frames(), wanted, SwapSettings(colour_match=0.0, restorer=restorer, restore_strength=0.5))
    none = engine.patches(frames(), wanted, SwapSettings(colour_match=0.0, restorer=restorer, restore_strength=0.0))
    for before, after, between, untouched in zip(plain, whole, half, none, strict=True):
        same(untouched, before)
        assert after.pixels.shape == (512, 512, 3)
        # The same point of the image in both crops: pixels keep their edges, so centres move.
        place = transform_points(np.array([[64.0, 64.0]]), invert(before.matrix))
        np.testing.assert_allclose(transform_points(place, after.matrix), [[257.5, 257.5]], atol=1e-2)
        assert float((after.pixels - between.pixels).abs().max()) > 0.01
        enlarged = torch.nn.functional.interpolate(
            before.pixels.permute(2, 0, 1)[None], (512, 512), mode="bicubic", align_corners=False
        )[0].permute(1, 2, 0)
        torch.testing.assert_close(between.pixels, (enlarged.clamp(0, 1) + after.pixels) / 2, atol=1e-5, rtol=0)


def test_tiles_beyond_1024_are_refused(folder: Path) -> None:
    engine = make_engine(folder, "hyperswap_1a_256.onnx")
    with pytest.raises(UserInputError) as caught:
        engine.patches(frames(), placements(engine), SwapSettings(pixel_boost=5))
    assert caught.value.code == "pixel_boost_range"


def test_identities_of_another_recogniser_are_refused(folder: Path) -> None:
    engine = make_engine(folder)
    whole = engine.identity(frames()[0], face_at(300, 300, 200))
    foreign = Identity(whole.embedding, "w600k_mbf.onnx", whole.photo, whole.face)
    for call in (engine.compare, lambda images, items: engine.patches(images, items, SwapSettings())):
        with pytest.raises(UserInputError) as caught:
            call(frames(), [Placement(0, face_at(300, 300, 200), foreign)])
        assert caught.value.code == "identity_incomplete"


def test_swapped_roles_are_named(folder: Path) -> None:
    with pytest.raises(UserInputError, match="recogniser") as caught:
        Recogniser(session(folder / "swappers" / "inswapper_128.onnx"))
    assert caught.value.code == "onnx_contract"
    with pytest.raises(UserInputError, match=r"input\.1"):
        Swapper(session(folder / "w600k_r50.onnx"), SWAPPERS[0])


def test_a_whole_swap_touches_only_the_face(folder: Path) -> None:
    engine = make_engine(folder)
    image = as_image(photo())[None, :640, :640]
    source = engine.identity(image[0], face_at(515, 330, 150))
    result = swap_faces(engine, image, [source], settings=SwapSettings(colour_match=0.5))
    assert result.report[0].swapped == 1
    assert torch.equal(result.images[result.mask == 0], image[result.mask == 0])
    assert not torch.equal(result.images, image)
    assert result.provider == "CPUExecutionProvider"
    assert -1.0 <= result.report[0].similarity[0] <= 1.0
    assert photo_identity(engine, image, "largest").embedding is not None
