"""Colour science against published reference values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import color

from flux_face.nodes.skin.colour import (
    chroma,
    ciede2000,
    hue,
    lab_to_srgb,
    rgb_to_hsv,
    rgb_to_ycrcb,
    srgb_to_lab,
    typology_angle,
)
from flux_face.nodes.skin.monk import MONK_HEX, monk_lab, nearest_step
from flux_face.starter.portrait import MONK_HEX as RENDERED_HEX

# Sharma, Wu and Dalal 2005, table 1: L*, a*, b* of two colours and their CIEDE2000 difference.
SHARMA = (
    (50.0000, 2.6772, -79.7751, 50.0000, 0.0000, -82.7485, 2.0425),
    (50.0000, 3.1571, -77.2803, 50.0000, 0.0000, -82.7485, 2.8615),
    (50.0000, 2.8361, -74.0200, 50.0000, 0.0000, -82.7485, 3.4412),
    (50.0000, -1.3802, -84.2814, 50.0000, 0.0000, -82.7485, 1.0000),
    (50.0000, -1.1848, -84.8006, 50.0000, 0.0000, -82.7485, 1.0000),
    (50.0000, -0.9009, -85.5211, 50.0000, 0.0000, -82.7485, 1.0000),
    (50.0000, 0.0000, 0.0000, 50.0000, -1.0000, 2.0000, 2.3669),
    (50.0000, -1.0000, 2.0000, 50.0000, 0.0000, 0.0000, 2.3669),
    (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0009, 7.1792),
    (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0010, 7.1792),
    (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0011, 7.2195),
    (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0012, 7.2195),
    (50.0000, -0.0010, 2.4900, 50.0000, 0.0009, -2.4900, 4.8045),
    (50.0000, -0.0010, 2.4900, 50.0000, 0.0010, -2.4900, 4.8045),
    (50.0000, -0.0010, 2.4900, 50.0000, 0.0011, -2.4900, 4.7461),
    (50.0000, 2.5000, 0.0000, 50.0000, 0.0000, -2.5000, 4.3065),
    (50.0000, 2.5000, 0.0000, 73.0000, 25.0000, -18.0000, 27.1492),
    (50.0000, 2.5000, 0.0000, 61.0000, -5.0000, 29.0000, 22.8977),
    (50.0000, 2.5000, 0.0000, 56.0000, -27.0000, -3.0000, 31.9030),
    (50.0000, 2.5000, 0.0000, 58.0000, 24.0000, 15.0000, 19.4535),
    (50.0000, 2.5000, 0.0000, 50.0000, 3.1736, 0.5854, 1.0000),
    (50.0000, 2.5000, 0.0000, 50.0000, 3.2972, 0.0000, 1.0000),
    (50.0000, 2.5000, 0.0000, 50.0000, 1.8634, 0.5757, 1.0000),
    (50.0000, 2.5000, 0.0000, 50.0000, 3.2592, 0.3350, 1.0000),
    (60.2574, -34.0099, 36.2677, 60.4626, -34.1751, 39.4387, 1.2644),
    (63.0109, -31.0961, -5.8663, 62.8187, -29.7946, -4.0864, 1.2630),
    (61.2901, 3.7196, -5.3901, 61.4292, 2.2480, -4.9620, 1.8731),
    (35.0831, -44.1164, 3.7933, 35.0232, -40.0716, 1.5901, 1.8645),
    (22.7233, 20.0904, -46.6940, 23.0331, 14.9730, -42.5619, 2.0373),
    (36.4612, 47.8580, 18.3852, 36.2715, 50.5065, 21.2231, 1.4146),
    (90.8027, -2.0831, 1.4410, 91.1528, -1.6435, 0.0447, 1.4441),
    (90.9257, -0.5406, -0.9208, 88.6381, -0.8985, -0.7239, 1.5381),
    (6.7747, -0.2908, -2.4247, 5.8714, -0.0985, -2.2286, 0.6377),
    (2.0776, 0.0795, -1.1350, 0.9033, -0.0636, -0.5514, 0.9082),
)


@pytest.mark.parametrize("row", SHARMA, ids=[str(i + 1) for i in range(len(SHARMA))])
def test_ciede2000_of_the_published_pairs(row: tuple[float, ...]) -> None:
    values = torch.tensor(row, dtype=torch.float64)
    # The data are given to four decimals.
    assert ciede2000(values[0:3], values[3:6]).item() == pytest.approx(row[6], abs=6e-5)
    assert ciede2000(values[3:6], values[0:3]).item() == pytest.approx(row[6], abs=6e-5)


def test_ciede2000_of_random_colours_agrees_with_scikit_image() -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.uniform((0, -90, -90), (100, 90, 90), (5000, 3)) for _ in range(2))
    for factor in (1.0, 2.0):
        ours = ciede2000(torch.from_numpy(a), torch.from_numpy(b), lightness_factor=factor).numpy()
        np.testing.assert_allclose(ours, color.deltaE_ciede2000(a, b, kL=factor), atol=1e-6)


def test_ciede2000_of_equal_and_of_neutral_colours_is_finite() -> None:
    grey = torch.tensor([[50.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert ciede2000(grey, grey).tolist() == [0.0, 0.0]
    assert ciede2000(grey[:1], torch.tensor([[60.0, 0.0, 0.0]])).isfinite().all()


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        # sRGB primaries and white relative to D65, as tabulated by B. Lindbloom.
        ((1.0, 1.0, 1.0), (100.0, 0.0, 0.0)),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        ((1.0, 0.0, 0.0), (53.2408, 80.0925, 67.2032)),
        ((0.0, 1.0, 0.0), (87.7347, -86.1827, 83.1793)),
        ((0.0, 0.0, 1.0), (32.2970, 79.1875, -107.8602)),
        ((0.5, 0.5, 0.5), (53.3890, 0.0, 0.0)),
    ],
)
def test_lab_of_known_colours(rgb: tuple[float, ...], lab: tuple[float, ...]) -> None:
    assert srgb_to_lab(torch.tensor(rgb, dtype=torch.float64)).tolist() == pytest.approx(lab, abs=0.01)


def test_lab_agrees_with_scikit_image() -> None:
    rgb = np.random.default_rng(2).random((1000, 3))
    np.testing.assert_allclose(srgb_to_lab(torch.from_numpy(rgb)).numpy(), color.rgb2lab(rgb), atol=0.02)


def test_lab_goes_back_to_the_colour_it_came_from() -> None:
    rgb = torch.cat([torch.rand(500, 3, generator=torch.Generator().manual_seed(1)), torch.eye(3), torch.zeros(1, 3)])
    assert torch.allclose(lab_to_srgb(srgb_to_lab(rgb)), rgb, atol=1e-4)


def test_a_lab_colour_outside_srgb_is_clipped() -> None:
    rgb = lab_to_srgb(torch.tensor([[120.0, 0.0, 0.0], [50.0, 200.0, -200.0], [-5.0, 0.0, 0.0]]))
    assert rgb.min() == 0.0
    assert rgb.max() <= 1.0


def test_hue_and_chroma() -> None:
    lab = torch.tensor([[50.0, 3.0, 4.0], [50.0, 0.0, -2.0], [50.0, -1.0, 0.0]])
    assert chroma(lab).tolist() == pytest.approx([5.0, 2.0, 1.0])
    assert hue(lab).tolist() == pytest.approx([53.1301, 270.0, 180.0], abs=1e-3)


@pytest.mark.parametrize(
    ("lightness", "b", "low", "high"),
    [
        # Del Bino and Bernerd 2013: bands of skin colour by ITA.
        (72.0, 12.0, 55.0, 91.0),  # very light
        (65.0, 16.0, 41.0, 55.0),  # light
        (62.0, 18.0, 28.0, 41.0),  # intermediate
        (56.0, 19.0, 10.0, 28.0),  # tan
        (45.0, 18.0, -30.0, 10.0),  # brown
        (33.0, 13.0, -91.0, -30.0),  # dark
    ],
)
def test_typology_angle_bands(lightness: float, b: float, low: float, high: float) -> None:
    assert low < typology_angle(torch.tensor([lightness, 10.0, b])).item() <= high


def test_typology_angle_is_the_published_formula() -> None:
    lab = torch.tensor([68.0, 8.0, 15.0])
    assert typology_angle(lab).item() == pytest.approx(np.degrees(np.arctan((68.0 - 50.0) / 15.0)), abs=1e-4)


def test_hsv_agrees_with_scikit_image() -> None:
    rgb = np.random.default_rng(3).random((1000, 3))
    ours = rgb_to_hsv(torch.from_numpy(rgb)).numpy()
    ours[:, 0] /= 360.0
    np.testing.assert_allclose(ours, color.rgb2hsv(rgb), atol=1e-9)


def test_hsv_of_neutral_colours() -> None:
    assert rgb_to_hsv(torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])).tolist() == [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]


def test_ycrcb_agrees_with_opencv() -> None:
    cv2 = pytest.importorskip("cv2")
    rgb = np.random.default_rng(4).random((1, 1000, 3)).astype(np.float32)
    np.testing.assert_allclose(
        rgb_to_ycrcb(torch.from_numpy(rgb)).numpy(), cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb), atol=1e-5
    )


def test_each_step_of_the_scale_is_nearest_to_itself() -> None:
    step, difference = nearest_step(monk_lab())
    assert step.tolist() == list(range(1, 11))
    assert difference.max().item() == pytest.approx(0.0, abs=1e-3)


def test_the_renderer_draws_with_the_same_scale() -> None:
    assert MONK_HEX == RENDERED_HEX
