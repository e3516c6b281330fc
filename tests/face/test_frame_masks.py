"""Masks in the images' pixels equal those that a swap leaves behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from flux_face.nodes.face.contracts import SWAPPERS
from flux_face.nodes.face.engines import SwapSettings
from flux_face.nodes.face.frame_masks import frame_masks
from flux_face.nodes.face.identity import Identity
from flux_face.nodes.face.masks import MaskSettings
from flux_face.nodes.face.onnx_engine import OnnxEngine
from flux_face.nodes.face.recogniser import Recogniser
from flux_face.nodes.face.scrfd import Scrfd
from flux_face.nodes.face.swap import swap_faces
from flux_face.nodes.face.swapper import Swapper
from flux_face.nodes.face.types import FaceSet

from . import graphs
from .samples import as_image, face_at, photo, session


@pytest.mark.parametrize(
    "settings",
    [
        MaskSettings(),
        MaskSettings(shapes=("ellipse",), softness=0.3),
        MaskSettings(shapes=("box", "landmarks"), padding=(0.3, 0.0, 0.1, 0.0)),
    ],
)
def test_a_frames_mask_is_the_swaps(settings: MaskSettings, tmp_path: Path) -> None:
    engine = OnnxEngine(
        Scrfd(session(graphs.scrfd(tmp_path / "det_10g.onnx"))),
        Recogniser(session(graphs.arcface(tmp_path / "w600k_r50.onnx"))),
        Swapper(session(graphs.swapper(tmp_path / "s.onnx", emap=graphs.random_emap())), SWAPPERS[0]),
        [],
    )
    image = as_image(photo())[:600, :800]
    images = torch.stack([image, image.flip(1)])
    faces = FaceSet(
        ((face_at(200, 250, 160), face_at(330, 270, 120)), (face_at(500, 300, 300, tilt=-20),)), 600, 800, ""
    )
    person = Identity(np.ones(512, dtype=np.float32), "w600k_r50.onnx")
    swapped = swap_faces(engine, images, [person], faces=faces, settings=SwapSettings(mask=settings))
    masks = frame_masks(images, faces, settings)
    assert float(swapped.mask.amax()) > 0.99
    difference = (masks - swapped.mask).abs()
    # Drawn at 256 pixels here and at 128 there: half a pixel of the latter on the slopes.
    assert float(difference.max()) < 0.06
    assert float(difference.sum()) < 0.02 * float(masks.sum())


def test_images_without_faces_have_empty_masks() -> None:
    masks = frame_masks(torch.rand(2, 40, 60, 3), FaceSet(((), ()), 40, 60, ""), MaskSettings())
    assert masks.shape == (2, 40, 60)
    assert not masks.any()
