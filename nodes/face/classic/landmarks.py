"""Five landmarks of a face that the cascade found: canonical crop, eyes, mouth, and the nose between them."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..align import Matrix, crop_face, invert, transform_points
from ..types import Face, FloatArray
from .features import EYE_MIDDLE, SIDE, SPAN, Eyes, find_eyes, find_mouth
from .vote import Candidate

# Measured on rendered portraits and photographs: the cascade's window is 2.5 eye distances wide and its centre
# lies 0.30 of them below the middle of the eyes.
_SPAN_OF_WINDOW = 0.395
_EYES_ABOVE = 0.30
# The nose tip divides the way from the eyes to the mouth (ArcFace template).
_NOSE = 0.495
# Eyes this much more tilted than the candidate, degrees, are sought once more in a crop turned upright.
_UPRIGHT = 5.0

# The score is a logistic function of the evidence plus this share of the eyes' symmetry, one half at _EVEN.
_SYMMETRY = 0.5
_EVEN = 0.67
_STEEP = 12.0

_LUMA = torch.tensor([0.299, 0.587, 0.114])


def grey_of(image: Tensor) -> Tensor:
    """Rec. 601 luma ``[H, W]`` of ``[H, W, 3]``."""
    return image[..., :3] @ _LUMA.to(image)


def _score(evidence: float, symmetry: float) -> float:
    """How likely this is a face, 0..1, from the cascades' vote and the symmetry of the eyes.

    Fitted by hand to some 30 photographs with and without faces and 150 rendered portraits: what is no face, a fist
    among it, stays below 0.4, a face turned to the side comes near 0.4, and frontal faces of any tone begin at 0.7.
    """
    return 1.0 / (1.0 + math.exp(-_STEEP * (evidence + _SYMMETRY * max(0.0, symmetry) - _EVEN)))


def landmarks_of(image: Tensor, candidate: Candidate) -> Face:
    """The face with its five landmarks, in pixels of the image ``[H, W, 3]``."""
    scale = SPAN / (candidate.size * _SPAN_OF_WINDOW)
    # The middle of the eyes lies above the window's centre, in the direction of the face's tilt.
    angle, origin = candidate.angle, np.array([candidate.x, candidate.y])
    place = np.array([EYE_MIDDLE[0], EYE_MIDDLE[1] + _EYES_ABOVE * SPAN])
    matrix, crop, eyes = _view(image, _towards(origin, place, scale, angle))
    delta = eyes.right - eyes.left
    tilt = math.degrees(math.atan2(float(delta[1]), float(delta[0])))
    if abs(tilt) > _UPRIGHT:
        middle = transform_points(((eyes.left + eyes.right) / 2)[None], invert(matrix))[0]
        matrix = _towards(middle, np.array(EYE_MIDDLE), scale, angle + tilt)
        matrix, crop, eyes = _view(image, matrix)
    left_mouth, right_mouth = find_mouth(crop, eyes)
    middle = (eyes.left + eyes.right) / 2
    nose = middle + _NOSE * ((left_mouth + right_mouth) / 2 - middle)
    points = np.stack([eyes.left, eyes.right, nose, left_mouth, right_mouth])
    half = candidate.size / 2
    return Face(
        box=(candidate.x - half, candidate.y - half, candidate.x + half, candidate.y + half),
        score=_score(candidate.evidence, eyes.symmetry),
        landmarks=transform_points(points, invert(matrix)),
    )


def _view(image: Tensor, matrix: Matrix) -> tuple[Matrix, FloatArray, Eyes]:
    """A canonical crop ``[SIDE, SIDE, 3]`` and the eyes in it."""
    crop: FloatArray = crop_face(image, matrix, (SIDE, SIDE)).numpy()
    return matrix, crop, find_eyes((crop @ _LUMA.numpy()).astype(np.float32))


def _towards(origin: FloatArray | Matrix, place: FloatArray | Matrix, scale: float, angle: float) -> Matrix:
    """The matrix that turns by minus `angle` degrees and scales about `origin`, then moves it to `place`."""
    cos, sin = scale * math.cos(math.radians(angle)), scale * math.sin(math.radians(angle))
    linear = np.array([[cos, sin], [-sin, cos]])
    return np.concatenate([linear, (place - linear @ origin)[:, None]], axis=1)
