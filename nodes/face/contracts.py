"""What each known face model expects and gives back: one row per released file.

Pictures are RGB 0..1 before normalisation, whatever their publishers count in: insightface's ``(x - 127.5) / 128`` of
levels 0..255 stands here as mean 127.5/255 and std 128/255.

Sources: deepinsight/insightface ``python-package/insightface/model_zoo`` (SCRFD, ArcFace, attributes, inswapper);
facefusion/facefusion ``face_swapper/core.py``, ``face_enhancer/core.py``, ``face_masker.py`` and ``face_helper.py``;
facefusion/facefusion-labs (HyperSwap, CrossFace); somanchiu/ReSwapper ``face_align.py``. The weights are not part of
this pack; `licence` is what those who distribute them say, `commercial` what it means for paid work.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from .align import ARCFACE_112_V2, ARCFACE_128, Border, Matrix

Commercial = Literal["yes", "no", "unknown"]
Triple = tuple[float, float, float]

# Five-point templates as fractions of the crop, in the order of ``types.Face.landmarks``.
ARCFACE_112_V1: Matrix = np.array(
    [
        [0.35473214, 0.45658929],
        [0.64526786, 0.45658929],
        [0.5, 0.61154464],
        [0.37913393, 0.776875],
        [0.62086607, 0.776875],
    ]
)
FFHQ_512: Matrix = np.array(
    [
        [0.37691676, 0.46864664],
        [0.62285697, 0.46912813],
        [0.50123859, 0.61331904],
        [0.39308822, 0.725411],
        [0.61150205, 0.72490465],
    ]
)
MTCNN_512: Matrix = np.array(
    [
        [0.36562865, 0.46733799],
        [0.63305391, 0.46585885],
        [0.50019127, 0.61942959],
        [0.39032951, 0.77598822],
        [0.61178945, 0.77476328],
    ]
)
# ReSwapper keeps the pixels' corners in place where it doubles the crop, so that the centres move by half a pixel.
RESWAPPER_256: Matrix = ARCFACE_128 + 0.5 / 256


@dataclass(frozen=True)
class Normalisation:
    """How a network counts brightness: ``(x - mean) / std`` of RGB 0..1, per channel."""

    mean: Triple
    std: Triple

    def apply(self, pictures: Tensor) -> Tensor:
        """Pictures ``[n, 3, h, w]``, 0..1, as the network wants them."""
        if self == AS_IS:
            return pictures
        return (pictures - _channels(self.mean, pictures)) / _channels(self.std, pictures)

    def undo(self, pictures: Tensor) -> Tensor:
        """The inverse of `apply`."""
        return pictures * _channels(self.std, pictures) + _channels(self.mean, pictures)


def _channels(values: Triple, like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(3, 1, 1)


def _uniform(mean: float, std: float) -> Normalisation:
    return Normalisation((mean, mean, mean), (std, std, std))


AS_IS = _uniform(0.0, 1.0)
LEVELS = _uniform(0.0, 1.0 / 255.0)
SIGNED = _uniform(0.5, 0.5)
CENTRED = _uniform(127.5 / 255.0, 128.0 / 255.0)
IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class ModelFile:
    """A released model.

    Attributes:
        name: the file's name, as its publisher or facefusion calls it.
        licence: as stated by those who distribute it.
        publisher: where to get it.
        commercial: whether that licence allows paid work.
        aliases: other names under which the same network is distributed.
    """

    name: str
    licence: str
    publisher: str
    commercial: Commercial
    aliases: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All file names it goes by."""
        return (self.name, *self.aliases)


@dataclass(frozen=True)
class DetectorContract(ModelFile):
    """SCRFD with landmarks: RGB ``[1, 3, h, w]`` to scores, boxes and points at strides 8, 16 and 32."""

    normalisation: Normalisation = CENTRED


@dataclass(frozen=True)
class RecogniserContract(ModelFile):
    """ArcFace: an RGB crop ``[n, 3, size, size]`` aligned to arcface_112_v2, to a vector ``[n, 512]``.

    space: what tells whose vectors mean the same; a swapper draws from one space only.
    """

    _: KW_ONLY
    space: str
    size: int = 112
    normalisation: Normalisation = SIGNED


@dataclass(frozen=True)
class AttributeContract(ModelFile):
    """What insightface reads in a face: RGB ``[n, 3, size, size]``, upright, centred on the face's box.

    Attributes:
        reads: ``sex_age`` gives ``[n, 3]``: scores of female and male, and the age in hundreds of years.
            ``contour`` gives ``[n, 212]``: xy of 106 points, -1..1 over the crop.
        size: the crop's side.
        margin: the crop's side over the box's longer side.
    """

    _: KW_ONLY
    reads: Literal["sex_age", "contour"]
    size: int
    margin: float = 1.5
    normalisation: Normalisation = LEVELS


@dataclass(frozen=True)
class Unit:
    """The identity enters as its embedding divided by its length."""


@dataclass(frozen=True)
class Projected:
    """It enters as the unit embedding times the 512 x 512 matrix in the file, divided by its length again."""


@dataclass(frozen=True)
class Converted:
    """It enters as what another network, the converter, makes of the raw embedding.

    converter: that network's file name. unit: whether its output is divided by its length.
    """

    converter: str
    unit: bool


@dataclass(frozen=True, eq=False)
class Photo:
    """It enters as a crop ``[3, size, size]`` of the photo, RGB 0..1, aligned to `template`."""

    size: int
    template: Matrix


Source = Unit | Projected | Converted | Photo


@dataclass(frozen=True, eq=False)
class SwapperContract(ModelFile):
    """A swapper with inputs ``target [n, 3, size, size]`` and ``source``, and a picture as first output.

    Attributes:
        size: the crop's side.
        template: five points as fractions of the crop.
        normalisation: of the target crop.
        source: in which form the identity enters.
        denormalise: whether the output is in the target's normalisation rather than 0..1.
        border: what lies outside the image: zeros (insightface) or its border repeated (facefusion).
    """

    _: KW_ONLY
    size: int
    template: Matrix
    source: Source
    normalisation: Normalisation = AS_IS
    denormalise: bool = False
    border: Border = "border"

    @property
    def space(self) -> str:
        """The space of the embeddings it draws from; empty where it draws from a photo."""
        return "" if isinstance(self.source, Photo) else W600K_R50


@dataclass(frozen=True)
class ConverterContract(ModelFile):
    """CrossFace: a raw embedding ``[n, 512]`` of w600k_r50 to one of another recogniser."""


@dataclass(frozen=True)
class OccluderContract(ModelFile):
    """XSeg: a BGR crop ``[n, size, size, 3]``, 0..1, to ``[n, size, size, 1]``, one where the face is seen."""

    size: int = 256


@dataclass(frozen=True)
class ParserContract(ModelFile):
    """BiSeNet trained on CelebAMask-HQ: an RGB crop ``[n, 3, size, size]`` to scores ``[n, 19, size, size]``."""

    size: int = 512
    classes: int = 19
    normalisation: Normalisation = IMAGENET


@dataclass(frozen=True, eq=False)
class RestorerContract(ModelFile):
    """A restorer: an RGB crop ``[n, 3, size, size]``, -1..1, to the same, sharpened.

    size: the crop's side. template: what it is aligned to. weight: whether it takes a second input, 0 for most
    restored to 1 for most faithful.
    """

    _: KW_ONLY
    size: int
    template: Matrix
    weight: bool = False
    normalisation: Normalisation = SIGNED


_INSIGHTFACE = "github.com/deepinsight/insightface (model packs)"
_FACEFUSION = "github.com/facefusion/facefusion-assets"
_RESEARCH = "non-commercial research only"

W600K_R50 = "w600k_r50"

DETECTORS: tuple[DetectorContract, ...] = (
    DetectorContract("det_10g.onnx", _RESEARCH, _INSIGHTFACE, "no", ("scrfd_10g_bnkps.onnx",)),
    DetectorContract("det_2.5g.onnx", _RESEARCH, _INSIGHTFACE, "no", ("scrfd_2.5g_bnkps.onnx", "scrfd_2.5g.onnx")),
    DetectorContract("det_500m.onnx", _RESEARCH, _INSIGHTFACE, "no", ("scrfd_500m_bnkps.onnx",)),
)

RECOGNISERS: tuple[RecogniserContract, ...] = (
    RecogniserContract("w600k_r50.onnx", _RESEARCH, _INSIGHTFACE, "no", ("arcface_w600k_r50.onnx",), space=W600K_R50),
    RecogniserContract("w600k_mbf.onnx", _RESEARCH, _INSIGHTFACE, "no", space="w600k_mbf"),
)

ATTRIBUTES: tuple[AttributeContract, ...] = (
    AttributeContract("genderage.onnx", _RESEARCH, _INSIGHTFACE, "no", reads="sex_age", size=96),
    AttributeContract("2d106det.onnx", _RESEARCH, _INSIGHTFACE, "no", reads="contour", size=192),
)


def _inswapper(name: str) -> SwapperContract:
    return SwapperContract(
        name,
        _RESEARCH,
        _INSIGHTFACE,
        "no",
        size=128,
        template=ARCFACE_128,
        source=Projected(),
        border="zeros",
    )


def _reswapper(name: str, size: int, template: Matrix) -> SwapperContract:
    # Its author has not said what training on inswapper's output means for the licence.
    return SwapperContract(
        name,
        "not stated; trained on the output of inswapper",
        "github.com/somanchiu/ReSwapper",
        "unknown",
        size=size,
        template=template,
        source=Projected(),
        border="zeros",
    )


def _hyperswap(name: str) -> SwapperContract:
    return SwapperContract(
        name,
        "ResearchRAIL-MS",
        _FACEFUSION,
        "no",
        size=256,
        template=ARCFACE_128,
        source=Unit(),
        normalisation=SIGNED,
        denormalise=True,
    )


def _ghost(name: str) -> SwapperContract:
    return SwapperContract(
        name,
        "Apache-2.0",
        _FACEFUSION,
        "yes",
        size=256,
        template=ARCFACE_112_V1,
        normalisation=SIGNED,
        source=Converted("crossface_ghost.onnx", unit=False),
        denormalise=True,
    )


def _simswap(name: str, size: int, normalisation: Normalisation) -> SwapperContract:
    return SwapperContract(
        name,
        "non-commercial",
        _FACEFUSION,
        "no",
        size=size,
        template=ARCFACE_112_V1,
        normalisation=normalisation,
        source=Converted("crossface_simswap.onnx", unit=True),
    )


# In the order in which an automatic choice prefers them.
SWAPPERS: tuple[SwapperContract, ...] = (
    _inswapper("inswapper_128.onnx"),
    _inswapper("inswapper_128_fp16.onnx"),
    _hyperswap("hyperswap_1a_256.onnx"),
    _hyperswap("hyperswap_1b_256.onnx"),
    _hyperswap("hyperswap_1c_256.onnx"),
    _reswapper("reswapper_128.onnx", 128, ARCFACE_128),
    _reswapper("reswapper_256.onnx", 256, RESWAPPER_256),
    _ghost("ghost_1_256.onnx"),
    _ghost("ghost_2_256.onnx"),
    _ghost("ghost_3_256.onnx"),
    _simswap("simswap_256.onnx", 256, IMAGENET),
    _simswap("simswap_unofficial_512.onnx", 512, AS_IS),
    SwapperContract(
        "hififace_unofficial_256.onnx",
        "unknown",
        _FACEFUSION,
        "unknown",
        size=256,
        template=MTCNN_512,
        normalisation=SIGNED,
        source=Converted("crossface_hififace.onnx", unit=True),
        denormalise=True,
    ),
    SwapperContract(
        "blendswap_256.onnx",
        "non-commercial",
        _FACEFUSION,
        "no",
        size=256,
        template=FFHQ_512,
        source=Photo(112, ARCFACE_112_V2),
    ),
    SwapperContract(
        "uniface_256.onnx",
        "unknown",
        _FACEFUSION,
        "unknown",
        size=256,
        template=FFHQ_512,
        normalisation=SIGNED,
        source=Photo(256, FFHQ_512),
        denormalise=True,
    ),
)

CONVERTERS: tuple[ConverterContract, ...] = tuple(
    ConverterContract(name, "OpenRAIL-MS", _FACEFUSION, "yes")
    for name in ("crossface_ghost.onnx", "crossface_hififace.onnx", "crossface_simswap.onnx")
)

OCCLUDERS: tuple[OccluderContract, ...] = tuple(
    OccluderContract(name, "GPL-3.0", _FACEFUSION, "yes") for name in ("xseg_1.onnx", "xseg_2.onnx", "xseg_3.onnx")
)

PARSERS: tuple[ParserContract, ...] = tuple(
    ParserContract(name, "MIT", _FACEFUSION, "yes") for name in ("bisenet_resnet_34.onnx", "bisenet_resnet_18.onnx")
)


def _restorer(
    name: str, licence: str, commercial: Commercial, *aliases: str, size: int = 512, weight: bool = False
) -> RestorerContract:
    # The smallest GPEN alone is aligned as recognisers' crops are.
    template = ARCFACE_128 if size == 256 else FFHQ_512
    return RestorerContract(
        name, licence, _FACEFUSION, commercial, aliases, size=size, template=template, weight=weight
    )


RESTORERS: tuple[RestorerContract, ...] = (
    _restorer("gfpgan_1.4.onnx", "Apache-2.0", "yes", "GFPGANv1.4.onnx"),
    _restorer("gfpgan_1.3.onnx", "Apache-2.0", "yes", "GFPGANv1.3.onnx"),
    _restorer("gfpgan_1.2.onnx", "Apache-2.0", "yes", "GFPGANv1.2.onnx"),
    _restorer("codeformer.onnx", "S-Lab-1.0 (non-commercial)", "no", weight=True),
    _restorer("gpen_bfr_256.onnx", "non-commercial", "no", "GPEN-BFR-256.onnx", size=256),
    _restorer("gpen_bfr_512.onnx", "non-commercial", "no", "GPEN-BFR-512.onnx"),
    _restorer("gpen_bfr_1024.onnx", "non-commercial", "no", "GPEN-BFR-1024.onnx", size=1024),
    _restorer("gpen_bfr_2048.onnx", "non-commercial", "no", "GPEN-BFR-2048.onnx", size=2048),
    _restorer(
        "restoreformer_plus_plus.onnx", "Apache-2.0", "yes", "RestoreFormer_PP.onnx", "RestoreFormerPlusPlus.onnx"
    ),
)
