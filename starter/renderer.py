"""Portraits in a plain illustrated style, drawn from a few soft shapes.

The pictures train the starter models and, because everything about them is known (skin tone, illuminant,
skin defect, landmarks, skin mask), they are the ground truth of the face and skin-tone tests as well.

Shapes are drawn in head units: the origin is the middle of the face, x to the right, y down, and 1.0 is half
the height of the head. The body frame is upright, the head frame is tilted about the chin.
"""

from __future__ import annotations

import math

import numpy as np

from .portrait import (
    BACKGROUNDS,
    EYE_COLOURS,
    HAIR_COLOURS,
    MONK_TONES,
    SHIRTS,
    Array,
    Colour,
    FaceTruth,
    PortraitSpec,
    SkinDefect,
)

# Colour that replaces the skin's own hue, luminance kept.
_CASTS: dict[SkinDefect, Colour] = {
    SkinDefect.BLUE: (0.42, 0.62, 1.25),
    SkinDefect.GREEN: (0.55, 1.15, 0.50),
    SkinDefect.GREY: (1.0, 1.0, 1.0),
    SkinDefect.MAGENTA: (1.25, 0.42, 1.15),
    SkinDefect.RED: (1.75, 0.42, 0.38),
}


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    return (
        a[0] + (b[0] - a[0]) * share,
        a[1] + (b[1] - a[1]) * share,
        a[2] + (b[2] - a[2]) * share,
    )


def _scaled(a: Colour, gain: Colour | float) -> Colour:
    r, g, b = gain if isinstance(gain, tuple) else (gain, gain, gain)
    return a[0] * r, a[1] * g, a[2] * b


def _luminance(colour: Colour) -> float:
    """Rec. 709 weights on the encoded values: near enough to order tones."""
    return 0.2126 * colour[0] + 0.7152 * colour[1] + 0.0722 * colour[2]


class _Frame:
    """Coordinate grids of one frame, in head units, and coverage masks of shapes drawn in it."""

    def __init__(self, x: Array, y: Array, pixel: float) -> None:
        self.x, self.y, self.pixel = x, y, pixel

    def crop(self, rows: slice, columns: slice) -> _Frame:
        return _Frame(self.x[rows, columns], self.y[rows, columns], self.pixel)

    def inside(self, distance: Array, softness: float = 0.0) -> Array:
        """Coverage of the points whose signed distance to an edge is positive; one pixel wide at least."""
        covered: Array = np.clip(distance / max(self.pixel, softness) + 0.5, 0.0, 1.0)
        return covered

    def ellipse(self, cx: float, cy: float, rx: float, ry: float, softness: float = 0.0) -> Array:
        radius = np.sqrt(((self.x - cx) / rx) ** 2 + ((self.y - cy) / ry) ** 2)
        return self.inside((1.0 - radius) * min(rx, ry), softness)

    def glow(self, cx: float, cy: float, rx: float, ry: float) -> Array:
        """A Gaussian spot."""
        return np.exp(-(((self.x - cx) / rx) ** 2) - ((self.y - cy) / ry) ** 2)

    def stroke(self, cx: float, cy: float, half: float, bend: float, thick: float, slope: float = 0.0) -> Array:
        """A tapering parabola of half-length `half`; a positive bend raises its middle over its ends."""
        t = (self.x - cx) / half
        middle = cy - bend * (1.0 - t * t) + slope * (self.x - cx)
        taper = np.sqrt(np.clip(1.0 - t * t, 0.0, 1.0))
        covered: Array = self.inside(thick * taper - np.abs(self.y - middle)) * (np.abs(t) < 1.0)
        return covered


class _Canvas:
    """The picture under construction: RGB float32 [H,W,3] and the share of each pixel that is skin."""

    def __init__(self, size: int) -> None:
        self.rgb = np.zeros((size, size, 3), dtype=np.float32)
        self.skin = np.zeros((size, size), dtype=np.float32)

    def crop(self, rows: slice, columns: slice) -> _Canvas:
        """A window that paints into this canvas."""
        window = _Canvas(0)
        window.rgb, window.skin = self.rgb[rows, columns], self.skin[rows, columns]
        return window

    def paint(self, mask: Array, colour: Colour, opacity: float = 1.0, skin: bool = False) -> None:
        alpha = mask * np.float32(opacity)
        self.rgb += alpha[..., None] * (np.array(colour, dtype=np.float32) - self.rgb)
        self.skin += alpha * ((1.0 if skin else 0.0) - self.skin)

    def shade(self, mask: Array, gain: Colour | float) -> None:
        """Multiply by `gain` where the mask is one; what is skin stays skin."""
        factor = np.array(gain, dtype=np.float32) - np.float32(1.0)
        self.rgb *= 1.0 + mask[..., None] * factor


# Head units: the chin, the middle of an eye (x to either side, y) and the seam of the lips.
_CHIN = 1.0
_EYE = (0.31, -0.06)
_MOUTH = 0.56

# Circles of curly hair: x, y, radius in head units.
_CURLS = (
    (-0.78, 0.10, 0.26), (0.78, 0.10, 0.26), (-0.88, -0.25, 0.30), (0.88, -0.25, 0.30), (-0.78, -0.62, 0.34),
    (0.78, -0.62, 0.34), (-0.48, -0.92, 0.36), (0.48, -0.92, 0.36), (0.0, -1.02, 0.40),
)  # fmt: skip


class _Portrait:
    """One portrait in the making: its frames and colours, and a method per part, back to front."""

    def __init__(self, spec: PortraitSpec, size: int) -> None:
        self.spec = spec
        self.canvas = _Canvas(size)
        self.unit = 0.27 * spec.scale * size
        self.origin = ((0.5 + spec.shift[0]) * size, (0.475 + spec.shift[1]) * size)
        angle = math.radians(spec.tilt)
        self.cos, self.sin = math.cos(angle), math.sin(angle)

        axis = np.arange(size, dtype=np.float32) + 0.5
        x, y = np.meshgrid((axis - self.origin[0]) / self.unit, (axis - self.origin[1]) / self.unit)
        self.body = _Frame(x, y, 1.0 / self.unit)
        u = (x * self.cos + (y - _CHIN) * self.sin) / np.float32(spec.width)
        v = (y - _CHIN) * self.cos - x * self.sin + _CHIN
        self.head = _Frame(u, v, 1.0 / self.unit)

        rows = self._pixels(self.origin[1], -1.35, 1.2, size)
        columns = self._pixels(self.origin[0], -1.05, 1.05, size)
        self.face_canvas = self.canvas.crop(rows, columns)
        self.face = self.head.crop(rows, columns)

        self.skin = MONK_TONES[spec.skin - 1]
        lightness = _luminance(self.skin)
        # Deep skin shows its form by highlights more than by shadows, pale skin the other way round.
        self.shadow: Colour = (0.76, 0.65, 0.61) if lightness > 0.3 else (0.66, 0.60, 0.60)
        self.shine = 0.16 if lightness > 0.3 else 0.28
        self.hair = HAIR_COLOURS[spec.hair_colour]

    def _pixels(self, origin: float, low: float, high: float, size: int) -> slice:
        return slice(max(0, int(origin + low * self.unit)), max(0, min(size, math.ceil(origin + high * self.unit))))

    def draw(self) -> tuple[Array, FaceTruth]:
        self._background()
        self._hair_behind()
        self._body()
        self._head()
        self._eyes()
        self._nose()
        self._mouth()
        self._age()
        self._hair_in_front()
        rgb = _with_defect(self.canvas.rgb, self.canvas.skin, self.spec.defect)
        rgb = rgb * np.array(self.spec.illuminant, dtype=np.float32)
        return np.clip(rgb, 0.0, 1.0), self._truth()

    def _background(self) -> None:
        top, bottom = BACKGROUNDS[self.spec.background]
        size = self.canvas.rgb.shape[0]
        ramp = ((np.arange(size, dtype=np.float32) + 0.5) / size)[:, None, None]
        self.canvas.rgb[:] = np.array(top, dtype=np.float32) * (1 - ramp) + np.array(bottom, dtype=np.float32) * ramp
        # A pool of light behind the head sets it off.
        glow = self.body.glow(-0.3, -0.3, 1.7, 1.7)
        self.canvas.rgb += (1.0 - self.canvas.rgb) * (0.16 * glow)[..., None]

    def _hair_behind(self) -> None:
        style, head, body = self.spec.hair_style, self.head, self.body
        colour = _scaled(self.hair, 0.78)
        if style == "long":
            self.canvas.paint(head.ellipse(0.0, -0.22, 0.98, 1.02), colour)
            self.canvas.paint(body.ellipse(0.0, 0.72, 1.02, 1.25), colour)
        elif style == "medium":
            self.canvas.paint(head.ellipse(0.0, -0.1, 1.0, 1.1), colour)
        elif style == "curly":
            for cx, cy, radius in _CURLS:
                self.canvas.paint(head.ellipse(cx, cy, radius, radius), colour)

    def _body(self) -> None:
        body, canvas = self.body, self.canvas
        wide = 1.62 - 0.24 * self.spec.femininity
        shirt = SHIRTS[self.spec.shirt]
        shoulders = np.maximum(body.ellipse(0.0, 2.42, wide, 1.2), body.ellipse(0.0, 1.75, 0.72, 0.62))
        canvas.paint(shoulders, shirt)
        canvas.shade(shoulders * body.glow(0.95, 2.0, 0.8, 0.9), 0.72)
        canvas.paint(shoulders * body.glow(-0.75, 1.55, 0.5, 0.35), (1.0, 1.0, 1.0), 0.10)
        neck = 0.46 - 0.10 * self.spec.femininity
        column = body.inside(neck + 0.10 * (body.y - 0.9) ** 2 - np.abs(body.x)) * body.inside(1.5 - body.y)
        neckline = np.maximum(column * (body.y > 0.3), body.ellipse(0.0, 1.34, 0.58, 0.34))
        canvas.paint(neckline, self.skin, skin=True)
        canvas.shade(neckline * body.glow(0.06, 0.86, 0.62, 0.42), _scaled(self.shadow, 0.86))
        canvas.shade(neckline * body.glow(0.42, 1.2, 0.22, 0.6), self.shadow)
        rim = body.ellipse(0.0, 1.34, 0.65, 0.41) - body.ellipse(0.0, 1.34, 0.58, 0.34)
        canvas.paint(np.clip(rim, 0.0, 1.0) * (body.y > 1.34), _scaled(shirt, 0.8))

    def _outline(self, frame: _Frame, grow: float = 0.0) -> Array:
        """The head: an ellipse whose sides run straighter from cheekbone to chin."""
        jaw = 0.30 + 0.16 * (1.0 - self.spec.femininity)
        u = np.abs(frame.x) / (0.745 + grow)
        v = frame.y / (_CHIN + grow)
        below = np.clip(v, 0.0, None)
        narrowing = 1.0 - 0.20 * (1.0 - jaw) * below**2
        return frame.inside((1.0 - np.hypot(u / narrowing, v)) * 0.8)

    def _head(self) -> None:
        head, canvas = self.head, self.canvas
        for side in (-1.0, 1.0):
            ear = head.ellipse(side * 0.76, 0.06, 0.12, 0.22)
            canvas.paint(ear, self.skin, skin=True)
            canvas.shade(ear * head.ellipse(side * 0.77, 0.06, 0.06, 0.14, 0.08), self.shadow)
        face, canvas = self.face, self.face_canvas
        outline = self._outline(face)
        canvas.paint(outline, self.skin, skin=True)

        # Light comes from the upper left: the far side and the jaw fall into shadow.
        edge = np.clip(np.hypot(face.x / 0.76, face.y / 1.02) - 0.55, 0.0, 0.5) / 0.45
        far = np.clip(0.45 + 0.55 * face.x + 0.25 * face.y, 0.0, 1.0)
        canvas.shade(outline * edge**1.5 * (0.35 + 0.75 * far), self.shadow)
        for side in (-1.0, 1.0):
            blush = 0.10 + 0.12 * self.spec.femininity
            cheek = outline * face.glow(side * 0.42, 0.34, 0.24, 0.18)
            canvas.shade(cheek * blush, (1.12, 0.72, 0.74))
            canvas.paint(cheek, (1.0, 0.97, 0.92), 0.5 * self.shine, skin=True)
        canvas.paint(outline * face.glow(-0.06, -0.5, 0.42, 0.22), (1.0, 0.97, 0.92), 0.8 * self.shine, skin=True)
        canvas.paint(outline * face.glow(0.0, 0.86, 0.18, 0.12), (1.0, 0.97, 0.92), 0.5 * self.shine, skin=True)
        if self.spec.beard > 0.0:
            lower = face.inside(face.y - 0.30 - 0.55 * np.exp(-((face.x / 0.42) ** 2)) + 0.0, 0.16)
            moustache = face.glow(0.0, 0.45, 0.30, 0.06)
            chin = face.glow(0.0, 0.92, 0.34, 0.20)
            cover = outline * np.clip(np.maximum(lower, np.maximum(chin, 0.8 * moustache)), 0.0, 1.0)
            canvas.paint(cover, _scaled(self.hair, 0.85), 0.8 * self.spec.beard)

    def _eyes(self) -> None:
        face, canvas = self.face, self.face_canvas
        iris_colour = EYE_COLOURS[self.spec.eye_colour]
        lash = _mix((0.08, 0.06, 0.06), _scaled(self.skin, 0.25), 0.3)
        brow = _mix(_scaled(self.hair, 0.62), _scaled(self.skin, 0.35), 0.35)
        brow = _scaled(brow, min(1.0, 0.55 * _luminance(self.skin) / _luminance(brow)))
        sclera = _mix((0.94, 0.93, 0.91), self.skin, 0.10 if _luminance(self.skin) > 0.3 else 0.40)
        thick = 0.052 - 0.020 * self.spec.femininity
        tall = 0.080 + 0.020 * self.spec.femininity - 0.012 * self.spec.smile
        for side in (-1.0, 1.0):
            cx, cy = side * _EYE[0], _EYE[1]
            canvas.shade(face.glow(cx, cy - 0.03, 0.27, 0.17), _scaled(self.shadow, 0.86 if self.shine < 0.2 else 0.94))
            canvas.shade(face.glow(cx - side * 0.13, cy - 0.06, 0.10, 0.14) * 0.6, self.shadow)
            white = face.ellipse(cx, cy, 0.165, tall)
            canvas.paint(white, sclera)
            canvas.paint(white * face.ellipse(cx, cy, 0.090, 0.090), _scaled(iris_colour, 0.75))
            canvas.paint(white * face.ellipse(cx, cy + 0.012, 0.066, 0.066), iris_colour)
            canvas.paint(white * face.ellipse(cx, cy, 0.044, 0.044), (0.03, 0.03, 0.04))
            canvas.shade(white * face.glow(cx, cy - 0.09, 0.25, 0.06) * 0.8, 0.5)
            canvas.paint(face.ellipse(cx - 0.032, cy - 0.034, 0.024, 0.024), (1.0, 1.0, 1.0))
            canvas.paint(
                face.stroke(cx, cy, 0.185, tall + 0.006, 0.022 + 0.012 * self.spec.femininity, side * -0.06), lash
            )
            canvas.paint(face.stroke(cx, cy + 0.004, 0.150, -tall, 0.010), lash, 0.55)
            canvas.paint(face.stroke(cx, cy - 0.05, 0.18, tall, 0.010, side * -0.04), lash, 0.35)
            arch = 0.045 + 0.035 * self.spec.femininity
            canvas.paint(face.stroke(cx + side * 0.01, cy - 0.175, 0.215, arch, thick, side * 0.05), brow, 0.92)

    def _nose(self) -> None:
        face, canvas = self.face, self.face_canvas
        wide = 0.135 - 0.025 * self.spec.femininity
        canvas.shade(face.glow(0.10, 0.10, 0.06, 0.24) * 0.55, self.shadow)
        canvas.shade(face.glow(-0.11, 0.08, 0.05, 0.20) * 0.30, self.shadow)
        canvas.shade(face.glow(0.02, 0.375, 0.20, 0.055) * 0.9, self.shadow)
        canvas.paint(
            face.glow(-0.01, 0.04, 0.055, 0.30),
            (1.0, 0.97, 0.93),
            (1.6 if self.shine < 0.2 else 1.2) * self.shine,
            skin=True,
        )
        canvas.paint(face.glow(-0.02, 0.265, 0.07, 0.06), (1.0, 0.97, 0.93), 1.4 * self.shine, skin=True)
        for side in (-1.0, 1.0):
            canvas.shade(face.glow(side * (wide + 0.035), 0.30, 0.030, 0.06) * 0.7, self.shadow)
            nostril = face.ellipse(side * 0.072, 0.345, 0.042, 0.024, 0.02)
            canvas.paint(nostril, _scaled(self.skin, 0.30), 0.85)

    def _mouth(self) -> None:
        face, canvas = self.face, self.face_canvas
        smile, lips = self.spec.smile, self.spec.femininity
        half, bend = self._mouth_shape()
        red = _mix(_scaled(self.skin, (0.86, 0.58, 0.56)), (0.76, 0.22, 0.27), 0.10 + 0.45 * lips)
        full = 0.052 + 0.030 * lips
        cy = _MOUTH
        t = np.clip(face.x / half, -1.0, 1.0)
        seam = cy + bend * (1.0 - t * t)
        taper = np.clip(1.0 - np.abs(t) ** 2.2, 0.0, 1.0)
        bow = 1.0 - 0.35 * np.exp(-((t / 0.18) ** 2))
        across = np.abs(face.x) < half
        upper = face.inside(np.minimum(face.y - seam + 1.05 * full * taper * bow, seam - face.y + 0.01)) * across
        lower = face.inside(np.minimum(face.y - seam + 0.01, seam + 1.35 * full * taper - face.y)) * across
        canvas.shade(face.glow(0.0, cy + bend + 0.19, 0.20, 0.05) * 0.7, self.shadow)
        canvas.paint(upper, _scaled(red, 0.80))
        canvas.paint(lower, red)
        canvas.paint(lower * face.glow(-0.04, cy + bend + 0.06, 0.14, 0.03), (1.0, 0.95, 0.95), 0.25)
        if smile > 0.6:
            gap = 0.042 * (smile - 0.6) / 0.4 * np.clip(1.0 - t * t, 0.0, 1.0)
            teeth = face.inside(gap - np.abs(face.y - seam)) * across
            canvas.paint(teeth, _mix((0.95, 0.94, 0.91), self.skin, 0.15))
        line = face.inside(0.014 * np.sqrt(taper) - np.abs(face.y - seam)) * across
        canvas.paint(line, _scaled(red, 0.35), 0.9 if smile <= 0.6 else 0.45)
        for side in (-1.0, 1.0):
            canvas.shade(face.glow(side * (half + 0.02), cy, 0.045, 0.045) * 0.6, self.shadow)
            crease = np.exp(-(((face.x - side * (0.20 + 0.30 * (face.y - 0.24))) / 0.028) ** 2))
            crease = crease * face.inside(0.22 - np.abs(face.y - 0.46), 0.2)
            canvas.shade(crease * (0.05 + 0.25 * smile + 0.35 * self.spec.age), self.shadow)

    def _mouth_shape(self) -> tuple[float, float]:
        """Half-width of the mouth and how far its middle hangs below its corners, head units."""
        smile = self.spec.smile
        return 0.235 + 0.075 * smile, 0.085 * smile - 0.012

    def _age(self) -> None:
        strength = max(0.0, self.spec.age - 0.5) * 2.0
        if strength == 0.0:
            return
        face, canvas = self.face, self.face_canvas
        for row in (-0.62, -0.52, -0.43):
            canvas.shade(face.stroke(0.0, row, 0.36, 0.03, 0.016) * 0.5 * strength, self.shadow)
        for side in (-1.0, 1.0):
            canvas.shade(face.stroke(side * 0.31, 0.10, 0.15, -0.05, 0.016) * 0.8 * strength, self.shadow)
            canvas.shade(face.stroke(side * 0.31, 0.15, 0.12, -0.05, 0.012) * 0.6 * strength, self.shadow)
            canvas.shade(face.stroke(side * 0.56, -0.08, 0.05, 0.0, 0.012) * 0.7 * strength, self.shadow)

    def _hair_in_front(self) -> None:
        style = self.spec.hair_style
        if style == "bald":
            shine = self.face.glow(-0.2, -0.82, 0.25, 0.12) * self._outline(self.face)
            self.face_canvas.paint(shine, (1.0, 1.0, 1.0), 0.22, skin=True)
            return
        face, canvas = self.face, self.face_canvas
        long = style in ("long", "medium")
        grow = 0.14 if long or style == "curly" else 0.09
        cap = self._outline(face, grow)
        u = face.x
        # The hairline: a parting off the middle for long hair, a straighter front for short.
        if long:
            line = -0.84 + np.where(u < -0.18, 1.55, 0.80) * np.abs(u + 0.18) ** 1.25
        elif style == "curly":
            line = -0.70 + 0.34 * u**2 + 0.02 * np.sin(16.0 * u)
        else:
            line = -0.72 + 0.30 * (u - 0.1) ** 2 + 0.03 * np.sin(9.0 * u + 1.0)
        front = face.inside(line - face.y, 0.03)
        sides = face.inside(np.abs(u) - 0.67, 0.03)
        drop = {"long": 2.0, "medium": 0.75, "curly": 0.10, "short": -0.02}[style]
        locks = sides * face.inside(drop - face.y, 0.06)
        hair = cap * np.maximum(front, locks)
        # The shadow of the fringe on the forehead.
        canvas.shade(cap * face.inside(line + 0.07 - face.y, 0.14) * 0.5, self.shadow)
        canvas.paint(hair, self.hair)
        canvas.shade(hair * face.glow(0.72, -0.2, 0.4, 0.9) * 0.8, 0.72)
        flow = np.sin(17.0 * np.arctan2(u + 0.18, 0.4 - face.y) + 2.0 * np.sin(3.0 * u))
        canvas.shade(hair * (0.5 + 0.5 * flow), 0.86)
        arc = np.exp(-(((np.hypot(u, face.y * 0.95) - 0.90) / 0.12) ** 2)) * np.clip(-0.2 - face.y, 0.0, 0.5) * 2.0
        canvas.paint(hair * arc * (0.8 - 0.2 * flow), _mix(self.hair, (1.0, 0.97, 0.92), 0.5), 0.40)
        if style == "curly":
            for cx, cy, radius in _CURLS[::2]:
                curl = face.ellipse(cx, cy, 0.8 * radius, 0.8 * radius) * (1.0 - self._outline(face))
                canvas.shade(curl * 0.8, 1.12)

    def _truth(self) -> FaceTruth:
        half, _ = self._mouth_shape()
        return FaceTruth(
            left_eye=self._to_pixels(-_EYE[0], _EYE[1]),
            right_eye=self._to_pixels(_EYE[0], _EYE[1]),
            nose=self._to_pixels(0.0, 0.28),
            left_mouth=self._to_pixels(-half, _MOUTH),
            right_mouth=self._to_pixels(half, _MOUTH),
            skin=np.clip(self.canvas.skin, 0.0, 1.0),
        )

    def _to_pixels(self, u: float, v: float) -> tuple[float, float]:
        """A point of the head frame in pixels of the picture."""
        u, v = u * self.spec.width, v - _CHIN
        x = u * self.cos - v * self.sin
        y = v * self.cos + u * self.sin + _CHIN
        return self.origin[0] + x * self.unit, self.origin[1] + y * self.unit


def _with_defect(rgb: Array, skin: Array, defect: SkinDefect) -> Array:
    """The picture with its skin spoilt."""
    if defect is SkinDefect.NONE:
        return rgb
    if defect is SkinDefect.BURNT:
        spoilt = 1.0 - (1.0 - np.clip(rgb * 1.35 + 0.25, 0.0, 1.0)) ** 3
    elif defect is SkinDefect.CRUSHED:
        spoilt = 0.16 * np.clip(rgb, 0.0, 1.0) ** 1.8
    else:
        luminance = rgb @ np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)
        cast = np.array(_CASTS[defect], dtype=np.float32)
        spoilt = 0.15 * rgb + 0.85 * luminance[..., None] * cast
    blended: Array = rgb + skin[..., None] * (spoilt.astype(np.float32) - rgb)
    return blended


def render(spec: PortraitSpec, size: int = 256) -> Array:
    """The portrait as float32 [size,size,3], RGB, 0..1."""
    return render_with_truth(spec, size)[0]


def render_with_truth(spec: PortraitSpec, size: int = 256) -> tuple[Array, FaceTruth]:
    """The portrait and its ground truth. Deterministic; about 20 ms at 256 pixels on one core."""
    return _Portrait(spec, size).draw()
