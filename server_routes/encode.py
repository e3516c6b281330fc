"""Finished pictures to files that say what they are: made by AI, from this seed, with this verdict.

The mark is XMP with IPTC's digital source type (https://cv.iptc.org/newscodes/digitalsourcetype/), in PNG, JPEG and
WebP alike. The user's photo and prompt are never part of it.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from .png import write_png
from .request_models import OutputFormat

_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
_JPEG_XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\x00"
_BAND_ROWS = 64
_EXTENSIONS: dict[OutputFormat, str] = {"png": "png", "jpeg": "jpg", "webp": "webp"}


class PictureError(ValueError):
    """What a graph made is no picture; the message says why."""


@dataclass(frozen=True)
class Picture:
    """A finished picture's file.

    Attributes:
        filename: without folders.
        content_type: its media type.
        data: the file; empty once it was uploaded.
        link: where it was uploaded to, or None.
    """

    filename: str
    content_type: str
    data: bytes = field(repr=False)
    link: str | None = None


def encode_image(
    image: torch.Tensor,
    stem: str,
    output_format: OutputFormat,
    quality: int,
    seed: int | None,
    verdict: dict[str, Any] | None,
) -> Picture:
    """One picture as a file. Slow: call it off the event loop.

    Args:
        image: float ``[H, W, 3]``, 0..1.
        stem: file name without extension.
        output_format: of the file.
        quality: 1..100, for JPEG and WebP.
        seed: for the metadata; None where it is not known.
        verdict: for the metadata; None where there was no QA.

    Raises:
        PictureError: values that are no numbers, which a decoder of too low a precision makes.
    """
    values = image.detach().to(device="cpu", dtype=torch.float32).numpy()
    height, width, _ = values.shape
    xmp = _xmp(seed, verdict)
    name_and_type = f"{stem}.{_EXTENSIONS[output_format]}", f"image/{output_format}"
    if output_format == "png":
        texts = {"XML:com.adobe.xmp": xmp.decode()}
        png = write_png(height, width, lambda top, bottom: _to_bytes(values[top:bottom]), texts)
        return Picture(*name_and_type, png)
    picture = Image.fromarray(_to_bytes(values))
    buffer = io.BytesIO()
    if output_format == "jpeg":
        payload = _JPEG_XMP_HEADER + xmp
        segment = b"\xff\xe1" + (len(payload) + 2).to_bytes(2, "big") + payload
        picture.save(buffer, "JPEG", quality=quality, extra=segment)
    else:
        picture.save(buffer, "WEBP", quality=quality, xmp=xmp)
    return Picture(*name_and_type, buffer.getvalue())


def _to_bytes(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """In bands that fit into the processor's cache, by NumPy: torch's threads wait for each other on a busy machine."""
    pixels = np.empty(values.shape, np.uint8)
    band = np.empty((min(_BAND_ROWS, len(values)), *values.shape[1:]), np.float32)
    for top in range(0, len(values), _BAND_ROWS):
        rows = values[top : top + _BAND_ROWS]
        scaled = np.multiply(rows, 255, out=band[: len(rows)])
        if np.isnan(scaled.max()):
            raise PictureError("the picture has values that are no numbers and would be black there")
        np.clip(np.rint(scaled, out=scaled), 0, 255, out=scaled)
        pixels[top : top + _BAND_ROWS] = scaled
    return pixels


def _xmp(seed: int | None, verdict: dict[str, Any] | None) -> bytes:
    note: dict[str, Any] = {} if seed is None else {"seed": seed}
    if verdict is not None:  # without its measurements: they describe a person
        codes = [reason["code"] for reason in verdict["reasons"]]
        note["verdict"] = {"passed": verdict["passed"], "score": verdict["score"], "reasons": codes}
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        ' xmlns:fluxface="urn:flux-face:1"'
        f" Iptc4xmpExt:DigitalSourceType={quoteattr(_SOURCE_TYPE)}"
        f" fluxface:result={quoteattr(json.dumps(note))}/>"
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()
