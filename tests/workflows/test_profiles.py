"""Profiles: built-in and the operator's, and how values get into a graph."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from flux_face.workflows.profiles import BUILT_IN_DIR, Binding, Profile, ProfileError, load_profiles

IMAGE = {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 80, "batch_size": 2, "color": 0}}
OUTPUT = {"class_type": "FluxFaceJobOutput", "inputs": {"images": ["image", 0], "job_id": ""}}
FULL = {
    "user_photo": "job:1/user_photo",
    "prompt": "a portrait",
    "num_steps": 7,
    "batch_size": 3,
    "width": 320,
    "height": 384,
    "seed": 99,
    "max_attempts": 2,
    "several_faces_in_photo": "largest",
    "job_id": "1",
}


def write(path: Path, graph: Any) -> Path:
    path.write_text(json.dumps(graph), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["flux1-schnell-gguf", "flux1-dev-gguf", "starter"])
def test_built_in_profiles_take_every_field(name: str) -> None:
    profile = load_profiles([BUILT_IN_DIR])[name]
    before = copy.deepcopy(dict(profile.graph))
    graph = profile.fill(FULL)
    assert profile.graph == before, "the template is never changed"
    by_class = {node["class_type"]: node["inputs"] for node in graph.values()}
    assert by_class["FluxFaceLoadPhoto"]["photo"] == "job:1/user_photo"
    assert by_class["CLIPTextEncode"]["text"] == "a portrait"
    assert by_class["BasicScheduler"]["steps"] == 7
    assert by_class["RandomNoise"]["noise_seed"] == 99
    assert by_class["FluxFaceRetry"]["max_attempts"] == 2
    assert by_class["FluxFaceSwapFace"]["several_faces_in_photo"] == "largest"
    assert by_class["FluxFaceJobOutput"]["job_id"] == "1"
    latent = by_class["EmptyLatentImage"]
    assert (latent["width"], latent["height"], latent["batch_size"]) == (320, 384, 3)


def test_starter_differs_from_production_in_loaders_and_defaults_only() -> None:
    profiles = load_profiles([BUILT_IN_DIR])

    def rest(name: str) -> dict[str, Any]:
        graph = profiles[name].fill(FULL)
        loaders = ("UnetLoaderGGUF", "CLIPLoader", "DualCLIPLoader", "VAELoader", "FluxFaceLoadFaceEngine")
        return {key: node for key, node in graph.items() if node["class_type"] not in loaders}

    assert rest("starter") == rest("flux1-schnell-gguf")
    kinds = {node["class_type"] for node in profiles["flux1-schnell-gguf"].graph.values()}
    original = {"DualCLIPLoader", "UnetLoaderGGUF", "CLIPTextEncode", "EmptyLatentImage", "BasicScheduler"}
    assert original | {"SamplerCustomAdvanced", "VAEDecode"} <= kinds


def test_the_field_behind_an_input_is_found_through_a_link() -> None:
    profile = load_profiles([BUILT_IN_DIR])["faceswap"]
    assert profile.field_at("photo", "photo") == "user_photo"
    assert profile.field_at("swap", "photo") == "user_photo"
    assert profile.field_at("swap", "images") == "target_image"
    assert profile.field_at("swap", "engine") is None


def test_a_node_that_is_titled_for_another_field_is_not_the_photo() -> None:
    profiles = load_profiles([BUILT_IN_DIR])
    assert set(profiles["qa"].bindings) == {"target_image", "job_id"}
    assert set(profiles["qa-photo"].bindings) == {"target_image", "user_photo", "job_id"}


def test_defaults_are_the_templates_values(tmp_path: Path) -> None:
    profile = Profile.from_file(write(tmp_path / "mine.json", {"image": IMAGE, "output": OUTPUT}))
    assert profile.name == "mine"
    assert dict(profile.defaults) == {"width": 64, "height": 80, "batch_size": 2}
    assert set(profile.bindings) == {"width", "height", "batch_size", "job_id"}


def test_a_job_writes_no_previews(tmp_path: Path) -> None:
    """The web page's export says that nodes show pictures, which are files."""
    graph = json.loads((BUILT_IN_DIR / "starter.json").read_text(encoding="utf-8"))
    for name in ("swap", "qa", "retry"):
        graph[name]["inputs"]["preview"] = True
    graph["other"] = {"class_type": "OtherPacksNode", "inputs": {"preview": True}}
    filled = Profile.from_file(write(tmp_path / "exported.json", graph)).fill({"job_id": "1"})
    assert [name for name, node in filled.items() if "preview" in node["inputs"]] == ["other"]


def test_a_field_without_a_place_is_an_error(tmp_path: Path) -> None:
    profile = Profile.from_file(write(tmp_path / "mine.json", {"image": IMAGE, "output": OUTPUT}))
    with pytest.raises(KeyError):
        profile.fill({"prompt": "x"})


def test_of_several_nodes_the_titled_one_is_meant(tmp_path: Path) -> None:
    def text(title: str) -> dict[str, Any]:
        return {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["c", 0]}, "_meta": {"title": title}}

    graph = {"image": IMAGE, "output": OUTPUT, "a": text("Negative"), "b": text("Prompt")}
    profile = Profile.from_file(write(tmp_path / "mine.json", graph))
    assert profile.bindings["prompt"] == (Binding("b", "text"),)
    graph["b"] = text("Positive")
    with pytest.raises(ProfileError, match="nodes a, b could all take prompt"):
        Profile.from_file(write(tmp_path / "mine.json", graph))


def test_a_linked_input_is_not_a_place(tmp_path: Path) -> None:
    image = {"class_type": "EmptyImage", "inputs": {**IMAGE["inputs"], "width": ["size", 0]}}  # type: ignore[dict-item]
    profile = Profile.from_file(write(tmp_path / "mine.json", {"image": image, "output": OUTPUT}))
    assert "width" not in profile.bindings


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "cannot be read"),
        ("[]", "not in API format"),
        ('{"nodes": [], "links": []}', "not in API format"),
        (json.dumps({"image": IMAGE}), "no FluxFaceJobOutput"),
        (json.dumps({"a": OUTPUT, "b": OUTPUT}), "could all take job_id"),
        (
            json.dumps({"image": {"class_type": "EmptyImage", "inputs": {"width": "64"}}, "output": OUTPUT}),
            "whole number",
        ),
    ],
)
def test_unusable_files_are_named_with_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ProfileError, match=reason) as caught:
        Profile.from_file(path)
    assert "broken.json" in str(caught.value)


def test_the_operators_profile_replaces_a_built_in_one(tmp_path: Path) -> None:
    write(tmp_path / "starter.json", {"image": IMAGE, "output": OUTPUT})
    profiles = load_profiles([BUILT_IN_DIR, tmp_path])
    assert "prompt" not in profiles["starter"].bindings
    assert "flux1-schnell-gguf" in profiles


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="does not exist"):
        load_profiles([tmp_path / "nowhere"])


def test_another_default_is_what_a_request_without_the_field_gets() -> None:
    profiles = load_profiles([BUILT_IN_DIR])
    changed = profiles["starter"].with_default("max_attempts", 7)
    assert changed.defaults["max_attempts"] == 7
    assert changed.fill({})["retry"]["inputs"]["max_attempts"] == 7
    assert profiles["starter"].fill({})["retry"]["inputs"]["max_attempts"] == 3
    assert profiles["faceswap"].with_default("max_attempts", 7) is profiles["faceswap"]
