"""The engine without weights: finds faces with a cascade and puts the photo's own pixels in, warped and blended."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import UserInputError
from ..skin.colour import lab_to_srgb, srgb_to_lab
from .align import Matrix, Patch, compose, crop_face, similarity_matrix, transform_points
from .blend import blur, blur_mask, membrane, shrink_mask, smoothstep
from .colour import match_colour
from .detect import find_candidates
from .engines import Placement, SwapSettings, no_progress
from .identity import Identity
from .landmarks import grey_of, landmarks_of
from .types import Face, FaceSet, FloatArray

# The swap's crop: distance and middle of the eyes, and height of the mouth, as fractions of its side.
_SPAN = 0.30
_EYES_Y = 0.40
_MOUTH_Y = _EYES_Y + 1.10 * _SPAN
_MIN_SIDE, _MAX_SIDE = 128, 768
# How far the photo's face may be stretched along its axis to bring the mouth where the target's is.
_STRETCH = (0.84, 1.20)

# How much of the rim's correction the middle of the face takes on.
_INNER_CORRECTION = 0.25

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
            found.append(tuple(landmarks_of(image[..., :3], candidate) for candidate in candidates))
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


class _FacePlane:
    """Coordinates of a crop's pixels in eye distances: u across, v down from the middle of the eyes."""

    def __init__(self, points: FloatArray, side: int) -> None:
        middle = (points[0] + points[1]) / 2
        across = (points[1] - points[0]).astype(np.float64)
        span = float(np.linalg.norm(across))
        across /= span
        self.span = span
        y, x = torch.meshgrid(
            torch.arange(side, dtype=torch.float32), torch.arange(side, dtype=torch.float32), indexing="ij"
        )
        dx, dy = x - float(middle[0]), y - float(middle[1])
        self.u = (dx * across[0] + dy * across[1]) / span
        self.v = (dy * across[0] - dx * across[1]) / span
        self.mouth = float((points[2] - middle) @ np.array([-across[1], across[0]])) / span

    def oval(self, half: float, top: float, chin: float, soft: float, square: float = 2.4) -> Tensor:
        """One inside an egg from `top` to `chin` below the mouth and `half` wide to either side, in eye distances.

        square: 2 for an ellipse, more for fuller corners. soft: share of the radius over which the edge fades.
        """
        bottom = self.mouth + chin
        centre = 0.42 * (top + bottom)
        above, below = centre - top, bottom - centre
        v = torch.where(self.v < centre, (self.v - centre) / above, (self.v - centre) / below)
        # Cheeks run in towards the chin.
        narrow = 1.0 - 0.22 * smoothstep(v, 0.0, 1.0)
        radius = ((self.u / (half * narrow)).abs() ** square + v.abs() ** square) ** (1.0 / square)
        return smoothstep(radius, 1.0, 1.0 - soft)


def _skin(lab: Tensor, plane: _FacePlane) -> Tensor:
    """How much each pixel's colour is that of the cheeks and nose, 0..1, smoothed."""
    cheeks = (plane.u.abs() < 0.62) & (plane.v > 0.22) & (plane.v < 0.80)
    samples = lab[cheeks]
    usual = samples.median(dim=0).values
    spread = (samples - usual).abs().median(dim=0).values * 1.5
    # Shading moves lightness far more than chroma.
    bounds = torch.maximum(spread * torch.tensor([3.0, 3.0, 3.0]), torch.tensor([22.0, 9.0, 9.0]))
    # Hair above the brows may be near the skin in colour.
    strict = 1.0 + 0.8 * smoothstep(plane.v, -0.38, -0.50)
    distance = (((lab - usual) / bounds) ** 2).sum(-1).sqrt() * strict
    return blur_mask(smoothstep(distance, 1.6, 0.9), 0.03 * plane.span)


def _patch(image: Tensor, face: Face, photo: Tensor, photo_face: Face, settings: SwapSettings) -> Patch:
    points = _three_points(face.landmarks)
    span = float(np.linalg.norm(points[1] - points[0]))
    side = min(max(32 * math.ceil(span / _SPAN / 32), _MIN_SIDE), _MAX_SIDE)
    matrix = similarity_matrix(points, _template(side))
    places = transform_points(points, matrix)
    plane = _FacePlane(places, side)
    target = crop_face(image, matrix, (side, side))
    source_points = _three_points(photo_face.landmarks)
    warped = crop_face(photo, _fit(source_points, places), (side, side))

    target_lab, source_lab = srgb_to_lab(target), srgb_to_lab(warped)
    target_skin, source_skin = _skin(target_lab, plane), _skin(source_lab, plane)
    # The photo's fringe or hat stays in the photo: skin is continued where they were.
    features = plane.oval(0.92, -0.38, 0.50, 0.10, square=3.5)
    safe = shrink_mask(smoothstep(source_skin, 0.6, 1.0), 0.10 * plane.span)
    own = torch.maximum(features, safe)[..., None]
    sure = safe * plane.oval(1.1, -0.9, 0.7, 0.2)
    source_lab = own * source_lab + (1.0 - own) * membrane(source_lab, sure)

    # What is drawn over the face, such as hair, stays in front of all but the features.
    core = plane.oval(1.04, -0.80, 0.56, 0.16, square=3.5)
    whole = plane.oval(1.12, -1.02, 0.74, 0.24)
    mask = torch.maximum(core, whole * blur_mask(target_skin, 0.04 * plane.span))

    inner = plane.oval(0.85, -0.6, 0.5, 0.2)
    matched = match_colour(source_lab, target_lab, inner * source_skin + 1e-4, inner * target_skin + 1e-4)
    toned = source_lab + settings.colour_match * (matched - source_lab)
    rim = 4.0 * mask * (1.0 - mask) * target_skin
    correction = membrane(target_lab - toned, rim)
    # The rim meets the image; the middle keeps its own light and, with it, the matched tone.
    inside = smoothstep(blur_mask(mask, 0.25 * plane.span), 0.5, 1.0)
    reach = 1.0 - (1.0 - _INNER_CORRECTION * settings.colour_match) * inside
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
    plane = _FacePlane(places, side)
    grey = grey_of(crop)[None]
    detail = (blur(grey, 0.04 * plane.span) - blur(grey, 0.45 * plane.span))[0]
    window = plane.oval(0.95, -0.65, 0.5, 0.25)
    detail = (detail - (detail * window).sum() / window.sum()) * window
    unit: Tensor = detail.reshape(-1) / detail.norm().clamp(min=1e-6)
    return unit
