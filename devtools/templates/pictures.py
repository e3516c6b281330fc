"""Pictures that templates are run with: a photograph in the public domain (NASA) and portraits of our own renderer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

from ...starter.portrait import PortraitSpec
from ...starter.renderer import render

_SIZE = 384
_WOMAN = PortraitSpec(skin=4, hair_colour="red", hair_style="long", background="blue", femininity=0.9, smile=0.6)
_MAN = PortraitSpec(skin=6, hair_colour="black", background="green", femininity=0.1, smile=0.5)
_OTHER = PortraitSpec(skin=7, hair_colour="black", hair_style="curly", background="sunset", femininity=0.8, smile=0.8)


def write_pictures(folder: Path) -> None:
    """Write photo.png, person.png (a portrait), portrait.png and people.png, which shows two, left and right."""
    pictures = {
        "photo": skimage.data.astronaut(),
        "person": _drawn(_OTHER),
        "portrait": _drawn(_WOMAN),
        "people": np.concatenate([_drawn(_WOMAN), _drawn(_MAN)], axis=1),
    }
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")


def _drawn(spec: PortraitSpec) -> np.ndarray:
    return (render(spec, _SIZE).clip(0, 1) * 255).round().astype(np.uint8)
