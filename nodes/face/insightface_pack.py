"""Newer model packs of insightface (raccoon_s, raccoon_l), run by its own package.

Such a pack is a folder with a manifest.json of version 2, which says what the networks in it do and how they count
brightness; only the package knows all of that. Older packs are plain files and need no package.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import UserInputError
from .align import ARCFACE_112_V2, crop_faces, similarity_matrix
from .engines import no_progress
from .recogniser import EMBEDDING
from .runtime.ort_providers import CPU, choose_provider, inactive, onnxruntime
from .runtime.session import Device
from .types import Face, FloatArray

MANIFEST = "manifest.json"
_VERSION = 2
_SIDE = 640


def is_pack(folder: Path) -> bool:
    """Whether a folder holds a pack with detection and recognition that its manifest describes."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    # Other programs have manifests of their own.
    if not isinstance(manifest, dict) or manifest.get("manifest_version") != _VERSION:
        return False
    tasks = manifest.get("tasks")
    return isinstance(tasks, dict) and {"detection", "recognition"} <= set(tasks)


@lru_cache(maxsize=2)
def open_pack(folder: Path, device: Device) -> InsightfacePack:
    """A pack ready to run; the same one as last time for the same folder and device."""
    return InsightfacePack(folder, device)


class InsightfacePack:
    """Detector and recogniser of one pack, for ``onnx_engine.OnnxEngine``.

    ComfyUI cannot unload it. Images are worked on one after the other.

    Attributes:
        path: the pack's folder.
        name, space: the folder's name, which tells its embeddings from others.
        provider: the execution provider that is really active.
        note: how it is run, and why not as was wished for.
    """

    def __init__(self, folder: Path, device: Device) -> None:
        """Loads the networks.

        Raises:
            UserInputError: ``insightface_missing``, ``onnxruntime_missing``, ``provider_inactive`` or
                ``onnx_contract``.
        """
        available = onnxruntime().get_available_providers()
        try:
            from insightface.app import FaceAnalysis
        except ImportError as error:
            raise UserInputError(
                "insightface_missing",
                "detector",
                f"the pack {folder.name} needs the package insightface 2.1 or newer, which is not installed",
                "Install it into ComfyUI's Python with pip install --no-deps insightface, or choose other models",
            ) from error
        wanted, note = choose_provider(available, device)
        providers = [CPU] if wanted == CPU else [wanted, CPU]
        try:
            analysis = FaceAnalysis(str(folder), allowed_modules=["detection", "recognition"], providers=providers)
        # Whatever is wrong with a manifest or a network, the package raises something of its own.
        except Exception as error:
            raise UserInputError(
                "onnx_contract", "detector", f"insightface cannot load {folder.name}: {error}", "Download it again"
            ) from error
        analysis.prepare(0, det_size=(_SIDE, _SIDE))
        self.path = folder
        self.name = self.space = folder.name
        self._detector: Any = analysis.models["detection"]
        self._recogniser: Any = analysis.models["recognition"]
        self.provider: str = self._detector.session.get_providers()[0]
        if self.provider != wanted:
            note = f"{wanted} did not start: running on {self.provider}"
            if device == "gpu":
                raise inactive(note)
        run_by = f"{folder.name} is run by the package insightface, whatever runtime and precision are chosen"
        self.note = "; ".join(part for part in (run_by, note) if part)

    def detect_all(self, images: Tensor, on_progress: Callable[[], None] = no_progress) -> list[list[Face]]:
        """See ``onnx_engine.Detector``."""
        found = []
        for image in images:
            on_progress()
            boxes, points = self._detector.detect(_bgr(image))
            faces = [
                Face((float(box[0]), float(box[1]), float(box[2]), float(box[3])), float(box[4]), landmarks)
                for box, landmarks in zip(boxes, points, strict=True)
            ]
            found.append(sorted(faces, key=lambda face: -face.width * face.height))
        return found

    def embeddings(self, images: Tensor, index: Sequence[int], faces: Sequence[Face]) -> FloatArray:
        """See ``onnx_engine.Embedder``."""
        side = int(self._recogniser.input_size[0])
        matrices = [similarity_matrix(face.landmarks, ARCFACE_112_V2 * side) for face in faces]
        crops = crop_faces(images, index, matrices, (side, side), border="zeros", antialias=False)
        vectors = [self._recogniser.get_feat(_bgr(crop)).reshape(-1) for crop in crops]
        return np.array(vectors, np.float32).reshape(len(faces), EMBEDDING)


def _bgr(image: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """``[H, W, 3]``, 0..1, as OpenCV has pictures."""
    levels = (image[..., :3].clamp(0, 1) * 255.0).round().byte().cpu().numpy()
    return np.ascontiguousarray(levels[..., ::-1])
