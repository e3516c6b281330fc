"""Judging measured skin against limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .measure import SkinMeasurement
from .thresholds import Thresholds
from .verdict import Reason, Verdict

# Between these lightnesses the limit on grey skin grows from nothing to its full height.
_GREY_LIGHTNESS = (14.0, 20.0)
# Skin lighter than this that shows no shading at all has lost it in the highlights.
_FLAT_LIGHTNESS = 60.0
# Two steps of an 8-bit channel.
_LEAST_COLOUR = 2.0 / 255.0


@dataclass(frozen=True)
class _Check:
    """One measured value against its bounds. It scores 0.5 on a bound and 1 once `scale` inside it."""

    code: str
    quantity: str
    value: float
    low: float | None
    high: float | None
    scale: float
    text: str

    @property
    def score(self) -> float:
        margins = [self.value - self.low] if self.low is not None else []
        if self.high is not None:
            margins.append(self.high - self.value)
        return min(1.0, max(0.0, 0.5 + 0.5 * min(margins) / max(self.scale, 1e-6)))

    def reason(self) -> Reason:
        return Reason(self.code, f"{self.code}: {self.text}", self.value, self.low, self.high, self.quantity)


def judge_image(
    measurements: Sequence[SkinMeasurement],
    face_sizes: Sequence[float],
    thresholds: Thresholds,
    expected_faces: int = 1,
    photo: SkinMeasurement | None = None,
    similarity: float | None = None,
) -> Verdict:
    """The verdict on one image.

    Args:
        measurements: one per face of the image.
        face_sizes: lesser side of each face box in pixels, in the same order.
        thresholds: the limits.
        expected_faces: how many faces the image should show.
        photo: the user's own skin, for the difference to it.
        similarity: of the largest face to the user, -1..1; None where it was not compared.
    """
    found = len(measurements)
    if found == 0:
        text = "no_face: no face was found"
        return Verdict(False, 0.0, (Reason("no_face", text, 0.0, float(expected_faces), quantity="faces"),))
    checks = [
        check
        for measurement, size in zip(measurements, face_sizes, strict=True)
        for check in _checks(measurement, size, thresholds, photo)
    ]
    if thresholds.min_similarity is not None and similarity is not None:
        checks.append(_Check("unlike_photo", "similarity", similarity, thresholds.min_similarity, None, 0.2,
                             f"similarity {similarity:.2f}, at least {thresholds.min_similarity:.2f}"))  # fmt: skip
    reasons = [check.reason() for check in checks if check.score < 0.5]
    score = min(check.score for check in checks)
    if found != expected_faces:
        code = "too_many_faces" if found > expected_faces else "too_few_faces"
        text = f"{code}: {found} faces, expected {expected_faces}"
        expected = float(expected_faces)
        reasons.insert(0, Reason(code, text, float(found), expected, expected, "faces"))
        score = min(score, 0.25)
    if not reasons and score < thresholds.min_score:
        text = f"score: {score:.2f}, at least {thresholds.min_score:.2f} is asked"
        reasons.append(Reason("score", text, score, thresholds.min_score, quantity="score"))
    measured = {check.code: check.value for check in checks} | {"faces": float(found)}
    return Verdict(not reasons, score, tuple(reasons), measured | _record(measurements[0]))


def bad_pixels_verdict() -> Verdict:
    """The verdict on an image that holds NaN or infinity."""
    return Verdict(False, 0.0, (Reason("bad_pixels", "bad_pixels: the image holds NaN or infinite values"),))


def _checks(skin: SkinMeasurement, size: float, limits: Thresholds, photo: SkinMeasurement | None) -> list[_Check]:
    lightness = skin.lab[0]
    checks = [
        _Check("face_too_small", "pixels", size, limits.min_face_size, None, 32.0,
               f"{size:.0f} pixels, at least {limits.min_face_size:.0f}"),
        _Check("face_cut", "seen", skin.seen, 0.5, None, 0.3,
               f"{skin.seen:.0%} of the face is in the picture, at least 50%"),
        _Check("monochrome", "span", skin.colourfulness, _LEAST_COLOUR, None, 0.02,
               f"channels differ by {skin.colourfulness:.3f} at most, skin's by more than {_LEAST_COLOUR:.3f}"),
        _cast_check(skin, limits),
        _red_check(skin, limits),
        _colourful_check(skin, limits),
        _Check("burnt", "burnt_share", skin.burnt_share, None, limits.burnt_share, limits.burnt_share,
               f"{skin.burnt_share:.0%} of the skin is white, at most {limits.burnt_share:.0%}"),
        _Check("crushed", "crushed_share", skin.crushed_share, None, limits.crushed_share, limits.crushed_share,
               f"{skin.crushed_share:.0%} of the skin is black, at most {limits.crushed_share:.0%}"),
        _Check("too_dark", "lightness", lightness, limits.min_lightness, None, 6.0,
               f"lightness {lightness:.1f}, at least {limits.min_lightness:.1f}"),
    ]  # fmt: skip
    if skin.chroma < limits.near_neutral:
        checks.append(_grey_check(skin, limits))
    if lightness > _FLAT_LIGHTNESS:
        checks.append(_Check("burnt", "spread", skin.spread, limits.flat_spread, None, 1.0,
                             f"bright and flat, lightness varies by {skin.spread:.1f}, "
                             f"at least {limits.flat_spread:.1f}"))  # fmt: skip
    if skin.white_ratio is not None:
        checks += _exposure_checks(skin, skin.white_ratio, limits)
    if limits.min_detail is not None:
        checks.append(_Check("blurred", "detail", skin.detail, limits.min_detail, None, limits.min_detail,
                             f"detail {skin.detail:.2f}, at least {limits.min_detail:.2f}"))  # fmt: skip
    if limits.max_neck_difference is not None and skin.neck_difference is not None:
        checks.append(_difference_check("neck_mismatch", skin.neck_difference, limits.max_neck_difference))
    if limits.max_photo_difference is not None and photo is not None:
        checks.append(_difference_check("photo_mismatch", skin.difference(photo), limits.max_photo_difference))
    return checks


def _cast_check(skin: SkinMeasurement, limits: Thresholds) -> _Check:
    """Hue out of range, by more than a tolerance in Lab units.

    The colour as it is in the picture decides, and the colour relative to the eye whites too where it lies outside
    by twice the tolerance, so that a reading of the whites that is off fails nobody.
    """
    as_is, balanced = _distance_to_sector(skin.lab, limits.hue), _distance_to_sector(skin.balanced_lab, limits.hue)
    lab = skin.lab if as_is >= balanced / 2.0 else skin.balanced_lab
    excess = max(as_is, balanced / 2.0)
    angle = _hue(lab)
    text = f"hue {angle:.0f} degrees, skin is {limits.hue[0]:.0f} to {limits.hue[1]:.0f} (off by {excess:.1f})"
    return _Check("cast", "hue_distance", excess, None, limits.cast_tolerance, limits.cast_tolerance, text)


def is_skin_hue(lab: tuple[float, float, float], limits: Thresholds) -> bool:
    """Whether a colour could be skin's under these limits, by its hue alone."""
    return _distance_to_sector(lab, limits.hue) <= limits.cast_tolerance


def _hue(lab: tuple[float, float, float]) -> float:
    return math.degrees(math.atan2(lab[2], lab[1])) % 360.0


def _distance_to_sector(lab: tuple[float, float, float], limits: tuple[float, float]) -> float:
    """Distance in the a*b* plane to the sector of hues between the limits; 0 inside it."""
    angle, distance = _hue(lab), math.hypot(lab[1], lab[2])
    if limits[0] <= angle <= limits[1]:
        return 0.0
    off = min(abs((angle - limit + 180.0) % 360.0 - 180.0) for limit in limits)
    return distance * math.sin(math.radians(off)) if off < 90.0 else distance


def _red_check(skin: SkinMeasurement, limits: Thresholds) -> _Check:
    high = limits.redness + limits.redness_slope * skin.lab[0]
    redness = min(skin.lab[1], skin.balanced_lab[1])
    return _Check(
        "over_red", "redness", redness, None, high, 10.0, f"a* {redness:.0f}, at most {high:.0f} at this lightness"
    )


def _colourful_check(skin: SkinMeasurement, limits: Thresholds) -> _Check:
    high = limits.colourfulness + limits.colourfulness_slope * skin.lab[0]
    value = min(math.hypot(skin.lab[1], skin.lab[2]), skin.chroma)
    return _Check(
        "over_colourful", "chroma", value, None, high, 15.0, f"chroma {value:.0f}, at most {high:.0f} at this lightness"
    )


def _grey_check(skin: SkinMeasurement, limits: Thresholds) -> _Check:
    """Nearly neutral skin over which colour does not vary either.

    The deepest skin is nearly neutral by nature and too dark to show how its colour varies: the limit fades out.
    """
    dark, light = _GREY_LIGHTNESS
    low = limits.min_variation * min(1.0, max(0.0, (skin.lab[0] - dark) / (light - dark)))
    text = f"colour varies by {skin.variation:.2%} over the skin, at least {low:.2%}"
    return _Check("grey", "variation", skin.variation, low, None, limits.min_variation, text)


def _exposure_checks(skin: SkinMeasurement, ratio: float, limits: Thresholds) -> list[_Check]:
    low, high = limits.white_ratio
    checks = [
        _Check("crushed", "white_ratio", ratio, low, None, low,
               f"{ratio:.3f} times as bright as the eye whites, at least {low}")
    ]  # fmt: skip
    # Healthy skin may outshine shaded eyes, but it keeps its colour.
    if skin.chroma < limits.near_neutral:
        checks.append(_Check("burnt", "white_ratio", ratio, None, high, 0.2,
                             f"colourless and {ratio:.2f} times as bright as the eye whites, "
                             f"at most {high}"))  # fmt: skip
    return checks


def _difference_check(code: str, value: float, high: float) -> _Check:
    return _Check(code, "difference", value, None, high, high / 2.0, f"CIEDE2000 {value:.1f}, at most {high:.1f}")


def _record(skin: SkinMeasurement) -> dict[str, float]:
    """The single numbers of a measurement, with the colour's coordinates by name."""
    numbers = {name: value for name, value in vars(skin).items() if isinstance(value, (int, float))}
    return {
        "lightness": skin.lab[0], "a": skin.lab[1], "b": skin.lab[2], "hue": skin.hue, "chroma": skin.chroma, **numbers
    }  # fmt: skip
