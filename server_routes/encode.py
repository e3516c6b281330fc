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

import torch
from PIL import Image, PngImagePlugin

from .request import OutputFormat

_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
_JPEG_XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\x00"
_EXTENSIONS: dict[OutputFormat, str] = {"png": "png", "jpeg": "jpg", "webp": "webp"}


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
    """
    pixels = image.detach().clamp(0, 1).mul(255).round().to(device="cpu", dtype=torch.uint8).numpy()
    picture = Image.fromarray(pixels)
    xmp = _xmp(seed, verdict)
    buffer = io.BytesIO()
    if output_format == "png":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp.decode())
        picture.save(buffer, "PNG", compress_level=1, pnginfo=info)
    elif output_format == "jpeg":
        payload = _JPEG_XMP_HEADER + xmp
        segment = b"\xff\xe1" + (len(payload) + 2).to_bytes(2, "big") + payload
        picture.save(buffer, "JPEG", quality=quality, extra=segment)
    else:
        picture.save(buffer, "WEBP", quality=quality, xmp=xmp)
    return Picture(f"{stem}.{_EXTENSIONS[output_format]}", f"image/{output_format}", buffer.getvalue())


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
