"""Skin-tone QA against a plain HSV check of the whole frame: its cost, its fairness, what it catches.

The HSV check accepts a picture of which 5 to 80 percent lie in the usual range of skin (OpenCV hue 0 to 20,
saturation from 20, value from 70).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch

from ...nodes.face.types import Face, FaceSet
from ...nodes.skin.colour import ciede2000
from ...nodes.skin.measure import measure_skin
from ...nodes.skin.qa import inspect_images
from ...nodes.skin.thresholds import Thresholds
from ...starter.portrait import SkinDefect
from ...tests.skin.portraits import ILLUMINANTS, TONES, portrait
from ._plot import paired_bars
from .report import Row, higher, lower

HSV = "OpenCV HSV check of the frame"
FRAME = 1024
REPEATS = 15
HEALTHY_PER_CELL = 8
DEFECT_SEEDS = (100, 101)
_ACCEPTED, _CAUGHT = "healthy portraits accepted, ", "caught: "
# A defect counts where it moves the skin at least so far: 1 is what a trained eye can see.
STRENGTH = 6.0

Image = tuple[torch.Tensor, Face]


def rows() -> list[Row]:
    """Milliseconds, acceptance by tone, and catches by defect; about two minutes on two cores."""
    return [*_cost(), *_fairness(), *_catches()]


def plots(measured: Sequence[Row]) -> dict[str, str]:
    """Acceptance by tone and catches by defect, as bars."""
    names = ("skin-tone QA", "HSV check")
    pictures = {}
    for stem, title, start in (
        ("fairness", "Healthy portraits accepted, %, by step of the Monk Skin Tone scale", _ACCEPTED),
        ("catches", "Defects caught, %", _CAUGHT),
    ):
        chosen = [row for row in measured if row.case.startswith(start)]
        labels = [row.case.removeprefix(start).partition(",")[0] for row in chosen]
        ours, theirs = [row.ours for row in chosen], [row.reference for row in chosen]
        pictures[stem] = paired_bars(title, labels, ours, theirs, names, top=100.0)
    return pictures


def _cost() -> Iterator[Row]:
    image, face = portrait(5, size=FRAME)
    for count in (1, 8):
        batch = image.expand(count, -1, -1, -1).contiguous()
        faces = FaceSet(((face,),) * count, FRAME, FRAME, "ground truth")
        yield from _cost_of(batch, faces)


def _cost_of(batch: torch.Tensor, faces: FaceSet) -> Iterator[Row]:
    count = len(batch)
    pixels = [_to_bytes(image) for image in batch]
    case = f"QA of a {FRAME}x{FRAME} image with a known face, batch of {count}"
    ours = _milliseconds(lambda: inspect_images(batch, faces, Thresholds())) / count
    frames = _milliseconds(lambda: [_hsv_accepts(image) for image in batch]) / count
    yield lower(case, ours, frames, HSV, "ms/image")
    bare = _milliseconds(lambda: [_hsv_accepts_bytes(one) for one in pixels]) / count
    yield lower(f"{case}, reference given bytes", ours, bare, HSV, "ms/image")


def _fairness() -> Iterator[Row]:
    rates = {}
    for tone in TONES:
        cell = [
            portrait(tone, illuminant=light, seed=seed) for light in ILLUMINANTS for seed in range(HEALTHY_PER_CELL)
        ]
        rates[tone] = _rejected(cell)
        case = f"{_ACCEPTED}Monk {tone}, {len(ILLUMINANTS)} lights, {len(cell)} portraits"
        yield _share_row(case, *(1.0 - rate for rate in rates[tone]))
    spread = [max(rate[i] for rate in rates.values()) - min(rate[i] for rate in rates.values()) for i in (0, 1)]
    yield _share_row("evenness: 100 % less the greatest difference between two tones", *(1.0 - s for s in spread))


def _catches() -> Iterator[Row]:
    for defect in SkinDefect:
        if defect is SkinDefect.NONE:
            continue
        pairs = [
            (portrait(tone, illuminant=light, seed=seed), portrait(tone, illuminant=light, seed=seed, defect=defect))
            for tone in TONES
            for light in ILLUMINANTS
            for seed in DEFECT_SEEDS
        ]
        spoilt = [bad for good, bad in pairs if _strength(good, bad) >= STRENGTH]
        which = f"{len(spoilt)} of {len(pairs)} portraits changed by CIEDE2000 {STRENGTH:g} or more"
        case = f"{_CAUGHT}{defect.value}, {which}"
        yield _share_row(case, *_rejected(spoilt))


def _share_row(case: str, ours: float, reference: float) -> Row:
    """Shares as per cent; a reference that never succeeds counts as one per cent."""
    return higher(case, 100.0 * ours, max(1.0, 100.0 * reference), HSV, "%")


def _rejected(images: list[Image]) -> tuple[float, float]:
    """Shares that QA and the HSV check reject."""
    ours = sum(not _qa_accepts(image, face) for image, face in images)
    reference = sum(not _hsv_accepts(image) for image, _ in images)
    return ours / len(images), reference / len(images)


def _strength(good: Image, bad: Image) -> float:
    a, b = (torch.tensor(measure_skin(image[None], [(0, face)])[0].lab) for image, face in (good, bad))
    return float(ciede2000(a, b))


def _qa_accepts(image: torch.Tensor, face: Face) -> bool:
    height, width, _ = image.shape
    faces = FaceSet(((face,),), height, width, "ground truth")
    return inspect_images(image[None], faces, Thresholds())[0].verdict.passed


def _hsv_accepts(image: torch.Tensor) -> bool:
    return _hsv_accepts_bytes(_to_bytes(image))


def _to_bytes(image: torch.Tensor) -> npt.NDArray[np.uint8]:
    return (image.numpy() * 255).astype(np.uint8)


def _hsv_accepts_bytes(pixels: npt.NDArray[np.uint8]) -> bool:
    hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
    mask = cv2.inRange(hsv, np.array([0, 20, 70]), np.array([20, 255, 255]))
    return bool(0.05 <= cv2.countNonZero(mask) / mask.size <= 0.8)


def _milliseconds(work: Callable[[], object]) -> float:
    """The median of some runs, after one that warms up."""
    work()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000.0 * sorted(times)[len(times) // 2]
