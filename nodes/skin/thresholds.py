"""The limits of skin-tone QA and their presets."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType

from ..errors import UserInputError


@dataclass(frozen=True)
class Thresholds:
    """The limits of skin-tone QA. Colours are CIELAB, hues degrees; None switches a check off.

    Attributes:
        min_face_size: least width or height of a face box in pixels.
        hue: range of the skin's hue angle. Human skin is at 40 to 90 under white light.
        cast_tolerance: how far outside that range, in Lab units, a colour may lie. It keeps nearly neutral skin,
            very pale or very deep, from being judged by a hue it hardly has.
        min_variation: least variation of colour over skin whose chroma is below near_neutral, see SkinMeasurement.
        redness, redness_slope: greatest a* is redness + redness_slope * lightness.
        colourfulness, colourfulness_slope: greatest chroma, likewise.
        burnt_share, crushed_share: greatest share of skin pixels at the top or the bottom of the range.
        white_ratio: range of the skin's luminance relative to the eye whites: below it the skin is crushed, above it,
            where it has lost its colour too, burnt.
        flat_spread: least median deviation of lightness over bright skin: burnt skin is flat.
        min_lightness: least lightness.
        min_detail: least detail, see SkinMeasurement.
        max_neck_difference, max_photo_difference: greatest CIEDE2000 (kL = 2) to neck and to the user's photo.
        min_similarity: least likeness of the largest face to the user's photo, by the engine's own measure.
        min_score: least score, beyond the checks.
    """

    min_face_size: float = 32.0
    hue: tuple[float, float] = (40.0, 100.0)
    cast_tolerance: float = 5.0
    min_variation: float = 0.0135
    near_neutral: float = 12.0
    redness: float = 10.0
    redness_slope: float = 0.35
    colourfulness: float = 25.0
    colourfulness_slope: float = 0.5
    burnt_share: float = 0.5
    crushed_share: float = 0.6
    white_ratio: tuple[float, float] = (0.03, 1.36)
    flat_spread: float = 1.2
    min_lightness: float = 4.0
    min_detail: float | None = None
    max_neck_difference: float | None = None
    max_photo_difference: float | None = None
    min_similarity: float | None = None
    min_score: float = 0.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            numbers = value if isinstance(value, tuple) else (value,)
            if any(number is not None and not (math.isfinite(number) and number >= 0.0) for number in numbers):
                raise UserInputError(
                    "bad_threshold", name, f"{value} is no limit", "Use a finite number that is not negative"
                )


PRESETS = MappingProxyType(
    {
        "lenient": Thresholds(
            min_face_size=24.0, hue=(32.0, 108.0), cast_tolerance=8.0, min_variation=0.004, redness=16.0,
            colourfulness=35.0, burnt_share=0.8, white_ratio=(0.015, 1.45),
        ),
        "standard": Thresholds(),
        "strict": Thresholds(
            min_face_size=64.0, hue=(44.0, 96.0), cast_tolerance=3.0, min_variation=0.0145, redness=6.0,
            colourfulness=20.0, burnt_share=0.25, crushed_share=0.4, white_ratio=(0.035, 1.3),
            max_neck_difference=18.0, max_photo_difference=25.0, min_detail=0.05,
        ),
    }
)  # fmt: skip


def thresholds_for(preset: str, **changes: float | None) -> Thresholds:
    """A preset with some limits changed.

    Raises:
        UserInputError: there is no such preset, or a limit is negative or not finite.
    """
    if preset not in PRESETS:
        raise UserInputError("unknown_preset", "preset", f"{preset!r} is unknown", f"Use one of {', '.join(PRESETS)}")
    return replace(PRESETS[preset], **changes)  # type: ignore[arg-type]  # names and types are Thresholds' own
