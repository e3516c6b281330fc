"""Photos of every kind to one upright RGB tensor, and what is refused."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from flux_face.nodes.errors import UserInputError
from flux_face.nodes.job.photo import PhotoLimits, check_photo, decode_photo

LIMITS = PhotoLimits()


def encode(image: Image.Image, name: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def refusal(data: bytes, limits: PhotoLimits = LIMITS) -> UserInputError:
    """What both entry points say; they must agree."""
    with pytest.raises(UserInputError) as checked:
        check_photo(data, limits, "user_photo")
    with pytest.raises(UserInputError) as decoded:
        decode_photo(data, limits, "user_photo")
    assert str(checked.value) == str(decoded.value)
    assert checked.value.field == "user_photo"
    assert checked.value.remedy
    return checked.value


@pytest.fixture
def corners() -> Image.Image:
    """A 6 x 4 picture whose corners differ: red, green / blue, white."""
    image = Image.new("RGB", (6, 4))
    for position, colour in {(0, 0): "red", (5, 0): "lime", (0, 3): "blue", (5, 3): "white"}.items():
        image.paste(Image.new("RGB", (1, 1), colour), position)
    return image


def test_plain_rgb(corners: Image.Image) -> None:
    photo = decode_photo(encode(corners), LIMITS)
    assert photo.shape == (1, 4, 6, 3)
    assert photo.dtype == torch.float32
    assert torch.equal(photo[0], torch.from_numpy(np.asarray(corners, np.float32) / 255))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientations(corners: Image.Image, orientation: int) -> None:
    """The stored picture is the upright one put through the inverse of what the tag asks for."""
    stored = {
        1: lambda image: image,
        2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
        4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
        6: lambda image: image.transpose(Image.Transpose.ROTATE_90),
        7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
        8: lambda image: image.transpose(Image.Transpose.ROTATE_270),
    }[orientation](corners)
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = decode_photo(encode(stored, exif=exif), LIMITS)
    assert torch.equal(photo[0], torch.from_numpy(np.asarray(corners, np.float32) / 255))


def test_alpha_is_flattened_on_mid_grey() -> None:
    image = Image.new("RGBA", (3, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (255, 0, 0, 0))
    image.putpixel((2, 0), (255, 0, 0, 51))
    photo = decode_photo(encode(image), LIMITS)
    expected = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.6, 0.4, 0.4]])
    assert torch.allclose(photo[0, 0], expected, atol=1e-6)


def test_grey_with_alpha() -> None:
    photo = decode_photo(encode(Image.new("LA", (2, 2), (255, 0))), LIMITS)
    assert torch.allclose(photo, torch.full((1, 2, 2, 3), 0.5))


def test_grey() -> None:
    photo = decode_photo(encode(Image.new("L", (2, 3), 51)), LIMITS)
    assert torch.allclose(photo, torch.full((1, 3, 2, 3), 0.2))


def test_sixteen_bit_grey_keeps_its_precision() -> None:
    values = np.array([[0, 1, 257, 65535]], np.uint16)
    photo = decode_photo(encode(Image.fromarray(values)), LIMITS)
    assert torch.allclose(photo[0, 0, :, 0] * 65535, torch.tensor([0.0, 1.0, 257.0, 65535.0]))
    assert torch.equal(photo[..., 0], photo[..., 2])


def test_sixteen_bit_colour() -> None:
    row = b"\x00" + struct.pack(">6H", 65535, 0, 32768, 0, 65535, 256)
    photo = decode_photo(_png(2, 1, row, bit_depth=16, colour_type=2), LIMITS)
    assert torch.allclose(photo[0, 0], torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]), atol=1 / 255)


def test_palette_with_and_without_transparency() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    assert torch.equal(decode_photo(encode(image), LIMITS)[0, 0], torch.tensor([[1.0, 0, 0], [0, 0, 1.0]]))
    photo = decode_photo(encode(image, transparency=1), LIMITS)
    assert torch.allclose(photo[0, 0], torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0.5]]))


def test_one_bit() -> None:
    assert torch.equal(decode_photo(encode(Image.new("1", (4, 4), 1)), LIMITS), torch.ones(1, 4, 4, 3))


def test_cmyk_jpeg() -> None:
    image = Image.new("RGB", (16, 16), (200, 120, 40)).convert("CMYK")
    photo = decode_photo(encode(image, "JPEG", quality=95), LIMITS)
    assert torch.allclose(photo[0, 8, 8] * 255, torch.tensor([200.0, 120.0, 40.0]), atol=4)


def test_webp() -> None:
    photo = decode_photo(encode(Image.new("RGB", (16, 16), (200, 120, 40)), "WEBP", lossless=True), LIMITS)
    assert torch.allclose(photo[0, 8, 8] * 255, torch.tensor([200.0, 120.0, 40.0]), atol=1)


def test_a_phone_photo_of_two_frames_is_its_first() -> None:
    """Phones store depth and gain maps as a second frame of a JPEG."""
    first, second = Image.new("RGB", (16, 16), (200, 120, 40)), Image.new("RGB", (16, 16))
    data = encode(first, "MPO", save_all=True, append_images=[second])
    assert torch.allclose(decode_photo(data, LIMITS)[0, 8, 8] * 255, torch.tensor([200.0, 120.0, 40.0]), atol=4)


@pytest.mark.parametrize("name", ["GIF", "BMP", "TIFF", "ICO"])
def test_other_formats_are_refused(name: str) -> None:
    assert refusal(encode(Image.new("RGB", (16, 16)), name)).code == "photo_format"


@pytest.mark.parametrize("data", [b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7", b"MZ", b"\x00" * 100])
def test_no_image_at_all(data: bytes) -> None:
    assert refusal(data).code == "photo_format"


def test_empty() -> None:
    assert refusal(b"").code == "photo_empty"


@pytest.mark.parametrize("name", ["PNG", "WEBP"])
def test_animated(name: str) -> None:
    frames = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (0, 100, 200)]
    assert refusal(encode(frames[0], name, save_all=True, append_images=frames[1:])).code == "photo_animated"


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.99])
@pytest.mark.parametrize("lenient", [False, True], ids=["strict", "lenient-pillow"])
def test_truncated(name: str, part: float, lenient: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where another pack has told Pillow, for the whole process, to accept truncated images."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    data = encode(Image.effect_noise((64, 64), 80).convert("RGB"), name)
    assert refusal(data[: int(len(data) * part)]).code in ("photo_corrupt", "photo_format")


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP"])
def test_damaged_bytes_never_raise_anything_else(name: str) -> None:
    data = encode(Image.effect_noise((48, 48), 80).convert("RGB"), name)
    random = np.random.default_rng(7)
    for _ in range(150):
        damaged = bytearray(data)
        for position in random.integers(0, len(data), size=4):
            damaged[position] = random.integers(0, 256)
        try:
            decode_photo(bytes(damaged), LIMITS)
        except UserInputError as error:
            assert error.code.startswith("photo_")  # noqa: PT017  (some damage is harmless, so nothing need be raised)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("run.py", "print('hello')")
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("behind", [zipped(), b"%PDF-1.7 ...", b"<?php system($x); ?>"], ids=["zip", "pdf", "php"])
def test_polyglots(name: str, behind: bytes) -> None:
    data = encode(Image.effect_noise((64, 64), 80).convert("RGB"), name)
    assert check_photo(data, LIMITS) == (64, 64)
    with pytest.raises(UserInputError) as caught:
        check_photo(data + behind, LIMITS)
    assert caught.value.code == "photo_polyglot"


def test_what_phones_put_behind_a_jpeg_is_no_polyglot() -> None:
    """A second picture (a depth or gain map), or a short film."""
    noise = Image.effect_noise((64, 64), 80).convert("RGB")
    two = encode(noise, "MPO", save_all=True, append_images=[noise.resize((16, 16))])
    assert check_photo(two, LIMITS) == (64, 64)
    film = bytes.fromhex("00000018667479706d703432") + np.random.default_rng(3).bytes(200_000)
    assert check_photo(encode(noise, "JPEG", progressive=True) + film, LIMITS) == (64, 64)


def test_too_many_bytes() -> None:
    error = refusal(encode(Image.new("RGB", (8, 8))), PhotoLimits(max_bytes=50))
    assert error.code == "photo_too_large"
    assert "50" in error.problem


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    """Its header promises 400 megapixels; there is no pixel data at all that could be decoded."""
    bomb = _png(20_000, 20_000, b"", bit_depth=8, colour_type=0)
    assert len(bomb) < 100
    assert refusal(bomb).code == "photo_too_large"
    assert refusal(_png(10_000, 5_000, b"", bit_depth=8, colour_type=0)).code == "photo_too_large"
    assert refusal(_png(5_000, 5_000, b"", bit_depth=8, colour_type=0)).code == "photo_corrupt"


def _png(width: int, height: int, rows: bytes, bit_depth: int, colour_type: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
