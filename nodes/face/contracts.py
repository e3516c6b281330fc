"""What each known face model expects and gives back: one row per released file.

Sources: deepinsight/insightface (SCRFD, ArcFace, inswapper), facefusion/facefusion ``face_swapper/core.py`` and
somanchiu/ReSwapper for the swappers. The weights are not part of this pack; ``licence`` is what their publishers say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .align import ARCFACE_128, Matrix


@dataclass(frozen=True)
class ModelFile:
    """A released model: its file name, licence, and who publishes it."""

    name: str
    licence: str
    publisher: str


@dataclass(frozen=True, eq=False)
class SwapperContract(ModelFile):
    """A swapper with inputs ``target [N, 3, size, size]`` and ``source [N, 512]``.

    template: five points as fractions of the crop. mean, std: the crop is RGB ``(x - mean) / std``. source: the
    normalised embedding as it is, or projected by the 512 x 512 matrix in the file and normalised again.
    denormalise: whether the output is in the input's normalisation rather than 0..1.
    """

    size: int
    template: Matrix
    mean: float
    std: float
    source: Literal["embedding", "projected"]
    denormalise: bool


_INSIGHTFACE = "github.com/deepinsight/insightface (model packs)"
_NON_COMMERCIAL = "non-commercial research only"

DETECTORS: tuple[ModelFile, ...] = tuple(
    ModelFile(name, _NON_COMMERCIAL, _INSIGHTFACE)
    for name in ("det_10g.onnx", "scrfd_10g_bnkps.onnx", "det_2.5g.onnx", "scrfd_2.5g_bnkps.onnx", "det_500m.onnx")
)
RECOGNISERS: tuple[ModelFile, ...] = (ModelFile("w600k_r50.onnx", _NON_COMMERCIAL, _INSIGHTFACE),)


def _projected(name: str, size: int, licence: str, publisher: str) -> SwapperContract:
    return SwapperContract(name, licence, publisher, size, ARCFACE_128, 0.0, 1.0, "projected", denormalise=False)


def _hyperswap(name: str) -> SwapperContract:
    publisher = "github.com/facefusion/facefusion-assets"
    return SwapperContract(name, "ResearchRAIL", publisher, 256, ARCFACE_128, 0.5, 0.5, "embedding", denormalise=True)


SWAPPERS: tuple[SwapperContract, ...] = (
    _projected("inswapper_128.onnx", 128, _NON_COMMERCIAL, _INSIGHTFACE),
    _projected("inswapper_128_fp16.onnx", 128, _NON_COMMERCIAL, _INSIGHTFACE),
    _hyperswap("hyperswap_1a_256.onnx"),
    _hyperswap("hyperswap_1b_256.onnx"),
    _hyperswap("hyperswap_1c_256.onnx"),
    _projected("reswapper_128.onnx", 128, "see its repository", "github.com/somanchiu/ReSwapper"),
    _projected("reswapper_256.onnx", 256, "see its repository", "github.com/somanchiu/ReSwapper"),
)
