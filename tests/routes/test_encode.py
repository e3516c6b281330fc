"""Pictures as files, read back by Pillow and OpenCV."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from flux_face.server_routes.encode import PictureError, encode_image
from flux_face.server_routes.png import write_png


def noise(*shape: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (64, 64), (65, 1), (200, 33), (700, 500), (1024, 1365)])
def test_png_is_lossless(height: int, width: int) -> None:
    pixels = noise(height, width, 3)
    texts = {"XML:com.adobe.xmp": "<ä/>", "Comment": ""}
    data = write_png(height, width, lambda top, bottom: pixels[top:bottom], texts)
    image: Any = Image.open(io.BytesIO(data))
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), pixels)
    assert image.text == texts
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert np.array_equal(decoded[..., ::-1], pixels)


@pytest.mark.parametrize("rows", [1, 64, 65, 150])
def test_values_are_rounded_and_kept_in_range(rows: int) -> None:
    values = torch.linspace(-0.2, 1.2, rows * 9 * 3).reshape(rows, 9, 3)
    picture = encode_image(values, "a", "png", 90, seed=7, verdict=None)
    expected = values.clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(picture.data))), expected)


def test_a_view_with_gaps_is_encoded() -> None:
    values = torch.from_numpy(noise(40, 60, 3).astype(np.float32) / 255)
    turned = encode_image(values.transpose(0, 1), "a", "png", 90, seed=7, verdict=None)
    copied = encode_image(values.transpose(0, 1).contiguous(), "a", "png", 90, seed=7, verdict=None)
    assert turned == copied


def test_values_of_half_precision() -> None:
    picture = encode_image(torch.full((8, 8, 3), 0.5, dtype=torch.bfloat16), "a", "png", 90, seed=7, verdict=None)
    assert (np.asarray(Image.open(io.BytesIO(picture.data))) == 128).all()


@pytest.mark.parametrize("place", [(0, 0, 0), (70, 3, 2), (99, 7, 1)])
def test_what_is_not_a_number_is_no_picture(place: tuple[int, int, int]) -> None:
    """Else a VAE of too low a precision would give a black picture, and nobody would be told."""
    values = torch.full((100, 8, 3), 0.5)
    values[place] = float("nan")
    with pytest.raises(PictureError, match="no numbers"):
        encode_image(values, "a", "png", 90, seed=7, verdict=None)
