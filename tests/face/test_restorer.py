"""Restorers: the way to their alignment and back, their inputs, and batches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from flux_face.nodes.errors import UserInputError
from flux_face.nodes.face.align import ARCFACE_128, Matrix, crop_face, similarity_matrix, transform_points
from flux_face.nodes.face.contracts import (
    ARCFACE_112_V1,
    FFHQ_512,
    MTCNN_512,
    RESTORERS,
    RestorerContract,
)
from flux_face.nodes.face.restorer import OnnxRestorer
from flux_face.nodes.face.runtime.session import Session

from . import graphs, mask_graphs, samples

CONTRACTS = {contract.name: contract for contract in RESTORERS}
GFPGAN = CONTRACTS["gfpgan_1.4.onnx"]
CODEFORMER = CONTRACTS["codeformer.onnx"]
GPEN_256 = CONTRACTS["gpen_bfr_256.onnx"]


def faces(template: Matrix, side: int) -> Tensor:
    """Two aligned faces of the photograph, ``[2, side, side, 3]``, enlarged by up to two."""
    image = samples.as_image(samples.photo())
    return torch.stack(
        [
            crop_face(image, similarity_matrix(samples.face_at(x, y, size).landmarks, template * side), (side, side))
            for x, y, size in ((515, 330, 260), (780, 400, 230))
        ]
    )


def decibels(a: Tensor, b: Tensor) -> float:
    return -10.0 * math.log10(float(((a - b) ** 2).mean()) + 1e-12)


def inner(crops: Tensor, share: float = 0.12) -> Tensor:
    rim = int(share * crops.shape[1])
    return crops[:, rim:-rim, rim:-rim]


class Watched:
    """A session that keeps the pictures it is given."""

    def __init__(self, session: Session) -> None:
        self.path, self.provider, self.note, self.device = session.path, session.provider, session.note, session.device
        self.inputs, self.outputs = session.inputs, session.outputs
        self.seen: list[Tensor] = []
        self._session = session

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.seen.append(feeds["input"])
        return self._session.run(feeds)


@pytest.mark.parametrize("template", [ARCFACE_128, ARCFACE_112_V1, MTCNN_512, FFHQ_512], ids=["128", "v1", "m", "f"])
def test_a_network_that_changes_nothing_gives_the_drawing_back(template: Matrix, tmp_path: Path) -> None:
    restorer = OnnxRestorer(samples.session(mask_graphs.copier(tmp_path / "gfpgan_1.4.onnx")), GFPGAN)
    crops = faces(template, restorer.side)
    result = restorer.restore(crops, template)
    assert result.shape == crops.shape
    assert decibels(result, crops) > 45.0


def test_the_network_sees_the_face_where_it_was_trained_to(tmp_path: Path) -> None:
    """Marks at the swapper's five points come to lie on the restorer's."""
    watched = Watched(samples.session(mask_graphs.copier(tmp_path / "gfpgan_1.4.onnx")))
    side = 512
    crops = torch.zeros(5, side, side, 3)
    for index, (x, y) in enumerate(ARCFACE_128 * side):
        crops[index, round(y) - 6 : round(y) + 7, round(x) - 6 : round(x) + 7] = 1.0
    OnnxRestorer(watched, GFPGAN).restore(crops, ARCFACE_128)
    pictures = torch.cat(watched.seen)[:, 0]
    assert float(pictures.min()) == -1.0
    marks = (pictures + 1.0) / 2.0
    at = torch.arange(512.0)
    fitted = transform_points(ARCFACE_128 * side, similarity_matrix(ARCFACE_128 * side, FFHQ_512 * 512))
    for mark, best, trained in zip(marks, fitted, FFHQ_512 * 512, strict=True):
        place = (float((mark.sum(0) * at).sum() / mark.sum()), float((mark.sum(1) * at).sum() / mark.sum()))
        # The templates are turned by half a degree against each other, and differ in proportion.
        assert math.dist(place, best) < 2.0
        assert math.dist(place, trained) < 10.0


def test_a_larger_crop_keeps_more_of_the_added_detail(tmp_path: Path) -> None:
    restorer = OnnxRestorer(samples.session(graphs.restorer(tmp_path / "gfpgan_1.4.onnx")), GFPGAN)
    copier = OnnxRestorer(samples.session(mask_graphs.copier(tmp_path / "copier.onnx")), GFPGAN)
    small = faces(ARCFACE_128, 128)
    gain = []
    for side in (128, 512):
        given = functional.interpolate(small.permute(0, 3, 1, 2), (side, side), mode="bicubic").permute(0, 2, 3, 1)
        change = inner(restorer.restore(given, ARCFACE_128) - copier.restore(given, ARCFACE_128))
        gain.append(float((change - change.mean((1, 2), keepdim=True)).abs().mean()))
    assert gain[1] > gain[0] > 0.001


def test_the_restored_part_is_the_networks_answer(tmp_path: Path) -> None:
    """Against its own steps: a cubic warp by OpenCV, the network, and the warp back."""
    cv2 = pytest.importorskip("cv2")
    session = samples.session(graphs.restorer(tmp_path / "gfpgan_1.4.onnx"))
    crops = faces(ARCFACE_128, 512)
    result = OnnxRestorer(session, GFPGAN).restore(crops, ARCFACE_128)
    matrix = similarity_matrix(ARCFACE_128 * 512, FFHQ_512 * 512)
    for crop, ours in zip(crops, result, strict=True):
        warped = cv2.warpAffine(crop.numpy(), matrix, (512, 512), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        blob = torch.from_numpy((warped.transpose(2, 0, 1)[None] - 0.5) / 0.5)
        answer = session.run({"input": blob})["output"][0].permute(1, 2, 0).numpy().clip(-1, 1) / 2 + 0.5
        back = cv2.warpAffine(answer, matrix, (512, 512), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
        assert decibels(inner(ours[None]), inner(torch.from_numpy(back)[None])) > 38.0
        assert decibels(inner(ours[None]), inner(crop[None])) < 32.0


@pytest.mark.parametrize("contract", [GFPGAN, CODEFORMER, GPEN_256], ids=lambda contract: contract.name)
def test_a_batch_equals_each_alone(contract: RestorerContract, tmp_path: Path) -> None:
    path = graphs.restorer(tmp_path / contract.name, contract.size, weight=contract.weight)
    restorer = OnnxRestorer(samples.session(path), contract)
    crops = torch.cat([faces(ARCFACE_128, 128), faces(ARCFACE_128, 128).flip(2)])
    batch = restorer.restore(crops, ARCFACE_128)
    alone = torch.cat([restorer.restore(crop[None], ARCFACE_128) for crop in crops])
    torch.testing.assert_close(batch, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("scalar", [False, True])
def test_codeformer_is_told_how_faithful_to_be(scalar: bool, tmp_path: Path) -> None:
    """Our graph gives at 1 the (softened) input, at 0 the sharpened one, and halfway the mean."""
    path = graphs.restorer(tmp_path / "codeformer.onnx", weight=True)
    if scalar:
        mask_graphs.scalar_weight(path)
    crops = faces(ARCFACE_128, 256)
    session = samples.session(path)
    results = [OnnxRestorer(session, CODEFORMER, share).restore(crops, ARCFACE_128) for share in (0.0, 0.5, 1.0)]
    ends = decibels(inner(results[0]), inner(results[2]))
    assert ends < 50.0
    assert decibels(inner(results[1]), inner((results[0] + results[2]) / 2)) > ends + 12.0


def test_the_rim_of_the_networks_own_crop_is_left_as_drawn(tmp_path: Path) -> None:
    """With the same template both crops end together; there the drawing stays."""
    restorer = OnnxRestorer(samples.session(graphs.restorer(tmp_path / "gfpgan_1.4.onnx")), GFPGAN)
    crops = faces(FFHQ_512, 256)
    result = restorer.restore(crops, FFHQ_512)
    for edge in (0, -1):
        torch.testing.assert_close(result[:, edge], crops[:, edge], atol=2e-3, rtol=0)
        torch.testing.assert_close(result[:, :, edge], crops[:, :, edge], atol=2e-3, rtol=0)
    assert float((result - crops).abs().max()) > 0.02


def test_what_lies_outside_the_drawing_is_mirrored_in(tmp_path: Path) -> None:
    """A flat drawing stays flat, and a line near its upper edge is seen by the network a second time, above it."""
    watched = Watched(samples.session(mask_graphs.copier(tmp_path / "gfpgan_1.4.onnx")))
    restorer = OnnxRestorer(watched, GFPGAN)
    side = 256
    flat = torch.full((1, side, side, 3), 0.7)
    torch.testing.assert_close(restorer.restore(flat, ARCFACE_128), flat, atol=1e-5, rtol=0)
    line = flat.clone()
    line[:, 16:20] = 0.1
    restorer.restore(line, ARCFACE_128)
    rows = watched.seen[-1][0, 0, :, 256]
    scale = float(np.ptp(FFHQ_512[:, 1]) / np.ptp(ARCFACE_128[:, 1])) * 512 / side
    dark = (rows < 0.0).nonzero().flatten().float()
    upper, lower = dark[: len(dark) // 2].mean(), dark[len(dark) // 2 :].mean()
    # 17.5 rows below the outermost row's centre and as many above.
    assert float(lower - upper) == pytest.approx(35.0 * scale, rel=0.1)


def test_other_networks_are_refused(tmp_path: Path) -> None:
    plain = samples.session(graphs.restorer(tmp_path / "gfpgan_1.4.onnx"))
    weighted = samples.session(graphs.restorer(tmp_path / "codeformer.onnx", weight=True))
    parser = samples.session(mask_graphs.palette_parser(tmp_path / "bisenet_resnet_34.onnx"))
    for session, contract in ((plain, CODEFORMER), (weighted, GFPGAN), (parser, GFPGAN), (plain, GPEN_256)):
        with pytest.raises(UserInputError, match="restorer") as caught:
            OnnxRestorer(session, contract)
        assert caught.value.code == "onnx_contract"


def test_sizes_follow_the_contract(tmp_path: Path) -> None:
    restorer = OnnxRestorer(samples.session(mask_graphs.copier(tmp_path / GPEN_256.name, 256)), GPEN_256)
    assert (restorer.name, restorer.side) == ("gpen_bfr_256.onnx", 256)
    # The same template: nothing is moved, so nothing is lost.
    crops = faces(ARCFACE_128, 256)
    torch.testing.assert_close(restorer.restore(crops, ARCFACE_128), crops, atol=1e-5, rtol=0)
    assert np.array_equal(GPEN_256.template, ARCFACE_128)
