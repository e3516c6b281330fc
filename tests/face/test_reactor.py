"""Graphs made with ReActor, submitted to a real ComfyUI that does not have it, and to one that has its ids."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from flux_face.devtools.pack import ROOT
from flux_face.tests.comfy_server import Comfy, ComfyError, Graph, StartComfy

from .node_graphs import OTHER, PHOTO, PORTRAIT, image, node, preview, refusal, swap_graph, text_of

WIDGETS: dict[str, Any] = {
    "enabled": True,
    "swap_model": "inswapper_128.onnx",
    "facedetection": "retinaface_resnet50",
    "face_restore_model": "none",
    "face_restore_visibility": 1.0,
    "codeformer_weight": 0.5,
}
MORE: dict[str, Any] = {
    "detect_gender_input": "no",
    "detect_gender_source": "no",
    "input_faces_index": "0",
    "source_faces_index": "0",
    "console_log_level": 1,
}
# All that ReActor of May 2026 has.
IDS = {
    "ReActorFaceSwap",
    "ReActorFaceSwapOpt",
    "ReActorOptions",
    "ReActorFaceBoost",
    "ReActorMaskHelper",
    "ReActorSetWeight",
    "ReActorSaveFaceModel",
    "ReActorLoadFaceModel",
    "ReActorBuildFaceModel",
    "ReActorMakeFaceModelBatch",
    "ReActorRestoreFace",
    "ReActorRestoreFaceAdvanced",
    "ReActorFaceSimilarity",
    "ReActorImageDublicator",
    "ImageRGBA2RGB",
    "ReActorUnload",
}


def reactor_graph(class_type: str = "ReActorFaceSwap", **inputs: Any) -> Graph:
    widgets = {**WIDGETS, **MORE} if class_type == "ReActorFaceSwap" else WIDGETS
    return {
        "images": image(PORTRAIT),
        "photo": image(PHOTO),
        "swap": node(class_type, **{"input_image": ["images", 0], "source_image": ["photo", 0], **widgets, **inputs}),
        "show": node("PreviewImage", images=["swap", 0]),
    }


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("class_type", ["ReActorFaceSwap", "ReActorFaceSwapOpt"])
def test_its_swap_is_ours(comfy: Comfy, class_type: str) -> None:
    ours = swap_graph(PORTRAIT, PHOTO, several_faces_in_photo="largest")
    (expected,) = comfy.images(comfy.run(ours), "show")
    (swapped,) = comfy.images(comfy.run(reactor_graph(class_type)), "show")
    assert np.array_equal(swapped, expected)

    (off,) = comfy.images(comfy.run(reactor_graph(class_type, enabled=False)), "show")
    (before,) = comfy.images(comfy.run({"a": image(PORTRAIT), "show": node("PreviewImage", images=["a", 0])}), "show")
    assert np.array_equal(off, before)
    assert not np.array_equal(swapped, before)


@pytest.mark.usefixtures("pictures")
def test_its_face_models_and_similarity_are_ours(comfy: Comfy) -> None:
    graph = reactor_graph()
    graph["build"] = node(
        "ReActorBuildFaceModel",
        save_mode=True,
        send_only=False,
        face_model_name="default",
        compute_method="Mean",
        images=["photo", 0],
    )
    (by_photo,) = comfy.images(comfy.run(reactor_graph()), "show")
    del graph["swap"]["inputs"]["source_image"]
    graph["swap"]["inputs"]["face_model"] = ["build", 0]
    graph["alike"] = node("ReActorFaceSimilarity", image1=["swap", 0], image2=["photo", 0])
    graph["number"], graph["text"] = preview("alike", 0), preview("alike", 1)
    entry = comfy.run(graph)
    (by_model,) = comfy.images(entry, "show")
    assert np.array_equal(by_model, by_photo)
    assert float(text_of(entry, "number")) > 0.7
    assert json.loads(text_of(entry, "text"))["engine"] == "classic"


@pytest.mark.usefixtures("pictures")
def test_its_face_model_files_are_found_under_their_own_names(comfy: Comfy) -> None:
    folder = comfy.base / "models" / "reactor" / "faces"
    folder.mkdir(parents=True, exist_ok=True)
    embedding = np.random.default_rng(3).standard_normal(512).astype(np.float32)
    save_file({"embedding": torch.from_numpy(embedding)}, str(folder / "alice.safetensors"))
    graph = reactor_graph(face_model=["load", 0])
    del graph["swap"]["inputs"]["source_image"]
    graph["load"] = node("ReActorLoadFaceModel", face_model="alice.safetensors")
    # The file was read; the classic engine, which is what no engine means, cannot draw from numbers.
    assert "[identity_incomplete] identity: it holds an embedding only" in refusal(comfy, graph)
    graph["load"]["inputs"]["face_model"] = "none"
    assert "[identity_file_missing] file: there is no identity 'none'" in refusal(comfy, graph)


@pytest.mark.usefixtures("pictures")
def test_what_has_no_counterpart_is_refused_by_name(comfy: Comfy) -> None:
    graph = reactor_graph()
    graph["restore"] = node("ReActorRestoreFace", image=["swap", 0], model="none")
    graph["show"]["inputs"]["images"] = ["restore", 0]
    with pytest.raises(ComfyError, match="ReActorRestoreFace"):
        comfy.run(graph)


def test_the_page_says_of_every_node_what_becomes_of_it(comfy: Comfy) -> None:
    page = (ROOT / "docs" / "reactor.md").read_text(encoding="utf-8").partition("| ReActor's setting |")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", page, flags=re.MULTILINE))
    assert set(rows) == IDS
    names = comfy.get("/object_info")
    replaced = {old: new[0]["new_node_id"] for old, new in comfy.get("/node_replacements").items() if old in IDS}
    for old, told in rows.items():
        assert (told == f"*{names[replaced[old]]['display_name']}*") if old in replaced else (told == "not replaced")


@pytest.mark.usefixtures("pictures")
def test_a_pack_with_its_ids_is_left_alone(comfy: Comfy, start_comfy: StartComfy, tmp_path: Path) -> None:
    config = tmp_path / "nodes.yaml"
    config.write_text(f"tests:\n  custom_nodes: {json.dumps(str(Path(__file__).parent / 'reactor_nodes'))}\n")
    server = start_comfy("--extra-model-paths-config", str(config))
    for name in (PORTRAIT, OTHER):
        shutil.copyfile(comfy.base / "input" / name, server.base / "input" / name)
    graph = reactor_graph()
    graph["photo"] = image(OTHER)
    graph["other"] = node("PreviewImage", images=["photo", 0])
    entry = server.run(graph)
    (shown,), (other,) = server.images(entry, "show"), server.images(entry, "other")
    assert np.array_equal(shown, other)
