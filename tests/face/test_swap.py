"""The swap driver: which face becomes whom, in whatever chunks, with the engines' own networks."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import pytest
import torch

from flux_face.nodes.errors import UserInputError
from flux_face.nodes.face import swap
from flux_face.nodes.face.contracts import SWAPPERS
from flux_face.nodes.face.engines import classic_engine
from flux_face.nodes.face.identity import Identity
from flux_face.nodes.face.onnx_engine import OnnxEngine
from flux_face.nodes.face.recogniser import Recogniser
from flux_face.nodes.face.runtime.ort_session import OrtSession
from flux_face.nodes.face.runtime.session import batch_limit
from flux_face.nodes.face.scrfd import Scrfd
from flux_face.nodes.face.swap import SwapResult, photo_identity, swap_faces
from flux_face.nodes.face.swapper import BATCH, Swapper
from flux_face.nodes.face.types import FaceSet
from flux_face.starter.portrait import PortraitSpec
from flux_face.starter.renderer import render_with_truth

from . import graphs
from .samples import as_image, face_at, photo, split

CLASSIC = classic_engine()


@lru_cache(maxsize=8)
def portrait(index: int) -> torch.Tensor:
    """A portrait ``[256, 256, 3]``; the larger the index, the smaller the face."""
    spec = PortraitSpec(skin=2 + 3 * index, smile=0.3 * index, age=0.3 * index, scale=1.1 - 0.1 * index)
    return torch.from_numpy(render_with_truth(spec)[0])


@lru_cache(maxsize=8)
def person(index: int) -> Identity:
    return photo_identity(CLASSIC, portrait(index)[None])


def row_of_three() -> torch.Tensor:
    """Three portraits side by side, ``[1, 256, 768, 3]``."""
    return torch.cat([portrait(index) for index in range(3)], dim=1)[None]


def swapped_people(result: SwapResult, image: int = 0) -> dict[int, int]:
    """Which person each face of an image became, faces by their portrait's place and both from 0."""
    item, faces = result.report[image], result.faces.faces[image]
    return {
        int(faces[number - 1].landmarks[2, 0] // 256): identity - 1
        for number, identity in zip(item.numbers, item.identities, strict=True)
    }


class Recorded(OrtSession):
    """A session that notes the size of every batch."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "cpu")
        self.batches: list[int] = []

    def run(self, feeds: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        self.batches.append(len(next(iter(feeds.values()))))
        return super().run(feeds)


def onnx_engine(folder: Path) -> tuple[OnnxEngine, Recorded, Recorded]:
    """An engine of small graphs, and its recogniser's and swapper's sessions."""
    recogniser = Recorded(graphs.arcface(folder / "w600k_r50.onnx"))
    swapper = Recorded(graphs.swapper(folder / "inswapper_128.onnx", emap=graphs.random_emap()))
    detector = Scrfd(OrtSession(graphs.scrfd(folder / "det_10g.onnx"), "cpu"))
    return OnnxEngine(detector, Recogniser(recogniser), Swapper(swapper, SWAPPERS[0])), recogniser, swapper


def placed(count: int, side: int) -> FaceSet:
    """One face in the middle of each image."""
    return FaceSet(tuple((face_at(side / 2, side / 2, side / 3),) for _ in range(count)), side, side, "by hand")


def test_the_first_identity_goes_on_every_face() -> None:
    result = swap_faces(CLASSIC, row_of_three(), [person(1), person(2)], target="all")
    assert swapped_people(result) == {0: 0, 1: 0, 2: 0}


def test_in_order_further_faces_stay() -> None:
    images = row_of_three()
    result = swap_faces(CLASSIC, images, [person(2), person(0)], target="all", assignment="order")
    # Largest first.
    assert swapped_people(result) == {0: 0, 1: 1}
    assert torch.equal(result.images[:, :, 512:], images[:, :, 512:])
    assert result.report[0].faces == 3
    assert result.report[0].swapped == 2


def test_by_similarity_everybody_becomes_who_is_most_alike() -> None:
    identities = [person(2), person(0), person(1)]
    result = swap_faces(CLASSIC, row_of_three(), identities, target="all", assignment="similarity")
    assert swapped_people(result) == {0: 1, 1: 2, 2: 0}
    assert min(result.report[0].similarity_before) > 0.95


def test_by_similarity_strangers_stay() -> None:
    images, identities = row_of_three(), [person(2), photo_identity(CLASSIC, as_image(photo())[None], "largest")]
    result = swap_faces(CLASSIC, images, identities, target="all", assignment="similarity", lowest_similarity=0.95)
    assert swapped_people(result) == {2: 0}
    assert torch.equal(result.images[:, :, :512], images[:, :, :512])


def test_chosen_faces_are_all_replaced_and_no_others() -> None:
    images = torch.cat([row_of_three(), row_of_three()])
    found = CLASSIC.detect(images)
    chosen = FaceSet((found.faces[0][1:], ()), found.height, found.width, found.engine)
    result = swap_faces(CLASSIC, images, [person(0)], faces=chosen, target="largest")
    assert [item.swapped for item in result.report] == [2, 0]
    assert torch.equal(result.images[1], images[1])
    assert torch.equal(result.images[0, :, :256], images[0, :, :256])
    assert not torch.equal(result.images[0, :, 256:], images[0, :, 256:])
    assert [len(faces) for faces in result.faces.faces] == [2, 0]


@pytest.mark.parametrize("found", [placed(2, 64), placed(1, 128)])
def test_faces_of_other_images_are_refused(found: FaceSet) -> None:
    with pytest.raises(UserInputError) as caught:
        swap_faces(CLASSIC, torch.rand(1, 64, 64, 3), [person(0)], faces=found)
    assert caught.value.code == "faces_mismatch"


def test_nobody_to_put_in_is_refused() -> None:
    with pytest.raises(UserInputError) as caught:
        swap_faces(CLASSIC, row_of_three(), [])
    assert caught.value.code == "identity_missing"


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.stack([portrait(index) for index in range(3)]).half()
    together = swap_faces(CLASSIC, images, [person(1)])
    monkeypatch.setattr(swap, "_CHUNK_PIXELS", 1)
    apart = swap_faces(CLASSIC, images, [person(1)])
    assert together.images.dtype == torch.float32
    assert torch.equal(together.images, apart.images)
    assert torch.equal(together.mask, apart.mask)
    assert [item.similarity for item in together.report] == [item.similarity for item in apart.report]


def test_faces_of_several_images_share_the_networks_batches(tmp_path: Path) -> None:
    engine, recogniser, swapper = onnx_engine(tmp_path)
    images = as_image(photo())[None, :640, :640].repeat(5, 1, 1, 1)
    identity = engine.identity(images[0], face_at(300, 300, 200))
    recogniser.batches.clear()
    result = swap_faces(engine, images, [identity], faces=placed(5, 640))
    assert swapper.batches == split(5, batch_limit(swapper, BATCH))
    assert recogniser.batches == 2 * split(5, batch_limit(recogniser, BATCH))
    assert torch.equal(result.images[0], result.images[4])
    assert not torch.equal(result.images[0], images[0])


def test_embeddings_just_made_are_not_made_again(tmp_path: Path) -> None:
    """Faces found in the swap itself are compared by what was read when they were found."""
    engine, recogniser, _ = onnx_engine(tmp_path)
    image = as_image(photo())[None, :640, :640]
    identity = engine.identity(image[0], face_at(300, 300, 200))
    found = engine.detect(image)
    recogniser.batches.clear()
    engine.detect(image)
    detection = list(recogniser.batches)
    recogniser.batches.clear()
    result = swap_faces(engine, image, [identity])
    assert recogniser.batches == [*detection, 1]
    largest = FaceSet((found.faces[0][:1],), 640, 640, found.engine)
    given = swap_faces(engine, image, [identity], faces=largest)
    assert given.report[0].similarity_before == pytest.approx(result.report[0].similarity_before, abs=1e-5)
    assert torch.equal(given.images, result.images)


def test_a_replaced_face_keeps_nothing_that_was_read_from_its_pixels(tmp_path: Path) -> None:
    engine, _, _ = onnx_engine(tmp_path)
    image = as_image(photo())[None, :640, :640]
    result = swap_faces(engine, image, [engine.identity(image[0], face_at(300, 300, 200))])
    largest, *others = result.faces.faces[0]
    assert largest.embedding is None
    assert all(face.embedding is not None for face in others)
    assert result.faces.recogniser == "w600k_r50.onnx"


@pytest.mark.parametrize("channels", [1, 4])
def test_no_image_is_changed(channels: int) -> None:
    """Neither the input nor, where nothing is replaced, its copy."""
    images = torch.rand(2, 64, 64, channels)
    before = images.clone()
    result = swap_faces(CLASSIC, images, [person(0)], faces=FaceSet(((), ()), 64, 64, "by hand"))
    assert torch.equal(result.images, before)
    faces = placed(2, 64)
    result = swap_faces(CLASSIC, images, [person(0)], faces=faces)
    assert not torch.equal(result.images, before)
    assert torch.equal(images, before)


def test_an_interruption_leaves_the_images_alone() -> None:
    images = torch.stack([portrait(0), portrait(1)])
    before = images.clone()
    calls: list[None] = []

    def stop() -> None:
        calls.append(None)
        # Two detections and a face.
        if len(calls) == 4:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        swap_faces(CLASSIC, images, [person(2)], on_progress=stop)
    assert torch.equal(images, before)


def test_the_report_says_where_the_time_went() -> None:
    result = swap_faces(CLASSIC, torch.cat([row_of_three(), torch.zeros(1, 256, 768, 3)]), [person(1)], target="all")
    first, second = (item.milliseconds for item in result.report)
    assert min(first.detect, first.swap, first.paste, first.compare) > 0
    assert first.total == pytest.approx(first.detect + first.swap + first.paste + first.compare)
    assert (second.detect, second.swap, second.paste, second.compare) == (first.detect, 0.0, 0.0, 0.0)
    written = result.to_json()["images"]
    assert isinstance(written, list)
    assert written[0]["numbers"] == [1, 2, 3]
    assert written[0]["ms"] == round(first.total, 1)


# Prints by how many megabytes a swap of so many images of 1024 x 1024 makes the process grow.
_MEMORY = """
    import runpy, sys
    from pathlib import Path
    runpy.run_path(sys.argv[1] + "/devtools/pack.py")["load_pack"]()
    import torch
    from flux_face.devtools.bench._face_measure import peak_mib
    from flux_face.nodes.face.swap import swap_faces
    from flux_face.tests.face.test_swap import onnx_engine, placed
    from flux_face.tests.face.samples import face_at
    engine = onnx_engine(Path(sys.argv[2]))[0]
    identity = engine.identity(torch.rand(1024, 1024, 3), face_at(500, 500, 300))
    # Once, so that what the runtime keeps for a full chunk is there already.
    swap_faces(engine, torch.rand(16, 1024, 1024, 3), [identity], faces=placed(16, 1024))
    images = torch.rand(int(sys.argv[3]), 1024, 1024, 3)
    faces = placed(len(images), 1024)
    kept = []
    print(peak_mib(lambda: kept.append(swap_faces(engine, images, [identity], faces=faces))))
"""


def test_a_batch_needs_memory_for_its_result_and_little_else(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    count = 32
    command = [sys.executable, "-c", textwrap.dedent(_MEMORY), str(root), str(tmp_path), str(count)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    image, mask = 12.0, 4.0
    result = count * (image + mask)
    assert 0.8 * result < float(done.stdout) < result + 8 * image
