"""Numbered boxes and landmarks drawn on a copy of the images."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .types import Face, FaceSet, numbers_of

_COLOURS = ("#ffcc00", "#00d0ff", "#ff5fa2", "#7dff6a", "#c08bff", "#ff8a3c")


def draw_faces(images: Tensor, faces: FaceSet) -> Tensor:
    """``[B, H, W, 3]`` with every face boxed and numbered."""
    return torch.stack(
        [
            _draw(image, dict(zip(numbers_of(found), found, strict=True)))
            for image, found in zip(images, faces.faces, strict=True)
        ]
    )


def _draw(image: Tensor, faces: dict[int, Face]) -> Tensor:
    rgb = image.expand(-1, -1, 3) if image.shape[-1] == 1 else image[..., :3]
    picture = Image.fromarray((rgb.float().cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy())
    draw = ImageDraw.Draw(picture)
    line = max(1, round(max(picture.size) / 400))
    for number, face in faces.items():
        colour = _COLOURS[(number - 1) % len(_COLOURS)]
        # A detector may give a box without extent, its sides swapped.
        (x0, x1), (y0, y1) = sorted(face.box[::2]), sorted(face.box[1::2])
        draw.rectangle((x0, y0, x1, y1), outline=colour, width=line)
        font = ImageFont.load_default(size=max(10.0, 0.16 * face.height))
        label = _label(number, face)
        box = draw.textbbox((x0 + 2 * line, y0 + line), label, font=font)
        draw.rectangle((box[0] - line, box[1] - line, box[2] + line, box[3] + line), fill=colour)
        draw.text((x0 + 2 * line, y0 + line), label, fill="#101010", font=font)
        radius = max(1.0, 0.012 * face.width)
        for x, y in face.landmarks.tolist():
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255.0)


def _label(number: int, face: Face) -> str:
    known = [f"{number}", f"{face.score:.2f}"]
    if face.sex is not None:
        known.append(face.sex)
    if face.age is not None:
        known.append(f"{face.age:.0f}")
    return "  ".join(known)


def box_masks(faces: FaceSet) -> Tensor:
    """float32 ``[B, H, W]``: one inside any face's box."""
    mask = torch.zeros(len(faces.faces), faces.height, faces.width)
    for index, found in enumerate(faces.faces):
        for face in found:
            x0, y0, x1, y1 = (max(0, round(value)) for value in face.box)
            mask[index, y0:y1, x0:x1] = 1.0
    return mask
