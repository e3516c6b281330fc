"""Masks in crop space: shapes by what they must hold, networks against facefusion's steps done with OpenCV."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from flux_face.nodes.errors import UserInputError
from flux_face.nodes.face.align import ARCFACE_128
from flux_face.nodes.face.blend import box_mask
from flux_face.nodes.face.contracts import IMAGENET, OCCLUDERS, PARSERS
from flux_face.nodes.face.mask_models import CLASSES, FACE_REGIONS, FaceParser, Occluder
from flux_face.nodes.face.masks import SHAPES, MaskSettings, MaskShape, crop_masks

from . import graphs, mask_graphs, samples

SIDE = 256
Floats = npt.NDArray[np.float32]

# Chin and temples of a face that lies on the template, in fractions of the crop.
CHIN, FOREHEAD = (0.5, 0.88), (0.5, 0.2)
OUTSIDE = [(0.5, 0.99), (0.02, 0.5), (0.98, 0.5), (0.05, 0.05), (0.95, 0.95), (0.1, 0.9)]


def template(side: int = SIDE, count: int = 1) -> Tensor:
    return torch.from_numpy(ARCFACE_128 * side).float().expand(count, 5, 2)


def grey(side: int = SIDE, count: int = 1) -> Tensor:
    return torch.full((count, side, side, 3), 0.5)


def at(mask: Tensor, place: tuple[float, float]) -> float:
    side = mask.shape[-1]
    return float(mask[round(place[1] * (side - 1)), round(place[0] * (side - 1))])


@pytest.fixture(scope="module")
def crops() -> Tensor:
    """Parts of a photograph, of 256 pixels a side."""
    pixels = samples.as_image(samples.photo())
    return torch.stack([pixels[y : y + SIDE, x : x + SIDE] for x, y in ((480, 240), (90, 300), (720, 260))])


def test_without_a_choice_the_mask_is_the_box() -> None:
    mask = crop_masks(grey(), template(), MaskSettings())
    assert torch.equal(mask[0], box_mask(SIDE, 0.15, grey()))


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_holds_the_features(shape: MaskShape) -> None:
    mask = crop_masks(grey(), template(), MaskSettings(softness=0.1, shapes=(shape,)))[0]
    for x, y in ARCFACE_128:
        assert at(mask, (x, y)) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("shape", ["ellipse", "landmarks"])
def test_ovals_hold_the_face_and_leave_the_corners(shape: MaskShape) -> None:
    mask = crop_masks(grey(), template(), MaskSettings(softness=0.05, shapes=(shape,)))[0]
    assert at(mask, (0.5, 0.84)) > 0.5
    assert at(mask, FOREHEAD) > 0.5
    for place in OUTSIDE:
        assert at(mask, place) == 0.0


@pytest.mark.parametrize("shape", ["ellipse", "landmarks"])
def test_ovals_turn_with_the_face(shape: MaskShape) -> None:
    settings_ = MaskSettings(softness=0.1, shapes=(shape,))
    upright = crop_masks(grey(), template(), settings_)
    turned = template().flip(-1)  # mirrored at the diagonal
    torch.testing.assert_close(crop_masks(grey(), turned, settings_), upright.transpose(1, 2), atol=2e-3, rtol=0)


def test_the_outline_narrows_with_a_turned_head() -> None:
    """Seen from the side, eyes and mouth corners lie close together."""
    points = template().clone()
    points[..., 0] = 0.5 * SIDE + 0.55 * (points[..., 0] - 0.5 * SIDE)
    settings_ = MaskSettings(softness=0.05, shapes=("landmarks",))
    narrow, wide = crop_masks(grey(), points, settings_), crop_masks(grey(), template(), settings_)
    assert 0.45 < float(narrow.sum() / wide.sum()) < 0.65


def test_a_contour_is_followed() -> None:
    """An ellipse of 106 points: inside is one, outside is zero, and the forehead above the last points is included."""
    angle = torch.arange(106) * (2 * math.pi / 106)
    contour = SIDE * torch.stack([0.5 + 0.26 * angle.cos(), 0.55 + 0.27 * angle.sin()], dim=-1)
    mask = crop_masks(grey(), template(), MaskSettings(softness=0.02, shapes=("landmarks",)), contour[None])[0]
    for x, y, inside in [(0.5, 0.79, 1), (0.5, 0.85, 0), (0.73, 0.55, 1), (0.79, 0.55, 0), (0.26, 0.74, 0)]:
        assert at(mask, (x, y)) == pytest.approx(inside, abs=1e-3)
    assert at(mask, (0.5, 0.22)) == 1.0
    assert at(mask, (0.5, 0.10)) == 0.0


def test_padding_leaves_out_what_it_says() -> None:
    mask = crop_masks(grey(), template(), MaskSettings(softness=0.0, padding=(0.1, 0.2, 0.3, 0.4)))[0]
    rows, columns = mask.amax(dim=1).nonzero().flatten(), mask.amax(dim=0).nonzero().flatten()
    assert (int(rows[0]), int(rows[-1])) == pytest.approx((0.1 * SIDE, 0.7 * SIDE), abs=2)
    assert (int(columns[0]), int(columns[-1])) == pytest.approx((0.4 * SIDE, 0.8 * SIDE), abs=2)
    assert mask[100, 150] == 1.0


SHARE = st.floats(0.0, 0.45)


@settings(max_examples=40, deadline=None)
@given(
    shapes=st.sets(st.sampled_from(SHAPES)),
    softness=st.floats(0.0, 1.0),
    padding=st.tuples(SHARE, SHARE, SHARE, SHARE),
    points=st.lists(st.floats(-200.0, 400.0, width=32), min_size=20, max_size=20),
    side=st.sampled_from([16, 64, 97]),
)
def test_any_mask_is_zero_at_the_border_and_no_larger_than_its_parts(
    shapes: set[MaskShape],
    softness: float,
    padding: tuple[float, float, float, float],
    points: list[float],
    side: int,
) -> None:
    """Even for landmarks that are no face's."""
    landmarks = torch.tensor(points).view(2, 5, 2)
    chosen = MaskSettings(softness=softness, shapes=tuple(shapes), padding=padding)
    mask = crop_masks(grey(side, 2), landmarks, chosen)
    assert mask.shape == (2, side, side)
    assert bool(((mask >= 0) & (mask <= 1)).all())
    border = torch.cat([mask[:, 0], mask[:, -1], mask[:, :, 0], mask[:, :, -1]])
    assert float(border.abs().max()) == 0.0
    for shape in shapes:
        part = crop_masks(grey(side, 2), landmarks, MaskSettings(softness, (shape,), padding))
        assert bool((mask <= part).all())
    alone = torch.cat([crop_masks(grey(side), landmarks[i : i + 1], chosen) for i in range(2)])
    torch.testing.assert_close(mask, alone, atol=1e-5, rtol=0)


def facefusion_edge(mask: Any, side: int) -> Floats:
    """What facefusion's ``face_masker.py`` does to a network's mask: OpenCV's blur, and half of the edge."""
    cv2 = pytest.importorskip("cv2")
    large = cv2.resize(np.asarray(mask, np.float32).clip(0, 1), (side, side))
    edge: Floats = (cv2.GaussianBlur(large.clip(0, 1), (0, 0), 5).clip(0.5, 1) - 0.5) * 2
    return edge


def inner(mask: Any) -> Any:
    """Without the rim, where OpenCV mirrors and we repeat the border."""
    return mask[..., 24:-24, 24:-24]


def test_the_occluder_works_as_in_facefusion(crops: Tensor, tmp_path: Path) -> None:
    session = samples.session(graphs.occluder(tmp_path / "xseg_1.onnx", seed=5))
    ours = Occluder(session, OCCLUDERS[0]).mask(crops)
    assert ours.std() > 0.1
    for crop, mask in zip(crops, ours, strict=True):
        blue_first = torch.from_numpy(crop.numpy()[None, ..., ::-1].copy())
        answer = session.run({"input": blue_first})["output"][0, ..., 0].numpy()
        np.testing.assert_allclose(inner(mask.numpy()), inner(facefusion_edge(answer, SIDE)), atol=0.02)


def test_the_parser_works_as_in_facefusion(crops: Tensor, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    session = samples.session(mask_graphs.palette_parser(tmp_path / "bisenet_resnet_34.onnx", heads=3))
    regions = frozenset(CLASSES[:9])
    ours = FaceParser(session, PARSERS[0]).mask(crops, regions)
    assert 0.1 < ours.mean() < 0.9
    for crop, mask in zip(crops, ours, strict=True):
        large = cv2.resize(crop.numpy(), (512, 512))
        blob = ((large - np.array(IMAGENET.mean)) / np.array(IMAGENET.std)).transpose(2, 0, 1)[None]
        labels = session.run({"input": torch.from_numpy(blob).float()})["output"][0].argmax(0).numpy()
        expected = facefusion_edge(np.isin(labels, range(9)), SIDE)
        np.testing.assert_allclose(inner(mask.numpy()), inner(expected), atol=0.02)


def test_regions_go_by_their_names(tmp_path: Path) -> None:
    """One crop shows the class on its left half and another on its right, the next the other way round."""
    session = samples.session(mask_graphs.palette_parser(tmp_path / "bisenet.onnx", side=64))
    parser = FaceParser(session, replace(PARSERS[0], size=64))
    crops = torch.empty(2, 128, 128, 3)
    for here, name in enumerate(CLASSES):
        other = (here + 7) % len(CLASSES)
        crops[0, :, :64], crops[0, :, 64:] = (torch.from_numpy(mask_graphs.PALETTE[n]) for n in (here, other))
        crops[1] = crops[0].flip(1)
        share = parser.share(crops, {name})
        assert share[0, :, :60].min() == 1.0
        assert share[0, :, 68:].max() == 0.0
        torch.testing.assert_close(share[1], share[0].flip(1), atol=1e-5, rtol=0)
        both = parser.share(crops, {name, CLASSES[other]})
        assert torch.cat([both[:, :, :60], both[:, :, 68:]], dim=2).min() == 1.0


def test_masks_are_combined_by_their_minimum(crops: Tensor, tmp_path: Path) -> None:
    occluder = Occluder(samples.session(graphs.occluder(tmp_path / "xseg_1.onnx", seed=5)), OCCLUDERS[0])
    parser = FaceParser(
        samples.session(mask_graphs.palette_parser(tmp_path / "bisenet_resnet_34.onnx", heads=3)), PARSERS[0]
    )
    points = template(count=len(crops))
    regions = frozenset(CLASSES[:9])
    both = MaskSettings(shapes=("ellipse",), occluder=occluder, parser=parser, regions=regions)
    ellipse = crop_masks(crops, points, MaskSettings(shapes=("ellipse",)))
    expected = torch.minimum(torch.minimum(ellipse, occluder.mask(crops)), parser.mask(crops, regions))
    assert torch.equal(crop_masks(crops, points, both), expected)
    assert float(expected.std()) > 0.05


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"shapes": ("circle",)}, "mask_name_unknown"),
        ({"regions": frozenset({"skin", "chin"})}, "mask_name_unknown"),
        ({"regions": frozenset({"skin"})}, "mask_parser_missing"),
        ({"softness": -0.1}, "mask_value_out_of_range"),
        ({"softness": 1.5}, "mask_value_out_of_range"),
        ({"padding": (0.5, 0.0, 0.5, 0.0)}, "mask_value_out_of_range"),
        ({"padding": (0.0, -0.1, 0.0, 0.0)}, "mask_value_out_of_range"),
    ],
)
def test_settings_that_mean_nothing_are_refused(values: dict[str, Any], code: str) -> None:
    with pytest.raises(UserInputError) as caught:
        MaskSettings(**values)
    assert caught.value.code == code


def test_networks_of_another_kind_are_refused(tmp_path: Path) -> None:
    parser = samples.session(mask_graphs.palette_parser(tmp_path / "bisenet_resnet_34.onnx", heads=3))
    occluder = samples.session(graphs.occluder(tmp_path / "xseg_1.onnx", seed=5))
    with pytest.raises(UserInputError, match="occluder"):
        Occluder(parser, OCCLUDERS[0])
    with pytest.raises(UserInputError, match="face parser"):
        FaceParser(occluder, PARSERS[0])


def test_the_face_is_made_of_regions_that_exist() -> None:
    assert set(CLASSES) > FACE_REGIONS
