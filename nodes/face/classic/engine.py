"""The engine without weights: finds faces with a cascade and puts the photo's own pixels in, warped and blended."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ...errors import UserInputError
from ...skin.colour import lab_to_srgb, srgb_to_lab
from ..align import Matrix, Patch, compose, crop_face, similarity_matrix, transform_points
from ..blend import blur, blur_mask, membrane, smoothstep
from ..engines import Placement, SwapSettings, no_progress
from ..identity import Identity
from ..types import Face, FaceSet, FloatArray
from .detail import as_soft_as
from .detect import find_candidates
from .landmarks import grey_of, landmarks_of
from .plane import FacePlane
from .tone import in_tone_of

# A find below this score is more likely something else.
_LEAST_SCORE = 0.5

# The swap's crop: distance and middle of the eyes, and height of the mouth, as fractions of its side.
_SPAN = 0.30
_EYES_Y = 0.40
_MOUTH_Y = _EYES_Y + 1.10 * _SPAN
_MIN_SIDE, _MAX_SIDE = 128, 768
# How far the photo's face may be stretched along its axis to bring the mouth where the target's is.
_STRETCH = (0.84, 1.20)

# How much of the rim's correction the middle of the face takes on, and how much of that its features.
_INNER_CORRECTION = 0.25
_FEATURE_CORRECTION = 0.3
# Half the width of what counts as a gap in the face's skin, eye distances.
_GAP = 0.20

# The crop in which two faces are compared.
_COMPARE_SIDE = 64


class ClassicEngine:
    """See the module's docstring. Stateless; runs on the CPU."""

    name = "classic"
    provider = "torch CPU"
    device = torch.device("cpu")

    def detect(self, images: Tensor, on_progress: Callable[[], None] = no_progress) -> FaceSet:
        """The frontal faces of ``[B, H, W, 3]``, tilted up to about 40 degrees."""
        found = []
        for image in images.float().cpu():
            on_progress()
            candidates = find_candidates(grey_of(image).numpy())
            faces = (landmarks_of(image[..., :3], candidate) for candidate in candidates)
            found.append(tuple(face for face in faces if face.score >= _LEAST_SCORE))
        return FaceSet(tuple(found), images.shape[1], images.shape[2], self.name)

    def identity(self, photo: Tensor, face: Face) -> Identity:
        """The photo itself."""
        return Identity(photo=photo[..., :3].float().cpu(), face=face)

    def compare(self, images: Tensor, placements: Sequence[Placement]) -> tuple[float, ...]:
        """Correlations of the aligned faces' details, -1..1."""
        result = []
        for item in placements:
            photo, face = _photo(item.identity)
            result.append(float((_details(images[item.image], item.face) * _details(photo, face)).sum()))
        return tuple(result)

    def patches(
        self,
        images: Tensor,
        placements: Sequence[Placement],
        settings: SwapSettings,
        on_progress: Callable[[], None] = no_progress,
    ) -> list[Patch]:
        """The photo's face warped onto each face, its colours matched and its rim made to meet the image."""
        result = []
        for item in placements:
            on_progress()
            photo, face = _photo(item.identity)
            result.append(_patch(images[item.image][..., :3].float().cpu(), item.face, photo, face, settings))
        return result


def _photo(identity: Identity) -> tuple[Tensor, Face]:
    if identity.photo is None or identity.face is None:
        raise UserInputError(
            "identity_incomplete",
            "identity",
            "it holds an embedding only, and the classic engine works with a photo",
            "Make the identity from a photo, or choose the onnx engine",
        )
    return identity.photo, identity.face


def _three_points(landmarks: FloatArray) -> FloatArray:
    """Both eyes and the middle of the mouth."""
    return np.stack([landmarks[0], landmarks[1], (landmarks[3] + landmarks[4]) / 2])


def _template(side: int) -> Matrix:
    return side * np.array([[0.5 - _SPAN / 2, _EYES_Y], [0.5 + _SPAN / 2, _EYES_Y], [0.5, _MOUTH_Y]])


def _fit(points: FloatArray, onto: FloatArray) -> Matrix:
    """The map that lays both eyes on `onto`'s and stretches along the face's axis, within bounds, to the mouth."""
    eyes = similarity_matrix(points[:2], onto[:2])
    moved = transform_points(points, eyes)
    middle = (onto[0] + onto[1]) / 2
    across = (onto[1] - onto[0]) / np.linalg.norm(onto[1] - onto[0])
    down = np.array([-across[1], across[0]], dtype=np.float64)
    have, want = float((moved[2] - middle) @ down), float((onto[2] - middle) @ down)
    stretch = min(max(want / max(have, 1e-3), _STRETCH[0]), _STRETCH[1])
    linear = np.eye(2) + (stretch - 1.0) * np.outer(down, down)
    return compose(np.concatenate([linear, (middle - linear @ middle)[:, None]], axis=1), eyes)


def _patch(image: Tensor, face: Face, photo: Tensor, photo_face: Face, settings: SwapSettings) -> Patch:
    points = _three_points(face.landmarks)
    span = float(np.linalg.norm(points[1] - points[0]))
    side = min(max(32 * math.ceil(span / _SPAN / 32), _MIN_SIDE), _MAX_SIDE)
    matrix = similarity_matrix(points, _template(side))
    places = transform_points(points, matrix)
    plane = FacePlane(places, side)
    target = crop_face(image, matrix, (side, side))
    source_points = _three_points(photo_face.landmarks)
    warped = crop_face(photo, _fit(source_points, places), (side, side))

    inner = plane.oval(0.85, -0.6, 0.5, 0.2)
    target_lab = srgb_to_lab(target)
    source_lab = as_soft_as(srgb_to_lab(warped), target_lab, inner, plane.span)
    target_skin, source_skin = plane.skin(target_lab), plane.skin(source_lab)
    # The photo's fringe or hat stays in the photo: skin is continued where they were.
    features = plane.oval(0.92, -0.38, 0.50, 0.10, square=3.5)
    safe = plane.shrunk(smoothstep(source_skin, 0.6, 1.0), 0.10)
    own = torch.maximum(features, safe)[..., None]
    sure = safe * plane.oval(1.1, -0.9, 0.7, 0.2)
    source_lab = own * source_lab + (1.0 - own) * membrane(source_lab, sure)
    source_skin = torch.maximum(source_skin, 1.0 - own[..., 0])

    # What is drawn over the face, such as hair, and what lies beside a turned one stays; the old features, which are
    # gaps in the skin, do not.
    core = plane.oval(0.84, -0.62, 0.58, 0.16, square=3.5)
    whole = plane.oval(1.12, -1.02, 0.74, 0.24)
    mask = torch.maximum(core, whole * blur_mask(plane.closed(target_skin, _GAP), 0.04 * plane.span))

    matched = in_tone_of(source_lab, target_lab, source_skin, target_skin, inner, settings.colour_method)
    toned = source_lab + settings.colour_match * (matched - source_lab)
    rim = 4.0 * mask * (1.0 - mask) * target_skin
    correction = membrane(target_lab - toned, rim)
    # The rim meets the image; the middle keeps its own light and, with it, the matched tone.
    inside = smoothstep(blur_mask(mask, 0.25 * plane.span), 0.5, 1.0)
    reach = 1.0 - (1.0 - _INNER_CORRECTION * settings.colour_match) * inside
    # Light and pigment of the skin do not tint eyes, brows and teeth.
    reach = reach * (1.0 - (1.0 - _FEATURE_CORRECTION) * features * (1.0 - source_skin))
    result = lab_to_srgb(toned + reach[..., None] * correction)
    mask = mask * _border(side)
    return Patch(result, settings.blend * mask, matrix)


def _border(side: int) -> Tensor:
    """One but for the outermost pixels, which must be zero for pasting."""
    border = torch.zeros(side, side)
    border[2:-2, 2:-2] = 1.0
    return border


def _details(image: Tensor, face: Face) -> Tensor:
    """The aligned face without its tone and broad shading, as a unit vector ``[pixels]``."""
    side = _COMPARE_SIDE
    points = _three_points(face.landmarks)
    places = _template(side).astype(np.float32)
    crop = crop_face(image[..., :3].float().cpu(), _fit(points, places), (side, side))
    plane = FacePlane(places, side)
    grey = grey_of(crop)[None]
    detail = (blur(grey, 0.04 * plane.span) - blur(grey, 0.45 * plane.span))[0]
    window = plane.oval(0.95, -0.65, 0.5, 0.25)
    detail = (detail - (detail * window).sum() / window.sum()) * window
    unit: Tensor = detail.reshape(-1) / detail.norm().clamp(min=1e-6)
    return unit
