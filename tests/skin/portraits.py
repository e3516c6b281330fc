"""Rendered portraits and photographs with known faces."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from flux_face.nodes.face.types import Face, FaceSet
from flux_face.starter.portrait import (
    BACKGROUNDS,
    EYE_COLOURS,
    HAIR_COLOURS,
    HAIR_STYLES,
    SHIRTS,
    PortraitSpec,
    SkinDefect,
)
from flux_face.starter.renderer import render_with_truth

# Gains per channel, none above 1 as a camera exposes.
ILLUMINANTS = {
    "neutral": (1.0, 1.0, 1.0),
    "warm": (1.0, 0.92, 0.78),
    "cool": (0.85, 0.94, 1.0),
    "sunset": (1.0, 0.82, 0.62),
    "dim": (0.7, 0.7, 0.7),
}
TONES = range(1, 11)


def face_at(points: np.ndarray) -> Face:
    """A face with these five landmarks and a box around them as detectors draw it."""
    points = points.astype(np.float32)
    middle, distance = (points[0] + points[1]) / 2, float(np.linalg.norm(points[1] - points[0]))
    x, y = float(middle[0]), float(middle[1])
    return Face((x - 1.1 * distance, y - 1.0 * distance, x + 1.1 * distance, y + 1.7 * distance), 1.0, points)


@cache
def portrait(
    tone: int,
    *,
    illuminant: str = "neutral",
    defect: SkinDefect = SkinDefect.NONE,
    seed: int = 0,
    size: int = 128,
) -> tuple[torch.Tensor, Face]:
    """A portrait ``[H,W,3]`` in 8-bit steps, everything but the skin drawn by lot, and its face.

    Cached: callers must not write into it.
    """
    rng = random.Random(f"{tone} {illuminant} {seed}")
    femininity = rng.random()
    spec = PortraitSpec(
        skin=tone,
        illuminant=ILLUMINANTS[illuminant],
        defect=defect,
        hair_colour=rng.choice(list(HAIR_COLOURS)),
        hair_style=rng.choice(HAIR_STYLES),
        background=rng.choice(list(BACKGROUNDS)),
        shirt=rng.choice(list(SHIRTS)),
        eye_colour=rng.choice(list(EYE_COLOURS)),
        femininity=femininity,
        age=rng.random(),
        smile=rng.random(),
        beard=0.0 if femininity > 0.5 else rng.choice((0.0, 0.0, 0.5, 1.0)),
        tilt=rng.uniform(-12.0, 12.0),
        shift=(rng.uniform(-0.06, 0.06), rng.uniform(-0.04, 0.04)),
        scale=rng.uniform(0.8, 1.15),
        width=rng.uniform(0.9, 1.1),
    )
    picture, truth = render_with_truth(spec, size)
    image = torch.from_numpy(picture)
    return (image * 255.0).round() / 255.0, face_at(truth.points())


def face_set(faces: list[list[Face]], image: torch.Tensor) -> FaceSet:
    """The faces of a batch whose images are as large as this one, ``[..., H, W, 3]``."""
    height, width = image.shape[-3:-1]
    return FaceSet(tuple(tuple(found) for found in faces), height, width, "by hand")


@cache
def astronaut() -> tuple[torch.Tensor, Face]:
    """scikit-image's portrait of Eileen Collins, landmarks by hand."""
    from skimage import data

    points = np.array([(202, 100), (247, 103), (224, 125), (204, 142), (243, 143)])
    return torch.from_numpy(data.astronaut().copy()).float() / 255.0, face_at(points)


@cache
def group() -> tuple[torch.Tensor, tuple[Face, ...]]:
    """insightface's test picture: six faces under warm light, some with closed eyes; landmarks by hand."""
    import insightface  # here, so that the benchmark needs it not

    path = Path(insightface.__file__).parent / "data" / "images" / "t1.jpg"
    image = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).float() / 255.0
    points = (
        [(88, 325), (133, 308), (112, 340), (113, 362), (146, 355)],
        [(290, 212), (320, 197), (300, 230), (310, 248), (340, 238)],
        [(497, 322), (543, 335), (510, 350), (483, 375), (528, 385)],
        [(772, 398), (812, 405), (785, 420), (765, 437), (808, 447)],
        [(925, 118), (965, 115), (930, 150), (935, 175), (960, 170)],
        [(1152, 330), (1198, 330), (1172, 350), (1152, 370), (1195, 370)],
    )
    return image, tuple(face_at(np.array(row)) for row in points)
