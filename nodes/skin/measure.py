"""Measures of the skin of faces: colour, its spread, clipping, detail, and differences to neck and eye whites."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..face.types import Face
from .colour import chroma, ciede2000, hue, linear_to_lab, rgb_to_hsv, rgb_to_ycrcb, srgb_to_lab, typology_angle
from .monk import nearest_step
from .regions import Frames, detail_lattice, face_frames, zones

DETAIL_SIZE = 64
# Shades differ between face and neck, or between two photographs, more than hues do: CIEDE2000 with kL = 2.
SHADE_FORGIVENESS = 2.0

# Rec. 709 luminance of linear light.
_LUMINANCE = (0.2126, 0.7152, 0.0722)
# Pixels this many median absolute deviations from the median lightness are glare, deep shadow or hair.
_OUTLIER_DEVIATIONS = 3.0
_LEAST_DEVIATION = 3.0
# How much redder than the skin the eye whites may be read: desaturated skin is bluer than they are.
_WHITE_REDNESS = 0.06
# Where beards begin, in the face frame: stubble brings colour of its own.
_BEARD = 0.55
# Keeps ratios of nearly black channels from being noise.
_DARK = 0.02
_BURNT, _CRUSHED = 0.97, 0.03
# Skin below this lightness may have as little chroma as this; its neck is as light as the face to this difference.
_DEEP, _NEUTRAL, _LIKE_SHADE = 40.0, 12.0, 12.0
# Skin-like pixels. HSV: Sobottka and Pitas 1998. YCrCb: Chai and Ngan 1999.
_HSV_HUE_DEGREES, _HSV_SATURATION = 50.0, (0.10, 0.75)
_CR, _CB = (133.0 / 255.0, 173.0 / 255.0), (77.0 / 255.0, 127.0 / 255.0)


@dataclass(frozen=True)
class SkinMeasurement:
    """The skin of one face. Colours are CIELAB relative to D65; shares are 0..1.

    Attributes:
        seen: share of the face's skin zone that lies inside the picture.
        rgb: median colour of the skin as it is in the picture, sRGB 0..1.
        lab: the same in CIELAB.
        balanced_lab: the same with the eye whites made neutral; equal to `lab` where they cannot be read.
        white: sRGB of the eye whites; None where they cannot be read (closed, covered, coloured beyond a light's).
        white_ratio: luminance of the skin relative to the eye whites; None with them.
        ita: individual typology angle of `lab`, degrees.
        monk_step, monk_difference: nearest step of the Monk scale to `balanced_lab` and the CIEDE2000 to it.
        spread: median absolute deviation of lightness over the skin zone.
        hsv_share, ycrcb_share: share of pixels inside the classic skin ranges of HSV and YCrCb, for the record only:
            those ranges are not fair to very pale and very deep skin, so no verdict rests on them.
        variation: median absolute deviation of log(red / blue) over the skin. Blood and pigment vary over living skin
            by 0.012 at least, whatever its tone and whatever the light; over skin without colour nothing varies.
        burnt_share, crushed_share: share of pixels with all channels at the top, at the bottom.
        lips_lightness: lightness of the lips less that of the skin.
        colourfulness: greatest span between the channels of a skin pixel, 0..1: nothing in a monochrome picture.
        detail: standard deviation of the Laplacian of lightness over the face, relative to the skin's lightness.
        neck: the neck's median colour in CIELAB; None where no skin is seen below the chin.
        neck_difference: CIEDE2000 (kL = 2) to it; None with it.
    """

    seen: float
    rgb: tuple[float, float, float]
    lab: tuple[float, float, float]
    balanced_lab: tuple[float, float, float]
    white: tuple[float, float, float] | None
    white_ratio: float | None
    ita: float
    monk_step: int
    monk_difference: float
    spread: float
    variation: float
    hsv_share: float
    ycrcb_share: float
    burnt_share: float
    crushed_share: float
    lips_lightness: float
    colourfulness: float
    detail: float
    neck: tuple[float, float, float] | None
    neck_difference: float | None

    @property
    def hue(self) -> float:
        """Hue of `balanced_lab`, degrees."""
        return math.degrees(math.atan2(self.balanced_lab[2], self.balanced_lab[1])) % 360.0

    @property
    def chroma(self) -> float:
        """Chroma of `balanced_lab`."""
        return math.hypot(self.balanced_lab[1], self.balanced_lab[2])

    def difference(self, other: SkinMeasurement) -> float:
        """CIEDE2000 (kL = 2) between two faces, each balanced by its own eye whites."""
        return float(ciede2000(torch.tensor(self.balanced_lab), torch.tensor(other.balanced_lab), SHADE_FORGIVENESS))


def measure_skin(images: torch.Tensor, faces: Sequence[tuple[int, Face]]) -> list[SkinMeasurement]:
    """Measure faces of a batch.

    Args:
        images: float32 ``[B,H,W,C]``, C of 3 or more, RGB 0..1, finite.
        faces: pairs of image index and face.

    Returns:
        one measurement per pair, in order.
    """
    if not faces:
        return []
    index = torch.tensor([image for image, _ in faces], device=images.device)
    frames = face_frames([face for _, face in faces])
    zone = zones()
    skin, skin_seen = _sample(images, index, frames, zone.skin)
    eyes, _ = _sample(images, index, frames, zone.eyes)
    lips, _ = _sample(images, index, frames, zone.lips)
    neck, neck_seen = _sample(images, index, frames, zone.neck)
    detail, _ = _sample(images, index, frames, detail_lattice(DETAIL_SIZE))

    skin_lab = srgb_to_lab(skin)
    light = torch.where(skin_seen, skin_lab[..., 0], torch.nan)
    middle = light.nanmedian(dim=1, keepdim=True).values
    deviation = (light - middle).abs().nanmedian(dim=1, keepdim=True).values
    typical = skin_seen & ((light - middle).abs() <= _OUTLIER_DEVIATIONS * deviation.clamp_min(_LEAST_DEVIATION))
    skin_rgb = _masked_median(skin, typical)
    lab = srgb_to_lab(skin_rgb)

    above_beard = (zone.skin[:, 1] < _BEARD).to(images.device)
    white, readable = _eye_white(eyes, skin_rgb)
    gain = torch.where(readable[:, None], white / white.amax(dim=1, keepdim=True).clamp_min(1e-3), 1.0)
    balanced_lab = srgb_to_lab(skin_rgb / gain)
    step, step_difference = nearest_step(balanced_lab)
    neck_lab, neck_present = _neck_colour(neck, neck_seen, lab)

    hsv, ycrcb = rgb_to_hsv(skin), rgb_to_ycrcb(skin)
    hsv_like = ((hsv[..., 0] + 10.0) % 360.0 <= _HSV_HUE_DEGREES + 10.0) & _between(hsv[..., 1], _HSV_SATURATION)
    ycrcb_like = _between(ycrcb[..., 1], _CR) & _between(ycrcb[..., 2], _CB)

    columns = {
        "seen": skin_seen.float().mean(dim=1),
        "rgb": skin_rgb,
        "lab": lab,
        "balanced_lab": balanced_lab,
        "white": white,
        "white_ratio": _luminance(skin_rgb) / _luminance(white).clamp_min(1e-4),
        "ita": typology_angle(lab),
        "monk_step": step,
        "monk_difference": step_difference,
        "spread": deviation[:, 0],
        "variation": _deviation(_redness(skin), typical & above_beard),
        "hsv_share": _share(hsv_like, skin_seen),
        "ycrcb_share": _share(ycrcb_like, skin_seen),
        "burnt_share": _share(skin.amin(-1) >= _BURNT, skin_seen),
        "crushed_share": _share(skin.amax(-1) <= _CRUSHED, skin_seen),
        "lips_lightness": srgb_to_lab(lips.median(dim=1).values)[:, 0] - lab[:, 0],
        "colourfulness": ((skin.amax(-1) - skin.amin(-1)) * skin_seen).amax(dim=1),
        "detail": _detail(detail) / lab[:, 0].clamp_min(1.0),
        "neck": neck_lab,
        "neck_difference": ciede2000(lab, neck_lab, SHADE_FORGIVENESS),
    }
    # 0 stands where a zone outside the picture left nothing to measure.
    values: dict[str, list[Any]] = {name: column.nan_to_num().tolist() for name, column in columns.items()}
    for name, present in (("white", readable), ("white_ratio", readable), ("neck", neck_present),
                          ("neck_difference", neck_present)):  # fmt: skip
        values[name] = [value if seen else None for value, seen in zip(values[name], present.tolist(), strict=True)]
    for name in ("rgb", "lab", "balanced_lab", "white", "neck"):
        values[name] = [None if value is None else tuple(value) for value in values[name]]
    return [SkinMeasurement(**{name: column[i] for name, column in values.items()}) for i in range(len(faces))]


def _sample(
    images: torch.Tensor, index: torch.Tensor, frames: Frames, points: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Nearest pixels ``[F, P, 3]`` at points of the face frames, and which of them lie inside the picture."""
    _, height, width, _ = images.shape
    x, y = frames.to_pixels(points).to(images.device).floor().long().unbind(-1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    pixels = images[index[:, None], y.clamp(0, height - 1), x.clamp(0, width - 1), :3]
    return pixels.float().clamp(0.0, 1.0), inside


def _eye_white(eyes: torch.Tensor, skin: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Colour ``[F, 3]`` of the eye whites, and whether it can be one under a plausible light.

    They are the pixels of the eyes that are bright and, among those, bluest: lids and skin glare are redder under
    any light, the iris is darker. What is redder than the skin is no eye white: the eyes are closed or too small.
    """
    count = eyes.shape[1]
    bright = _luminance(eyes).topk(max(1, count // 5), dim=1).indices
    eyes = eyes.gather(1, bright[..., None].expand(-1, -1, 3))
    coolness = eyes[..., 2] / eyes[..., 0].clamp_min(1e-3)
    cool = coolness.topk(max(1, count // 10), dim=1).indices
    white = eyes.gather(1, cool[..., None].expand(-1, -1, 3)).median(dim=1).values
    r, g, b = white.unbind(-1)
    readable = (
        (_luminance(white) > 0.03)
        & (_redness(white) - _redness(skin) <= _WHITE_REDNESS)
        & (b <= 1.35 * r)
        & (r <= 1.9 * b)
        & (g <= 1.12 * torch.maximum(r, b))
        & (g >= 0.85 * torch.minimum(r, b))
    )
    return white, readable


def _neck_colour(neck: torch.Tensor, seen: torch.Tensor, face_lab: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Median CIELAB below the chin, and whether enough of it resembles skin or the face rather than clothes."""
    lab = srgb_to_lab(neck)
    like_face = ciede2000(lab, face_lab[:, None], SHADE_FORGIVENESS) < 15.0
    like_skin = (hue(lab) > 30.0) & (hue(lab) < 95.0) & (chroma(lab) > 6.0) & (chroma(lab) < 45.0)
    # The deepest skin is nearly neutral: there a like shade tells.
    shade = (lab[..., 0] - face_lab[:, None, 0]).abs() < _LIKE_SHADE
    like_deep_skin = shade & (face_lab[:, None, 0] < _DEEP) & (chroma(lab) < _NEUTRAL)
    usable = seen & (like_face | like_skin | like_deep_skin)
    return _masked_median(lab, usable), _share(usable, torch.ones_like(seen)) > 0.5


def _detail(crop: torch.Tensor) -> torch.Tensor:
    light = linear_to_lab(crop**2.2)[..., 0].reshape(-1, 1, DETAIL_SIZE, DETAIL_SIZE)
    kernel = light.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])[None, None]
    return torch.nn.functional.conv2d(light, kernel).flatten(1).std(dim=1)


def _redness(rgb: torch.Tensor) -> torch.Tensor:
    """Logarithm of red over blue: the light on a surface adds to it, its shading does not change it."""
    return ((rgb[..., 0] + _DARK) / (rgb[..., 2] + _DARK)).log()


def _luminance(rgb: torch.Tensor) -> torch.Tensor:
    """Linear luminance of encoded sRGB, with the encoding taken as a power of 2.2."""
    return rgb**2.2 @ rgb.new_tensor(_LUMINANCE)


def _deviation(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Median absolute deviation of ``[F, P]`` over the points of a mask."""
    values = torch.where(mask, values, torch.nan)
    return (values - values.nanmedian(dim=1, keepdim=True).values).abs().nanmedian(dim=1).values


def _masked_median(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return torch.where(mask[..., None], values, torch.nan).nanmedian(dim=1).values


def _share(flags: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
    return (flags & of).float().sum(dim=1) / of.float().sum(dim=1).clamp_min(1.0)


def _between(values: torch.Tensor, limits: tuple[float, float]) -> torch.Tensor:
    return (values >= limits[0]) & (values <= limits[1])
