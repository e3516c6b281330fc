"""Pictures and models for the tests that run face nodes in the real ComfyUI."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from flux_face.starter.portrait import PortraitSpec
from flux_face.starter.renderer import render
from flux_face.tests.comfy_server import Comfy

from . import graphs, samples
from .node_graphs import EMPTY, GROUP, OTHER, PHOTO, PORTRAIT


@pytest.fixture(scope="module")
def pictures(comfy: Comfy) -> None:
    """Two portraits, a photo, a group and an empty picture in the input folder."""
    import skimage.data

    folder = comfy.base / "input"
    for name, spec in ((PORTRAIT, PortraitSpec()), (OTHER, PortraitSpec(skin=9, hair_style="long", femininity=0.9))):
        Image.fromarray((render(spec) * 255).astype(np.uint8)).save(folder / name)
    Image.fromarray(skimage.data.astronaut()).save(folder / PHOTO)
    Image.fromarray(samples.photo()).save(folder / GROUP)
    Image.new("RGB", (200, 200), (90, 120, 150)).save(folder / EMPTY)


@pytest.fixture(scope="module")
def face_models(comfy: Comfy) -> Iterator[None]:
    """Small onnx models in the model folder, as long as the module's tests last: with them, auto means onnx."""
    folder = comfy.base / "models" / "insightface"
    pack = folder / "models" / "buffalo_l"
    pack.mkdir(parents=True, exist_ok=True)
    made = [
        graphs.scrfd(pack / "det_10g.onnx"),
        graphs.arcface(pack / "w600k_r50.onnx"),
        graphs.genderage(pack / "genderage.onnx"),
        graphs.swapper(folder / "inswapper_128.onnx", emap=graphs.random_emap()),
        # By chance it leaves about half of a portrait seen.
        graphs.occluder(folder / "xseg_1.onnx", seed=11),
        graphs.parser(folder / "bisenet_resnet_34.onnx"),
        graphs.restorer(folder / "gfpgan_1.4.onnx"),
    ]
    yield
    for path in made:
        path.unlink()
