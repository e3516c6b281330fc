"""API-format graphs of the face nodes, and what comes out of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flux_face.tests.comfy_server import Comfy, ComfyError, Entry, Graph

PORTRAIT, OTHER, PHOTO, GROUP, EMPTY = (f"face-{name}.png" for name in ("portrait", "other", "photo", "group", "none"))


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def image(name: str) -> dict[str, Any]:
    return node("LoadImage", image=name)


def preview(source: str, slot: int) -> dict[str, Any]:
    return node("PreviewAny", source=[source, slot])


SWAP: dict[str, Any] = {"target": "largest", "colour_match": 1.0, "blend": 1.0, "several_faces_in_photo": "error"}
IDENTITY: dict[str, Any] = {
    "combine": "mean",
    "outliers": "keep",
    "outlier_limit": 0.3,
    "several_faces_in_photo": "error",
}
SELECT: dict[str, Any] = {
    "numbers": "",
    "order": "largest",
    "at_most": 0,
    "sex": "any",
    "min_age": 0,
    "max_age": 0,
    "min_size": 0,
    "min_share": 0.0,
    "min_score": 0.0,
    "min_similarity": 0.4,
}
ENGINE: dict[str, Any] = {"device": "cpu", "detector": "automatic", "recogniser": "automatic", "swapper": "automatic"}
OPTIONS: dict[str, Any] = {
    "box": True,
    "ellipse": False,
    "outline": False,
    "softness": 0.15,
    "padding_top": 0.0,
    "padding_right": 0.0,
    "padding_bottom": 0.0,
    "padding_left": 0.0,
    "occluder": "none",
    "parser": "none",
    "regions": "",
    "pixel_boost": 1,
    "restorer": "none",
    "restore_strength": 0.8,
    "colour_method": "mean_std",
    "runtime": "auto",
    "device": "cpu",
    "precision": "float32",
}


def onnx_engine(**inputs: Any) -> dict[str, Any]:
    return node("FluxFaceLoadFaceEngine", **{**ENGINE, "engine": "onnx", "runtime": "onnxruntime", **inputs})


def swap_graph(images: str, photo: str, **inputs: Any) -> Graph:
    return {
        "images": image(images),
        "photo": image(photo),
        "swap": node("FluxFaceSwapFace", images=["images", 0], photo=["photo", 0], **{**SWAP, **inputs}),
        "report": preview("swap", 3),
        "show": node("PreviewImage", images=["swap", 0]),
    }


def text_of(entry: Entry, name: str = "report") -> str:
    text: str = entry["outputs"][name]["text"][0]
    return text


def report_of(entry: Entry, name: str = "report") -> Any:
    return json.loads(text_of(entry, name))


def refusal(comfy: Comfy, graph: Graph) -> str:
    """The text of the error that a graph ends with."""
    with pytest.raises(ComfyError) as error:
        comfy.run(graph)
    return str(error.value).rstrip()


def people_graph(assignment: str, first: str, second: str, **inputs: Any) -> Graph:
    """Both portraits as one batch, and both people, each from the portrait's own largest face."""
    largest = {**IDENTITY, "several_faces_in_photo": "largest"}
    return {
        "engine": onnx_engine(),
        "one": image(PORTRAIT),
        "two": image(OTHER),
        "batch": node("ImageBatch", image1=["one", 0], image2=["two", 0]),
        "first": node("FluxFaceFaceIdentity", photos=[first, 0], engine=["engine", 0], **largest),
        "second": node("FluxFaceFaceIdentity", photos=[second, 0], engine=["engine", 0], **largest),
        "people": node("FluxFaceCombineIdentities", identity_1=["first", 0], identity_3=["second", 0]),
        "swap": node(
            "FluxFaceSwapFace",
            images=["batch", 0],
            engine=["engine", 0],
            identity=["people", 0],
            assignment=assignment,
            **{**SWAP, **inputs},
        ),
        "report": preview("swap", 3),
        "count": preview("people", 1),
    }


def alike_before(comfy: Comfy, graph: Graph) -> list[list[float]]:
    return [item["similarity_before"] for item in report_of(comfy.run(graph))["images"]]
