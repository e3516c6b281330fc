"""A photograph's bytes to ComfyUI's IMAGE, refusing what is not an honest still picture.

Size, format and dimensions are read from the header and checked before a single pixel is decoded.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import UserInputError

# Pillow's readers let all of these escape on malformed files.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
)
_MID_GREY = 0.5
# How a complete file ends; WebP says its length at the start, which Pillow checks.
_END_MARKS = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9"}
_ACCEPTED = "Send a PNG, JPEG or WebP still image"
# What must not come behind a JPEG, where phones put depth maps and short films: documents, scripts, archives.
_FOREIGN = (b"%PDF-", b"<?php", b"<script", b"<html", b"Rar!\x1a\x07", b"7z\xbc\xaf\x27\x1c")


@dataclass(frozen=True)
class PhotoLimits:
    """What a photo may be at most.

    Attributes:
        max_bytes: encoded size in bytes.
        max_pixels: width times height after decoding.
    """

    max_bytes: int = 12_000_000
    max_pixels: int = 40_000_000


def check_photo(data: bytes, limits: PhotoLimits, field: str = "user_photo") -> tuple[int, int]:
    """Decode the whole photo once, to refuse now what would fail later; keep nothing.

    Returns:
        Width and height in pixels, before EXIF rotation.

    Raises:
        UserInputError: ``photo_empty``, ``photo_too_large``, ``photo_format``, ``photo_animated``, ``photo_corrupt``,
            ``photo_polyglot``.
    """
    with _open(data, limits, field) as image:
        try:
            image.load()
        except _DECODE_ERRORS as error:
            raise _corrupt(field) from error
        width, height = image.size
        kind = image.format
    if _is_polyglot(data, str(kind)):
        raise UserInputError(
            "photo_polyglot",
            field,
            "something else follows the picture in its file",
            "Save the photo again and send that",
        )
    return width, height


def decode_photo(data: bytes, limits: PhotoLimits, field: str = "user_photo") -> torch.Tensor:
    """Decode a photo upright: EXIF rotation applied, alpha flattened on mid grey.

    Returns:
        float32 ``[1, H, W, 3]``, RGB, 0..1.

    Raises:
        UserInputError: as ``check_photo``.
    """
    with _open(data, limits, field) as image:
        try:
            pixels = _to_rgb(ImageOps.exif_transpose(image))
        except _DECODE_ERRORS as error:
            raise _corrupt(field) from error
    return torch.from_numpy(pixels).unsqueeze(0)


def decode_with_mask(data: bytes, limits: PhotoLimits, field: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode as ComfyUI's LoadImage does: upright, the colours below alpha kept, alpha apart.

    Returns:
        float32 ``[1, H, W, 3]``, RGB, 0..1, and float32 ``[1, H, W]``, 1 where the picture is transparent.

    Raises:
        UserInputError: as ``check_photo``.
    """
    with _open(data, limits, field) as image:
        try:
            upright = ImageOps.exif_transpose(image)
            pixels = np.asarray(upright.convert("RGB")).astype(np.float32) / 255.0
            if upright.has_transparency_data:
                alpha = np.asarray(upright.convert("RGBA").getchannel("A")).astype(np.float32) / 255.0
            else:
                alpha = np.ones(pixels.shape[:2], dtype=np.float32)
        except _DECODE_ERRORS as error:
            raise _corrupt(field) from error
    return torch.from_numpy(pixels).unsqueeze(0), torch.from_numpy(1.0 - alpha).unsqueeze(0)


def _open(data: bytes, limits: PhotoLimits, field: str) -> Image.Image:
    if not data:
        raise UserInputError("photo_empty", field, "the photo has no bytes", _ACCEPTED)
    if len(data) > limits.max_bytes:
        raise UserInputError(
            "photo_too_large",
            field,
            f"the photo is {len(data)} bytes and the limit is {limits.max_bytes}",
            "Send a smaller or more strongly compressed photo",
        )
    name = _sniff(data)
    if name is None:
        raise UserInputError("photo_format", field, "the data is not a PNG, JPEG or WebP image", _ACCEPTED)
    # Pillow fills up what is missing, or not, as the process-wide LOAD_TRUNCATED_IMAGES says.
    if _END_MARKS.get(name, b"") not in data:
        raise _corrupt(field)
    try:
        image = Image.open(io.BytesIO(data), formats=[name])
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(field, "far more", limits) from error
    except (UnidentifiedImageError, *_DECODE_ERRORS) as error:
        raise _corrupt(field) from error
    width, height = image.size
    if width * height > limits.max_pixels:
        image.close()
        raise _too_many_pixels(field, f"{width}x{height} = {width * height}", limits)
    # A JPEG with several frames is a phone's photo with a depth or gain map: its first frame is the picture.
    if name != "JPEG" and getattr(image, "n_frames", 1) > 1:
        image.close()
        raise UserInputError("photo_animated", field, "the image is animated", _ACCEPTED)
    return image


def _sniff(data: bytes) -> str | None:
    """Pillow's name of the format that the first bytes promise, or None."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    return None


def _is_polyglot(data: bytes, name: str) -> bool:
    """Whether the file is more than a picture. Only pixels are used, so this protects those who get the file itself."""
    if name == "PNG":
        return len(data) > _png_end(data)
    if name == "WEBP":
        length = int.from_bytes(data[4:8], "little")
        return len(data) > length + 8 + length % 2
    behind = data[_jpeg_end(data) :]
    return any(mark in behind for mark in _FOREIGN) or zipfile.is_zipfile(io.BytesIO(behind))


def _png_end(data: bytes) -> int:
    """Behind the IEND chunk (ISO/IEC 15948, 5.3)."""
    place = 8
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        place += 12 + length
        if kind == b"IEND":
            return int(place)
    return len(data)


def _jpeg_end(data: bytes) -> int:
    """Behind the first picture's EOI marker (ITU-T T.81, annex B)."""
    place = 2
    while (place := data.find(b"\xff", place)) >= 0 and place + 1 < len(data):
        marker = data[place + 1]
        if marker == 0xD9:
            return place + 2
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8:  # stuffed byte, fill byte, or no length follows
            place += 1 if marker == 0xFF else 2
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return len(data)


def _to_rgb(image: Image.Image) -> npt.NDArray[np.float32]:
    """Any Pillow mode to float32 ``[H, W, 3]``, 0..1."""
    if image.mode.startswith("I"):  # 16-bit grey: "I;16" and its byte orders, "I" in older Pillow
        grey = np.asarray(image).astype(np.float32) / 65535.0
        return np.repeat(np.clip(grey, 0.0, 1.0)[..., None], 3, axis=-1)
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA")).astype(np.float32) / 255.0
        alpha = rgba[..., 3:]
        return np.ascontiguousarray(rgba[..., :3] * alpha + _MID_GREY * (1.0 - alpha))
    return np.asarray(image.convert("RGB")).astype(np.float32) / 255.0


def _corrupt(field: str) -> UserInputError:
    return UserInputError(
        "photo_corrupt", field, "the image is damaged or incomplete", "Save the photo again and send the whole file"
    )


def _too_many_pixels(field: str, found: str, limits: PhotoLimits) -> UserInputError:
    return UserInputError(
        "photo_too_large",
        field,
        f"the photo has {found} pixels and the limit is {limits.max_pixels}",
        "Scale the photo down",
    )
