"""Templates and blueprints are what their sources give, and fit the nodes of a real ComfyUI and the catalogue."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flux_face.catalogue.manifest import HubSource, load_manifest
from flux_face.catalogue.sources import HUB
from flux_face.devtools.pack import ROOT
from flux_face.devtools.templates.blueprint import blueprint
from flux_face.devtools.templates.graph import convert
from flux_face.devtools.templates.sources import BLUEPRINTS, TEMPLATES, read_source
from flux_face.devtools.templates.workflow import workflow
from flux_face.tests.comfy_server import Comfy
from flux_face.workflows.profiles import BUILT_IN_DIR

AGAIN = "run python3 dev.py templates"
GRAPHS = {path.stem: path for path in BUILT_IN_DIR.glob("*.json")}
ALL = {**TEMPLATES, **BLUEPRINTS}


@pytest.fixture(scope="module")
def definitions(comfy: Comfy) -> dict[str, Any]:
    """Every node's inputs and outputs, from the running server."""
    answer: dict[str, Any] = comfy.get("/object_info")
    return answer


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def test_every_file_has_its_source_and_the_other_way_round() -> None:
    assert {path.stem for path in (ROOT / "workflows").glob("*.json")} == set(TEMPLATES)
    assert {path.stem for path in (ROOT / "workflows").glob("*.jpg")} == set(TEMPLATES)
    assert {path.stem for path in (ROOT / "subgraphs").glob("*.json")} == set(BLUEPRINTS)


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_template_is_up_to_date(name: str, definitions: dict[str, Any]) -> None:
    assert read(ROOT / "workflows" / f"{name}.json") == workflow(read_source(TEMPLATES[name]), definitions), AGAIN


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_the_blueprint_is_up_to_date(name: str, definitions: dict[str, Any]) -> None:
    assert read(ROOT / "subgraphs" / f"{name}.json") == blueprint(read_source(BLUEPRINTS[name]), definitions), AGAIN


@pytest.mark.parametrize("name", [*GRAPHS, *ALL])
def test_the_graph_sets_every_input_that_is_required(name: str, definitions: dict[str, Any]) -> None:
    graphs = [read(GRAPHS[name])] if name in GRAPHS else []
    graphs += [read_source(ALL[name]).graph] if name in ALL else []
    for node_id, node in ((key, node) for graph in graphs for key, node in graph.items()):
        inputs = definitions[node["class_type"]]["input"]
        known = {*inputs["required"], *inputs.get("optional", {})}
        assert set(inputs["required"]) <= set(node["inputs"]) <= known, node_id


def _wired(document: dict[str, Any]) -> list[tuple[list[dict[str, Any]], list[tuple[int, int, int, int, int, str]]]]:
    """Nodes and links of a workflow and of the subgraphs in it."""
    subgraphs = document.get("definitions", {}).get("subgraphs", [])
    inner = [
        (
            graph["nodes"],
            [
                tuple(row[key] for key in ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type"))
                for row in graph["links"]
            ],
        )
        for graph in subgraphs
    ]
    return [(document["nodes"], [tuple(row) for row in document["links"]]), *inner]


@pytest.mark.parametrize("name", ALL)
def test_links_fit_and_agree_on_both_sides(name: str) -> None:
    folder = "workflows" if name in TEMPLATES else "subgraphs"
    for rows, links in _wired(read(ROOT / folder / f"{name}.json")):
        nodes = {node["id"]: node for node in rows}
        for link_id, source, source_slot, target, target_slot, kind in links:
            ends = []
            if source > 0:
                ends.append(nodes[source]["outputs"][source_slot])
                assert link_id in ends[-1]["links"]
            if target > 0:
                ends.append(nodes[target]["inputs"][target_slot])
                assert ends[-1]["link"] == link_id
            assert {end["type"] for end in ends} - {"*"} == {kind}
            assert source < 0 or target < 0 or nodes[source]["order"] < nodes[target]["order"]


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_group_says_what_to_do_or_needs_nothing_done(name: str) -> None:
    source = read_source(TEMPLATES[name])
    assert sum(bool(group.note) for group in source.groups) >= 3
    for group in source.groups:
        assert len(re.findall(r"[.:;?](?:\s|$)", group.note)) <= 5, group.title


@pytest.mark.parametrize("name", ALL)
def test_files_that_can_be_missing_have_the_catalogues_links(name: str) -> None:
    document = read(ROOT / ("workflows" if name in TEMPLATES else "subgraphs") / f"{name}.json")
    models = {model.name: model for model in load_manifest().models}
    named = set()
    for node in (node for nodes, _ in _wired(document) for node in nodes):
        links = {link["name"]: link for link in node["properties"].get("models", [])}
        files = {
            value
            for value in node["widgets_values"]
            if isinstance(value, str) and value.endswith((".gguf", ".safetensors")) and "flux-face-starter" not in value
        }
        assert set(links) == files
        for file, link in links.items():
            assert link["directory"] == models[file].folder
            source = models[file].source
            assert isinstance(source, HubSource)
            assert link["url"] == f"{HUB}/{source.repository}/resolve/{source.revision}/{source.path}"
        named |= files
    expected = {"flux1-schnell-gguf": 4, "flux1-dev-lora": 5, "Portrait with my face": 4}
    assert len(named) == expected.get(name, 0)


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_thumbnail_is_a_small_square(name: str) -> None:
    data = (ROOT / "workflows" / f"{name}.jpg").read_bytes()
    assert len(data) < 60_000
    assert Image.open(io.BytesIO(data)).size == (400, 400)


def test_a_seed_has_the_widget_that_the_page_adds(definitions: dict[str, Any]) -> None:
    nodes, _ = convert({"noise": {"class_type": "RandomNoise", "inputs": {"noise_seed": 5}}}, definitions)
    assert nodes["noise"]["widgets_values"] == [5, "randomize"]


def test_they_are_offered(comfy: Comfy) -> None:
    assert sorted(comfy.get("/workflow_templates")["flux-face"]) == sorted(TEMPLATES)
    for name in TEMPLATES:
        assert comfy.get(f"/api/workflow_templates/flux-face/{name}.json")["version"] == 0.4
    offered = comfy.get("/global_subgraphs").values()
    assert {entry["name"] for entry in offered if entry["source"] == "custom_node"} == set(BLUEPRINTS)
