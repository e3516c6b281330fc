"""What a drawn portrait is made of, and what is known about it: colours, styles, defects, landmarks and skin."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

# float32 throughout; NumPy's stubs take a float32 array times a float for float64.
Array = npt.NDArray[Any]
Colour = tuple[float, float, float]

# Monk Skin Tone scale, steps 1 to 10 (Ellis Monk, skintone.google), sRGB.
MONK_HEX = (
    "f6ede4", "f3e7db", "f7ead0", "eadaba", "d7bd96", "a07e56", "825c43", "604134", "3a312a", "292420",
)  # fmt: skip


def _rgb(code: str) -> Colour:
    """'a07e56' as red, green, blue in 0..1."""
    return int(code[0:2], 16) / 255, int(code[2:4], 16) / 255, int(code[4:6], 16) / 255


MONK_TONES: tuple[Colour, ...] = tuple(_rgb(code) for code in MONK_HEX)

HAIR_COLOURS: dict[str, Colour] = {
    "black": _rgb("1d1a1c"),
    "brown": _rgb("5a3821"),
    "blonde": _rgb("d9b36a"),
    "red": _rgb("a8401c"),
    "grey": _rgb("8d8e92"),
    "white": _rgb("e4e3df"),
    "blue": _rgb("2f55a8"),
    "pink": _rgb("d96f9e"),
}

HAIR_STYLES = ("short", "medium", "long", "curly", "bald")

# Gradient from top to bottom.
BACKGROUNDS: dict[str, tuple[Colour, Colour]] = {
    "blue": (_rgb("4f86c6"), _rgb("a9cbea")),
    "green": (_rgb("4f8a5b"), _rgb("b2d3a3")),
    "grey": (_rgb("8b8f96"), _rgb("c9ccd1")),
    "red": (_rgb("8e2f33"), _rgb("c8625c")),
    "yellow": (_rgb("e3b53c"), _rgb("f5e09a")),
    "purple": (_rgb("5b4391"), _rgb("a890cf")),
    "white": (_rgb("f2f2f0"), _rgb("dddddb")),
    "black": (_rgb("16181d"), _rgb("31353d")),
    "sunset": (_rgb("56437f"), _rgb("f3a05c")),
    "neon": (_rgb("12b5c9"), _rgb("c21a8f")),
}

SHIRTS: dict[str, Colour] = {
    "red": _rgb("b23238"),
    "blue": _rgb("2e5596"),
    "green": _rgb("39724a"),
    "black": _rgb("24262b"),
    "white": _rgb("ececea"),
    "yellow": _rgb("dfae35"),
    "purple": _rgb("6b4593"),
    "grey": _rgb("777c85"),
}

EYE_COLOURS: dict[str, Colour] = {
    "brown": _rgb("5b3a1e"),
    "blue": _rgb("3f78b5"),
    "green": _rgb("4f8253"),
}


class SkinDefect(Enum):
    """What can be wrong with the skin of a generated portrait."""

    NONE = "none"
    BLUE = "blue"
    GREEN = "green"
    GREY = "grey"
    MAGENTA = "magenta"
    RED = "red"
    BURNT = "burnt"
    CRUSHED = "crushed"


@dataclass(frozen=True)
class PortraitSpec:
    """Everything that decides a portrait.

    skin: Monk step, 1 (lightest) to 10 (deepest).
    hair_colour, hair_style, background, shirt, eye_colour: names from the tables of this module.
    femininity, age, smile, beard: 0..1.
    tilt: degrees, positive leans the head to the right of the picture.
    shift: head offset in fractions of the picture, x and y.
    scale: head size relative to the usual 54 % of the picture's height.
    width: head width relative to the usual.
    illuminant: gain per channel over the whole picture.
    defect: what is wrong with the skin.
    """

    skin: int = 5
    hair_colour: str = "brown"
    hair_style: str = "short"
    background: str = "grey"
    shirt: str = "blue"
    eye_colour: str = "brown"
    femininity: float = 0.5
    age: float = 0.3
    smile: float = 0.5
    beard: float = 0.0
    tilt: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    scale: float = 1.0
    width: float = 1.0
    illuminant: Colour = (1.0, 1.0, 1.0)
    defect: SkinDefect = SkinDefect.NONE


@dataclass(frozen=True)
class FaceTruth:
    """Where the face is, in pixels, and which pixels are skin.

    Points are (x, y); left and right are the viewer's. skin: float32 [H,W], share of the pixel that is skin.
    """

    left_eye: tuple[float, float]
    right_eye: tuple[float, float]
    nose: tuple[float, float]
    left_mouth: tuple[float, float]
    right_mouth: tuple[float, float]
    skin: Array

    def points(self) -> Array:
        """float32 [5,2] in the usual order: eyes, nose, mouth corners."""
        return np.array([self.left_eye, self.right_eye, self.nose, self.left_mouth, self.right_mouth], dtype=np.float32)
