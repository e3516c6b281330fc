"""A picture of what QA looked at and what it found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ..face.types import Face
from .measure import SkinMeasurement
from .monk import MONK_HEX
from .regions import face_frames, outlines
from .verdict import Verdict

_GREEN, _RED, _INK, _PAPER = (46, 160, 67), (207, 34, 46), (255, 255, 255), (0, 0, 0)


def draw_overlay(
    image: torch.Tensor, faces: Sequence[Face], measurements: Sequence[SkinMeasurement], verdict: Verdict
) -> torch.Tensor:
    """One image with the zones of its faces, swatches of their skin and the verdict.

    Args:
        image: float32 ``[H,W,C]``, C of 3 or more.

    Returns:
        float32 ``[H,W,3]``.
    """
    pixels = (image[..., :3].nan_to_num().clamp(0.0, 1.0) * 255.0).round().byte().cpu().numpy()
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    colour = _GREEN if verdict.passed else _RED
    line = max(1, min(picture.size) // 256)
    for face, measurement in zip(faces, measurements, strict=False):
        draw.rectangle(face.box, outline=colour, width=line)
        frames = face_frames([face])
        for outline in outlines():
            points = [(float(x), float(y)) for x, y in frames.to_pixels(outline)[0]]
            draw.line([*points, points[0]], fill=_INK, width=line)
        _draw_swatches(draw, face, measurement)
    _draw_text(draw, picture.size, verdict, colour)
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255.0)


def _draw_swatches(draw: ImageDraw.ImageDraw, face: Face, measurement: SkinMeasurement) -> None:
    """Beside the box: the skin as it is, and the nearest step of the Monk scale."""
    side = max(4.0, face.width / 8.0)
    x, y = face.box[2] + 2.0, face.box[1]
    seen = "".join(f"{round(255 * value):02x}" for value in measurement.rgb)
    for index, code in enumerate((seen, MONK_HEX[measurement.monk_step - 1])):
        draw.rectangle((x, y + index * side, x + side, y + (index + 1) * side), fill=f"#{code}", outline=_INK)


def _draw_text(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], verdict: Verdict, colour: tuple[int, int, int]
) -> None:
    width, height = size
    font = ImageFont.load_default(size=max(9, height // 40))
    lines = [f"{'pass' if verdict.passed else 'fail'} {verdict.score:.2f}", *(r.message for r in verdict.reasons)]
    text = "\n".join(lines)
    _, top, _, bottom = draw.multiline_textbbox((0, 0), text, font=font)
    draw.rectangle((0, 0, width, bottom + 4), fill=_PAPER, outline=colour)
    draw.multiline_text((4, 2 - min(0, top)), text, fill=_INK, font=font)
