"""The face nodes in the real ComfyUI."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flux_face.starter.renderer import PortraitSpec, render
from flux_face.tests.comfy_server import Comfy

from . import graphs


@pytest.fixture(scope="module")
def pictures(comfy: Comfy) -> None:
    """A portrait, a photo and an empty picture in the input folder; small onnx models in the model folder."""
    import skimage.data

    folder = comfy.base / "input"
    Image.fromarray((render(PortraitSpec()) * 255).astype(np.uint8)).save(folder / "face-portrait.png")
    Image.fromarray(skimage.data.astronaut()).save(folder / "face-photo.png")
    Image.new("RGB", (200, 200), (90, 120, 150)).save(folder / "face-none.png")


def swap_graph(images: str, photo: str, **inputs: Any) -> dict[str, Any]:
    return {
        "images": {"class_type": "LoadImage", "inputs": {"image": images}},
        "photo": {"class_type": "LoadImage", "inputs": {"image": photo}},
        "swap": {
            "class_type": "FluxFaceSwapFace",
            "inputs": {
                "images": ["images", 0],
                "photo": ["photo", 0],
                "target": "largest",
                "colour_match": 1.0,
                "blend": 1.0,
                "several_faces_in_photo": "error",
                **inputs,
            },
        },
        "report": {"class_type": "PreviewAny", "inputs": {"source": ["swap", 3]}},
        "show": {"class_type": "PreviewImage", "inputs": {"images": ["swap", 0]}},
    }


def report_of(history: dict[str, Any]) -> dict[str, Any]:
    text = history["outputs"]["report"]["text"][0]
    report: dict[str, Any] = json.loads(text)
    return report


@pytest.mark.usefixtures("pictures")
def test_a_swap_with_the_classic_engine(comfy: Comfy) -> None:
    report = report_of(comfy.run(swap_graph("face-portrait.png", "face-photo.png")))
    assert report["engine"] == "classic"
    assert report["images"][0]["swapped"] == 1
    assert report["images"][0]["similarity"][0] > 0.7


@pytest.mark.usefixtures("pictures")
def test_a_photo_without_a_face_says_what_to_do(comfy: Comfy) -> None:
    with pytest.raises(Exception, match="no face was found in the photo"):
        comfy.run(swap_graph("face-portrait.png", "face-none.png"))


@pytest.mark.usefixtures("pictures")
def test_detection_counts(comfy: Comfy) -> None:
    graph = {
        "images": {"class_type": "LoadImage", "inputs": {"image": "face-photo.png"}},
        "faces": {"class_type": "FluxFaceDetectFaces", "inputs": {"images": ["images", 0]}},
        "report": {"class_type": "PreviewAny", "inputs": {"source": ["faces", 3]}},
    }
    assert comfy.run(graph)["outputs"]["report"]["text"][0] == "1"


@pytest.mark.usefixtures("pictures")
def test_the_onnx_engine_is_chosen_when_its_models_are_there(comfy: Comfy) -> None:
    graph = {
        "engine": {
            "class_type": "FluxFaceLoadFaceEngine",
            "inputs": {
                "engine": "auto",
                "device": "cpu",
                "detector": "automatic",
                "recogniser": "automatic",
                "swapper": "automatic",
            },
        },
        "report": {"class_type": "PreviewAny", "inputs": {"source": ["engine", 1]}},
    }
    text = comfy.run(graph)["outputs"]["report"]["text"][0]
    assert text.startswith("classic: ")
    assert "det_10g.onnx" in text

    wanted = {**graph, "engine": {**graph["engine"], "inputs": {**graph["engine"]["inputs"], "engine": "onnx"}}}  # type: ignore[dict-item]
    with pytest.raises(Exception, match=r"models/insightface.*licence"):
        comfy.run(wanted)

    folder = comfy.base / "models" / "insightface"
    (folder / "models" / "buffalo_l").mkdir(parents=True)
    graphs.scrfd(folder / "models" / "buffalo_l" / "det_10g.onnx")
    graphs.arcface(folder / "models" / "buffalo_l" / "w600k_r50.onnx")
    graphs.swapper(folder / "inswapper_128.onnx", emap=graphs.random_emap())
    text = comfy.run(wanted)["outputs"]["report"]["text"][0]
    assert text == "onnx on CPUExecutionProvider: det_10g.onnx, w600k_r50.onnx, inswapper_128.onnx"
