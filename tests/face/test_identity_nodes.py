"""The nodes that make, group, save, load and compare identities, in the real ComfyUI."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from flux_face.tests.comfy_server import Comfy, Graph

from .node_graphs import (
    EMPTY,
    IDENTITY,
    PHOTO,
    PORTRAIT,
    SWAP,
    image,
    node,
    onnx_engine,
    preview,
    refusal,
    report_of,
    swap_graph,
    text_of,
)


@pytest.mark.usefixtures("pictures")
def test_a_saved_identity_swaps_as_its_photo_does(comfy: Comfy) -> None:
    graph: Graph = {
        "photo": image(PHOTO),
        "identity": node("FluxFaceFaceIdentity", photos=["photo", 0], **IDENTITY),
        "save": node(
            "FluxFaceSaveIdentity", identity=["identity", 0], name="astronaut", keep_photo=True, overwrite=False
        ),
        "file": preview("save", 0),
    }
    assert text_of(comfy.run(graph), "file") == "astronaut.safetensors"
    assert (comfy.base / "models" / "flux_face" / "identities" / "astronaut.safetensors").is_file()

    swap = swap_graph(PORTRAIT, PHOTO)
    swap["load"] = node("FluxFaceLoadIdentity", file="astronaut.safetensors")
    swap["held"] = preview("load", 1)
    del swap["swap"]["inputs"]["photo"]
    swap["swap"]["inputs"]["identity"] = ["load", 0]
    entry = comfy.run(swap)
    assert text_of(entry, "held") == "astronaut.safetensors: one photo, no embedding, with a photo"
    assert report_of(entry)["images"][0]["similarity"][0] > 0.7

    graph["save"]["inputs"]["keep_photo"] = False
    graph["save"]["inputs"]["name"] = "numbers"
    assert refusal(comfy, graph) == (
        "FluxFaceSaveIdentity: [identity_incomplete] identity: without its photo nothing of it would be stored. "
        "Set keep_photo, or make the identity with the onnx engine"
    )
    graph["save"]["inputs"]["keep_photo"] = True
    graph["save"]["inputs"]["name"] = "astronaut"
    # The same inputs as in the first run would come from ComfyUI's cache.
    graph["save"]["inputs"]["identity"] = ["group", 0]
    graph["group"] = node("FluxFaceCombineIdentities", identity_2=["identity", 0])
    assert refusal(comfy, graph) == (
        "FluxFaceSaveIdentity: [identity_exists] name: there is already an identity astronaut.safetensors. "
        "Choose another name, or set overwrite"
    )


@pytest.mark.usefixtures("pictures")
def test_a_list_of_pictures_of_any_sizes_is_one_person(comfy: Comfy) -> None:
    graph: Graph = {
        "photo": image(PHOTO),
        "other": image(PORTRAIT),
        "list": node("CreateList", **{"inputs.input0": ["photo", 0], "inputs.input1": ["other", 0]}),
        "identity": node("FluxFaceFaceIdentity", photos=["list", 0], **IDENTITY),
        "report": preview("identity", 1),
    }
    report = report_of(comfy.run(graph))
    assert len(report["photos"]) == 2
    assert [item["used"] for item in report["photos"]].count(True) == 1
    assert report["note"].startswith("the classic engine works with one photo")
    graph["other"] = image(EMPTY)
    assert refusal(comfy, graph).startswith("FluxFaceFaceIdentity: [photo_no_face] photo 2 of 2: no face was found")


@pytest.mark.usefixtures("pictures", "face_models")
def test_an_embedding_is_saved_without_pixels(comfy: Comfy) -> None:
    saving = {"identity": ["identity", 0], "keep_photo": False, "overwrite": True}
    graph: Graph = {
        "engine": onnx_engine(),
        "photo": image(PHOTO),
        "other": image(PORTRAIT),
        "batch": node("ImageBatch", image1=["photo", 0], image2=["other", 0]),
        "identity": node(
            "FluxFaceFaceIdentity",
            photos=["batch", 0],
            engine=["engine", 0],
            **{**IDENTITY, "several_faces_in_photo": "largest"},
        ),
        "report": preview("identity", 1),
        "save": node("FluxFaceSaveIdentity", name="two photos", **saving),
    }
    report = report_of(comfy.run(graph))
    assert [item["used"] for item in report["photos"]] == [True, True]
    path = comfy.base / "models" / "flux_face" / "identities" / "two photos.safetensors"
    assert {name: tuple(value.shape) for name, value in load_file(str(path)).items()} == {"embedding": (512,)}


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("name", ["../outside", "a/b", "con"])
def test_a_name_does_not_leave_the_folder(comfy: Comfy, name: str) -> None:
    graph = {
        "photo": image(PHOTO),
        "identity": node("FluxFaceFaceIdentity", photos=["photo", 0], **IDENTITY),
        "save": node("FluxFaceSaveIdentity", identity=["identity", 0], name=name, keep_photo=True, overwrite=True),
    }
    before = files_in(comfy.base / "models")
    assert "[identity_name] name:" in refusal(comfy, graph)
    assert files_in(comfy.base / "models") == before


def files_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("pictures", "face_models")
def test_reactors_face_models_swap_with_the_onnx_engine_only(comfy: Comfy) -> None:
    folder = comfy.base / "models" / "reactor" / "faces"
    folder.mkdir(parents=True)
    embedding = np.random.default_rng(3).standard_normal(512).astype(np.float32)
    save_file({"embedding": torch.from_numpy(embedding), "gender": torch.tensor(1)}, str(folder / "bob.safetensors"))
    graph: Graph = {
        "engine": onnx_engine(),
        "images": image(PORTRAIT),
        "load": node("FluxFaceLoadIdentity", file="reactor/bob.safetensors"),
        "held": preview("load", 1),
        "swap": node("FluxFaceSwapFace", images=["images", 0], engine=["engine", 0], identity=["load", 0], **SWAP),
        "report": preview("swap", 3),
    }
    entry = comfy.run(graph)
    assert text_of(entry, "held") == "reactor/bob.safetensors: one photo, embedding of w600k_r50.onnx, without a photo"
    assert report_of(entry)["images"][0]["swapped"] == 1
    del graph["swap"]["inputs"]["engine"]
    assert "[identity_incomplete] identity: it holds an embedding only" in refusal(comfy, graph)


@pytest.mark.usefixtures("pictures")
def test_a_group_is_not_saved_as_one(comfy: Comfy) -> None:
    graph = {
        "photo": image(PHOTO),
        "identity": node("FluxFaceFaceIdentity", photos=["photo", 0], **IDENTITY),
        "group": node("FluxFaceCombineIdentities", identity_1=["identity", 0], identity_2=["identity", 0]),
        "save": node("FluxFaceSaveIdentity", identity=["group", 0], name="both", keep_photo=True, overwrite=False),
        "nobody": node("FluxFaceCombineIdentities"),
        "count": preview("nobody", 1),
    }
    assert refusal(comfy, {name: graph[name] for name in ("nobody", "count")}) == (
        "FluxFaceCombineIdentities: [no_identity] identity_1: nobody is connected. Connect at least one identity"
    )
    del graph["nobody"], graph["count"]
    assert refusal(comfy, graph) == (
        "FluxFaceSaveIdentity: [several_identities] identity: it is a group of 2 people, and a file holds one. "
        "Save each person before Group Identities"
    )


@pytest.mark.usefixtures("pictures")
def test_an_unknown_identity_is_refused_before_the_run(comfy: Comfy) -> None:
    graph = {"load": node("FluxFaceLoadIdentity", file="../../secret.safetensors"), "held": preview("load", 1)}
    text = refusal(comfy, graph)
    assert text.startswith("Prompt outputs failed validation")
    assert "[identity_file_missing] file: there is no identity" in text


@pytest.mark.usefixtures("pictures")
def test_similarity_to_an_identity_is_that_to_its_photo(comfy: Comfy) -> None:
    graph: Graph = {
        "images": image(PHOTO),
        "photo": image(PORTRAIT),
        "identity": node("FluxFaceFaceIdentity", photos=["photo", 0], **IDENTITY),
        "same": node("FluxFaceFaceIdentity", photos=["images", 0], **IDENTITY),
        "group": node("FluxFaceCombineIdentities", identity_1=["identity", 0], identity_2=["same", 0]),
        "by_photo": node("FluxFaceFaceSimilarity", images=["images", 0], photo=["photo", 0]),
        "by_identity": node("FluxFaceFaceSimilarity", images=["images", 0], identity=["identity", 0]),
        "by_group": node("FluxFaceFaceSimilarity", images=["images", 0], identity=["group", 0]),
        **{f"{name}_value": preview(name, 0) for name in ("by_photo", "by_identity", "by_group")},
    }
    entry = comfy.run(graph)
    by_photo, by_identity, by_group = (
        float(text_of(entry, f"{name}_value")) for name in ("by_photo", "by_identity", "by_group")
    )
    assert by_identity == by_photo < 0.9
    assert by_group == pytest.approx(1.0, abs=1e-3)
    both = {**graph["by_photo"]["inputs"], "identity": ["identity", 0]}
    graph = {**graph, "by_photo": node("FluxFaceFaceSimilarity", **both)}
    assert "[photo_or_identity] photo: both photo and identity are connected" in refusal(comfy, graph)
