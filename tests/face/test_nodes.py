"""The nodes that load engines, and find and choose faces, in the real ComfyUI."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from flux_face.tests.comfy_server import Comfy, Graph

from .node_graphs import (
    ENGINE,
    PHOTO,
    PORTRAIT,
    SELECT,
    image,
    node,
    onnx_engine,
    people_graph,
    preview,
    refusal,
    report_of,
    text_of,
)


def engine_graph(**inputs: Any) -> Graph:
    return {"engine": node("FluxFaceLoadFaceEngine", **{**ENGINE, **inputs}), "report": preview("engine", 1)}


@pytest.mark.usefixtures("face_models")
def test_the_onnx_engine_is_chosen_when_its_models_are_there(comfy: Comfy) -> None:
    files = "det_10g.onnx, w600k_r50.onnx, inswapper_128.onnx"
    report = text_of(comfy.run(engine_graph(engine="auto", runtime="onnxruntime")))
    assert report.startswith(f"onnx on CPUExecutionProvider: {files}")
    swapper = comfy.base / "models" / "insightface" / "inswapper_128.onnx"
    aside = swapper.rename(swapper.with_suffix(".aside"))
    try:
        # Otherwise ComfyUI would answer from its cache.
        without = {"engine": "auto", "runtime": "torch"}
        assert text_of(comfy.run(engine_graph(**without))) == (
            "classic: no swapper model is there: inswapper_128.onnx is not in models/insightface or its subfolders"
        )
        assert re.search(
            r"\[model_missing\] swapper: .*models/insightface.*licence", refusal(comfy, engine_graph(engine="onnx"))
        )
    finally:
        aside.rename(swapper)
    assert text_of(comfy.run(engine_graph(engine="classic"))) == "classic: chosen"


@pytest.mark.usefixtures("pictures", "face_models")
def test_torch_runs_the_models_as_onnxruntime_does(comfy: Comfy) -> None:
    def graph(runtime: str) -> Graph:
        return {
            "engine": onnx_engine(runtime=runtime),
            "where": preview("engine", 1),
            "images": image(PORTRAIT),
            "detect": node("FluxFaceDetectFaces", images=["images", 0], engine=["engine", 0]),
            "boxes": preview("detect", 4),
        }

    entries = [comfy.run(graph(runtime)) for runtime in ("torch", "onnxruntime")]
    assert text_of(entries[0], "where").startswith("onnx on torch cpu")
    found = [report_of(entry, "boxes")[0] for entry in entries]
    assert len(found[0]) == len(found[1]) > 0
    assert [box["x"] for box in found[0]] == pytest.approx([box["x"] for box in found[1]], abs=0.1)


@pytest.mark.usefixtures("pictures")
def test_detection_counts_and_gives_cores_boxes(comfy: Comfy) -> None:
    graph = {
        "images": image(PHOTO),
        "faces": node("FluxFaceDetectFaces", images=["images", 0]),
        "report": preview("faces", 3),
        "boxes": preview("faces", 4),
        "draw": node("DrawBBoxes", image=["images", 0], bboxes=["faces", 4]),
        "show": node("PreviewImage", images=["draw", 0]),
        "before": node("PreviewImage", images=["images", 0]),
    }
    entry = comfy.run(graph)
    assert text_of(entry) == "1"
    ((box,),) = report_of(entry, "boxes")
    assert set(box) == {"x", "y", "width", "height", "label", "score"}
    # Core has drawn on the box's edges.
    drawn = comfy.images(entry, "show")[0] != comfy.images(entry, "before")[0]
    rows = np.flatnonzero(drawn.any(axis=(1, 2)))
    assert abs(rows.max() - (box["y"] + box["height"])) < 6


@pytest.mark.usefixtures("pictures", "face_models")
def test_a_person_is_found_again(comfy: Comfy) -> None:
    graph = people_graph("first", "two", "two")
    graph["detect"] = node("FluxFaceDetectFaces", images=["batch", 0], engine=["engine", 0])
    rule = {**SELECT, "order": "most alike", "at_most": 1, "min_similarity": 0.999}
    graph["select"] = node("FluxFaceSelectFaces", faces=["detect", 0], identity=["first", 0], **rule)
    graph["chosen"] = preview("select", 4)
    first, second = report_of(comfy.run(graph), "chosen")["images"]
    assert first["chosen"] == []
    assert second["chosen"] == [1]


@pytest.mark.usefixtures("pictures", "face_models")
def test_sex_and_age_are_read_where_asked_for(comfy: Comfy) -> None:
    def graph(attributes: bool) -> Graph:
        return {
            "engine": onnx_engine(attributes=attributes),
            "images": image(PORTRAIT),
            "detect": node("FluxFaceDetectFaces", images=["images", 0], engine=["engine", 0]),
            "all": preview("detect", 3),
            **{
                sex: node("FluxFaceSelectFaces", faces=["detect", 0], **{**SELECT, "sex": sex})
                for sex in ("female", "male")
            },
            "females": preview("female", 3),
            "males": preview("male", 3),
        }

    entry = comfy.run(graph(attributes=True))
    assert int(text_of(entry, "females")) + int(text_of(entry, "males")) == int(text_of(entry, "all")) > 0
    assert refusal(comfy, graph(attributes=False)) == (
        "FluxFaceSelectFaces: [attributes_missing] sex: nothing has read age and sex in these faces. Switch attributes "
        "on in Load Face Engine and find the faces with its engine"
    )


@pytest.mark.usefixtures("pictures")
def test_a_rule_that_cannot_be_meant_is_explained(comfy: Comfy) -> None:
    graph = {
        "images": image(PORTRAIT),
        "detect": node("FluxFaceDetectFaces", images=["images", 0]),
        "select": node("FluxFaceSelectFaces", faces=["detect", 0], **{**SELECT, "numbers": "1,x"}),
        "count": preview("select", 3),
    }
    assert refusal(comfy, graph) == (
        "FluxFaceSelectFaces: [selection_rule] numbers: 'x' is no number of a face. Write numbers and ranges, such as "
        "1,3-4"
    )
