"""Every swapper against its published definition, written out here on the graph's own session."""

from __future__ import annotations

import contextlib
import gc
import io
import weakref
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch

from flux_face.nodes.errors import UserInputError
from flux_face.nodes.face.align import crop_face
from flux_face.nodes.face.contracts import SWAPPERS, Converted, Photo, SwapperContract
from flux_face.nodes.face.identity import Identity
from flux_face.nodes.face.runtime.session import Session, TensorSpec, batch_limit
from flux_face.nodes.face.runtime.torch_session import TorchSession
from flux_face.nodes.face.swapper import BATCH, Swapper

from . import graphs
from .samples import as_bgr, as_image, face_at, photo, session, split

cv2 = pytest.importorskip("cv2")
inswapper = pytest.importorskip("insightface.model_zoo.inswapper")

Floats = npt.NDArray[np.float32]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
ZERO_ONE = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

# deepinsight/insightface face_align.py in pixels of 112, and facefusion's face_helper.py in fractions.
INSIGHTFACE = [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
TEMPLATES = {
    "arcface_128": (np.array(INSIGHTFACE) + np.array([8.0, 0.0])) / 128.0,
    "arcface_112_v1": np.array(
        [
            [0.35473214, 0.45658929],
            [0.64526786, 0.45658929],
            [0.50000000, 0.61154464],
            [0.37913393, 0.77687500],
            [0.62086607, 0.77687500],
        ]
    ),
    "arcface_112_v2": np.array(INSIGHTFACE) / 112.0,
    "ffhq_512": np.array(
        [
            [0.37691676, 0.46864664],
            [0.62285697, 0.46912813],
            [0.50123859, 0.61331904],
            [0.39308822, 0.72541100],
            [0.61150205, 0.72490465],
        ]
    ),
    "mtcnn_512": np.array(
        [
            [0.36562865, 0.46733799],
            [0.63305391, 0.46585885],
            [0.50019127, 0.61942959],
            [0.39032951, 0.77598822],
            [0.61178945, 0.77476328],
        ]
    ),
}


@dataclass(frozen=True)
class Definition:
    """What the publisher's code does. shift: pixels added to the template in both directions."""

    size: int
    template: str
    normalisation: tuple[tuple[float, ...], tuple[float, ...]]
    source: Literal["emap", "unit", "converted", "converted unit", "photo 112 arcface_112_v2", "photo 256 ffhq_512"]
    signed: bool
    shift: float = 0.0


GHOST = Definition(256, "arcface_112_v1", HALVES, "converted", signed=True)
HYPERSWAP = Definition(256, "arcface_128", HALVES, "unit", signed=True)
INSWAPPER = Definition(128, "arcface_128", ZERO_ONE, "emap", signed=False)

DEFINITIONS = {
    "inswapper_128.onnx": INSWAPPER,
    "inswapper_128_fp16.onnx": INSWAPPER,
    "reswapper_128.onnx": INSWAPPER,
    # ReSwapper's face_align.py adds 128 / 32768 * 256 - 0.5 pixels at this size.
    "reswapper_256.onnx": Definition(256, "arcface_128", ZERO_ONE, "emap", signed=False, shift=0.5),
    "hyperswap_1a_256.onnx": HYPERSWAP,
    "hyperswap_1b_256.onnx": HYPERSWAP,
    "hyperswap_1c_256.onnx": HYPERSWAP,
    "ghost_1_256.onnx": GHOST,
    "ghost_2_256.onnx": GHOST,
    "ghost_3_256.onnx": GHOST,
    "simswap_256.onnx": Definition(256, "arcface_112_v1", IMAGENET, "converted unit", signed=False),
    "simswap_unofficial_512.onnx": Definition(512, "arcface_112_v1", ZERO_ONE, "converted unit", signed=False),
    "hififace_unofficial_256.onnx": Definition(256, "mtcnn_512", HALVES, "converted unit", signed=True),
    "blendswap_256.onnx": Definition(256, "ffhq_512", ZERO_ONE, "photo 112 arcface_112_v2", signed=False),
    "uniface_256.onnx": Definition(256, "ffhq_512", HALVES, "photo 256 ffhq_512", signed=True),
}


def made(folder: Path, contract: SwapperContract) -> tuple[Path, Path | None]:
    """Graphs with this model's inputs and outputs: the swapper and its converter."""
    definition = DEFINITIONS[contract.name]
    path = folder / contract.name
    if definition.source.startswith("photo"):
        side = int(definition.source.split()[1])
        return graphs.photo_swapper(path, definition.size, side, signed=definition.signed), None
    dtype = np.float16 if "fp16" in contract.name else np.float32
    hyper = contract.name.startswith("hyperswap")
    graphs.swapper(
        path,
        definition.size,
        graphs.random_emap(dtype) if definition.source == "emap" else None,
        source_first=hyper,
        mask=hyper,
        signed=definition.signed,
    )
    if isinstance(contract.source, Converted):
        return path, graphs.converter(folder / contract.source.converter)
    return path, None


def loaded(folder: Path, contract: SwapperContract) -> Swapper:
    path, converter = made(folder, contract)
    return Swapper(session(path), contract, session(converter) if converter else None)


def person(seed: int = 0) -> Identity:
    """An embedding of no special length, and the photo of the person at the right."""
    vector = np.random.default_rng(seed).standard_normal(512).astype(np.float32) * 0.8
    return Identity(vector, "w600k_r50.onnx", as_image(photo()), face_at(515, 330, 150, -15))


def run(path: Path, feeds: dict[str, Floats]) -> list[Floats]:
    graph = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    outputs: list[Floats] = graph.run(None, feeds)
    return outputs


def expected_source(definition: Definition, folder: Path, contract: SwapperContract, identity: Identity) -> Floats:
    raw = identity.embedding
    assert raw is not None
    raw = raw[None]
    unit = raw / np.linalg.norm(raw)
    if definition.source == "unit":
        return unit
    if definition.source == "emap":
        dtype = np.float16 if "fp16" in contract.name else np.float32
        projected: Floats = unit @ graphs.random_emap(dtype).astype(np.float32)
        return projected / np.linalg.norm(projected)
    if definition.source.startswith("converted"):
        assert isinstance(contract.source, Converted)
        converted = run(folder / contract.source.converter, {"input": raw})[0]
        return converted / np.linalg.norm(converted) if definition.source == "converted unit" else converted
    _, side, template = definition.source.split()
    assert identity.face is not None
    assert identity.photo is not None
    points = (TEMPLATES[template] * int(side)).astype(np.float32)
    matrix, _ = cv2.estimateAffinePartial2D(identity.face.landmarks, points, method=cv2.LMEDS)
    crop: Floats = crop_face(identity.photo, matrix, (int(side), int(side)), antialias=False).numpy()
    return np.ascontiguousarray(crop.transpose(2, 0, 1)[None])


def test_the_table_and_the_definitions_name_the_same_files() -> None:
    assert [row.name for row in SWAPPERS] == sorted(DEFINITIONS, key=[row.name for row in SWAPPERS].index)
    assert len(SWAPPERS) == len(DEFINITIONS)


@pytest.mark.parametrize("contract", SWAPPERS, ids=lambda contract: contract.name)
def test_every_contract(tmp_path: Path, contract: SwapperContract) -> None:
    swapper = loaded(tmp_path, contract)
    definition = DEFINITIONS[contract.name]
    identity = person()

    face = face_at(780, 400, 130)
    points = TEMPLATES[definition.template] * definition.size + definition.shift
    matrix, _ = cv2.estimateAffinePartial2D(face.landmarks, points.astype(np.float32), method=cv2.LMEDS)
    np.testing.assert_allclose(swapper.matrix(face), matrix, rtol=1e-3, atol=2e-3)

    source = expected_source(definition, tmp_path, contract, identity)
    ours = swapper.sources([identity]).numpy()
    np.testing.assert_allclose(ours, source, atol=2e-3 if isinstance(contract.source, Photo) else 1e-5)

    crop = crop_face(as_image(photo()), swapper.matrix(face), (definition.size, definition.size))
    mean, std = (np.array(values, np.float32) for values in definition.normalisation)
    blob = ((crop.numpy() - mean) / std).transpose(2, 0, 1)[None]
    outputs = run(tmp_path / contract.name, {"target": np.ascontiguousarray(blob), "source": ours})
    picture = outputs[0][0].transpose(1, 2, 0)
    picture = picture * std + mean if definition.signed else picture
    drawing = swapper.draw(crop[None], swapper.sources([identity]))
    np.testing.assert_allclose(drawing.pixels[0].numpy(), picture.clip(0, 1), atol=1e-5)
    assert drawing.pixels.std() > 0.02
    if contract.name.startswith("hyperswap"):
        assert drawing.mask is not None
        np.testing.assert_allclose(drawing.mask[0].numpy(), outputs[1][0, 0], atol=1e-5)
    else:
        assert drawing.mask is None


@pytest.mark.parametrize(
    "name", ["inswapper_128_fp16.onnx", "hyperswap_1a_256.onnx", "ghost_1_256.onnx", "uniface_256.onnx"]
)
def test_torch_draws_what_onnxruntime_draws(tmp_path: Path, name: str) -> None:
    swapper = loaded(tmp_path, row(name))
    torch_sessions = [TorchSession(item.path, torch.device("cpu")) for item in swapper.sessions]
    other = Swapper(torch_sessions[0], row(name), torch_sessions[1] if len(torch_sessions) > 1 else None)
    crops = torch.rand(2, 256, 256, 3, generator=torch.Generator().manual_seed(0))
    people = [person(1), person(2)]
    ours, theirs = (some.draw(crops, some.sources(people)) for some in (swapper, other))
    torch.testing.assert_close(ours.pixels, theirs.pixels, atol=1e-4, rtol=0)
    assert (ours.mask is None) == (theirs.mask is None) == (not name.startswith("hyperswap"))


# scikit-image's, about how insightface calls it.
@pytest.mark.filterwarnings("ignore:`estimate` is deprecated:FutureWarning")
@pytest.mark.parametrize("size", [130, 40])
def test_the_drawing_equals_insightface(tmp_path: Path, size: float) -> None:
    path = graphs.swapper(tmp_path / "inswapper_128.onnx", emap=graphs.random_emap())
    with contextlib.redirect_stdout(io.StringIO()):
        reference = inswapper.INSwapper(model_file=str(path))
    identity, target = person(), face_at(780, 400, size)
    assert identity.embedding is not None
    unit = identity.embedding / np.linalg.norm(identity.embedding)
    theirs, matrix = reference.get(
        as_bgr(photo()),
        SimpleNamespace(kps=target.landmarks),
        SimpleNamespace(normed_embedding=unit),
        paste_back=False,
    )
    swapper = Swapper(session(path), SWAPPERS[0])
    np.testing.assert_allclose(swapper.matrix(target), matrix, rtol=1e-4, atol=1e-3)
    crop = crop_face(as_image(photo()), swapper.matrix(target), (128, 128), border="zeros", antialias=False)
    ours = swapper.draw(crop[None], swapper.sources([identity])).pixels[0]
    difference = np.abs((ours.numpy() * 255).astype(np.uint8).astype(int) - theirs[..., ::-1].astype(int))
    assert difference.max() <= 1


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("last", [True, False])
def test_the_projection_is_found_by_its_shape(tmp_path: Path, dtype: Any, last: bool) -> None:
    emap = graphs.random_emap(dtype)
    path = graphs.swapper(tmp_path / "inswapper_128.onnx", emap=emap, emap_last=last)
    identity = person()
    assert identity.embedding is not None
    projected = identity.embedding @ emap.astype(np.float32)
    ours = Swapper(session(path), SWAPPERS[0]).sources([identity])[0].numpy()
    np.testing.assert_allclose(ours, projected / np.linalg.norm(projected), atol=1e-6)


def test_a_swapper_without_projection_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="512x512 initializer") as caught:
        Swapper(session(graphs.swapper(tmp_path / "inswapper_128.onnx")), SWAPPERS[0])
    assert caught.value.code == "onnx_contract"


@pytest.mark.parametrize("name", ["ghost_1_256.onnx", "simswap_256.onnx", "hififace_unofficial_256.onnx"])
def test_a_missing_converter_is_named(tmp_path: Path, name: str) -> None:
    contract = row(name)
    assert isinstance(contract.source, Converted)
    path, _ = made(tmp_path, contract)
    with pytest.raises(UserInputError, match=contract.source.converter) as caught:
        Swapper(session(path), contract)
    assert caught.value.code == "model_missing"


def row(name: str) -> SwapperContract:
    return next(contract for contract in SWAPPERS if contract.name == name)


def test_identities_that_lack_what_a_network_draws_from(tmp_path: Path) -> None:
    embedding, whole = person().embedding, person()
    insider = loaded(tmp_path, row("inswapper_128.onnx"))
    painter = loaded(tmp_path, row("uniface_256.onnx"))
    assert insider.sources([Identity(embedding, "arcface_w600k_r50.onnx")]).shape == (1, 512)
    assert painter.sources([Identity(photo=whole.photo, face=whole.face)]).shape == (1, 3, 256, 256)
    for swapper, identity in (
        (insider, Identity(embedding, "w600k_mbf.onnx")),
        (insider, Identity(photo=whole.photo, face=whole.face)),
        (painter, Identity(embedding, "w600k_r50.onnx")),
    ):
        with pytest.raises(UserInputError) as caught:
            swapper.sources([identity])
        assert caught.value.code == "identity_incomplete"


def test_a_batch_of_several_people_equals_one_at_a_time(tmp_path: Path) -> None:
    swapper = loaded(tmp_path, row("hyperswap_1a_256.onnx"))
    image = as_image(photo())
    first, second = person(1), person(2)
    crops = torch.stack([crop_face(image, swapper.matrix(face_at(x, 400, 140)), (256, 256)) for x in (200, 500, 780)])
    together = swapper.draw(crops, swapper.sources([first, second, first]))
    for place, identity in enumerate((first, second, first)):
        alone = swapper.draw(crops[place : place + 1], swapper.sources([identity]))
        torch.testing.assert_close(together.pixels[place], alone.pixels[0], atol=1e-5, rtol=0)
        assert together.mask is not None
        assert alone.mask is not None
        torch.testing.assert_close(together.mask[place], alone.mask[0], atol=1e-5, rtol=0)


class Counted:
    """A session that notes the size of every batch."""

    def __init__(self, inner: Session) -> None:
        self.path, self.provider, self.note, self.device = inner.path, inner.provider, inner.note, inner.device
        self.inputs, self.outputs = inner.inputs, inner.outputs
        self.batches: list[int] = []
        self._inner = inner

    def run(self, feeds: Any) -> dict[str, torch.Tensor]:
        self.batches.append(len(next(iter(feeds.values()))))
        return self._inner.run(feeds)


def test_a_person_is_converted_once_and_not_kept(tmp_path: Path) -> None:
    path, converter = made(tmp_path, row("ghost_1_256.onnx"))
    assert converter is not None
    counted = Counted(session(converter))
    swapper = Swapper(session(path), row("ghost_1_256.onnx"), counted)
    first, second, third = (person(seed) for seed in range(3))
    before = swapper.sources([first, second, first])
    after = swapper.sources([second, third, first])
    assert counted.batches == [2, 1]
    assert torch.equal(after[[2, 0, 2]], before)
    assert not torch.equal(after[0], after[1])
    gone = weakref.ref(third)
    del third
    gc.collect()
    assert gone() is None


def test_all_tiles_of_all_faces_go_in_the_same_batches(tmp_path: Path) -> None:
    path = graphs.swapper(tmp_path / "inswapper_128.onnx", emap=graphs.random_emap(), batch="n")
    counted = Counted(session(path))
    swapper = Swapper(counted, SWAPPERS[0])
    crops = torch.rand(5, 256, 256, 3, generator=torch.Generator().manual_seed(0))
    sources = swapper.sources([person(seed) for seed in range(5)])
    drawn = swapper.draw(crops, sources).pixels
    limit = batch_limit(counted, BATCH)
    assert 1 < limit <= BATCH
    assert counted.batches == split(20, limit)
    # Tile (0, 1) of the second crop by itself, drawn from the second person.
    alone = swapper.draw(crops[1:2, 0::2, 1::2], sources[1:2]).pixels[0]
    torch.testing.assert_close(drawn[1, 0::2, 1::2], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_a_network_that_copies_gives_the_crop_back(tmp_path: Path, factor: int) -> None:
    contract = row("hyperswap_1a_256.onnx")
    swapper = Swapper(session(graphs.copying_swapper(tmp_path / contract.name, 256)), contract)
    crops = torch.rand(2, 256 * factor, 256 * factor, 3, generator=torch.Generator().manual_seed(0))
    drawn = swapper.draw(crops, swapper.sources([person(), person()])).pixels
    torch.testing.assert_close(drawn, crops, atol=1e-6, rtol=0)


def test_inputs_of_other_names_are_told_by_their_shapes(tmp_path: Path) -> None:
    emap = graphs.random_emap()
    named = Swapper(session(graphs.swapper(tmp_path / "inswapper_128.onnx", emap=emap)), SWAPPERS[0])
    (tmp_path / "other").mkdir()
    path = graphs.swapper(tmp_path / "other" / "inswapper_128.onnx", emap=emap, names=("x", "z"), source_first=True)
    other = Swapper(session(path), SWAPPERS[0])
    crops = torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(0))
    sources = named.sources([person()])
    assert torch.equal(named.draw(crops, sources).pixels, other.draw(crops, sources).pixels)


def test_inputs_that_cannot_be_told_are_refused(tmp_path: Path) -> None:
    contract = row("uniface_256.onnx")
    path = graphs.photo_swapper(tmp_path / contract.name, 256, 256, names=("a", "b"))
    with pytest.raises(UserInputError, match=r"it takes a .*, b ") as caught:
        Swapper(session(path), contract)
    assert caught.value.code == "onnx_contract"


def test_a_network_of_another_size_is_refused(tmp_path: Path) -> None:
    path = graphs.swapper(tmp_path / "inswapper_128.onnx", 256, emap=graphs.random_emap())
    with pytest.raises(UserInputError, match="128") as caught:
        Swapper(session(path), SWAPPERS[0])
    assert caught.value.code == "onnx_contract"


@pytest.mark.parametrize(("device", "batch", "limit"), [("cuda", None, 16), ("cuda", 1, 1), ("cpu", 1, 1)])
def test_how_many_go_at_once(device: str, batch: int | None, limit: int) -> None:
    graph = SimpleNamespace(inputs=[TensorSpec("x", (batch, 3, 128, 128))], device=torch.device(device))
    assert batch_limit(cast("Session", graph), BATCH) == limit
