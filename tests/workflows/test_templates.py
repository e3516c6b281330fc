"""The UI-format templates are what the API-format graphs give, and both fit the nodes of a real ComfyUI."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flux_face.tests.comfy_server import Comfy
from flux_face.workflows.profiles import BUILT_IN_DIR
from flux_face.workflows.ui_format import convert

NAMES = sorted(path.stem for path in BUILT_IN_DIR.glob("*.json"))
TEMPLATES = BUILT_IN_DIR.parent


@pytest.fixture(scope="module")
def definitions(comfy: Comfy) -> dict[str, Any]:
    """Every node's inputs and outputs, from the running server."""
    answer: dict[str, Any] = comfy.get("/object_info")
    return answer


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def test_every_graph_has_its_template_and_the_other_way_round() -> None:
    assert sorted(path.stem for path in TEMPLATES.glob("*.json")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_template_is_up_to_date(name: str, definitions: dict[str, Any]) -> None:
    converted = convert(name, read(BUILT_IN_DIR / f"{name}.json"), definitions)
    assert read(TEMPLATES / f"{name}.json") == converted, "run workflows/ui_format.py against a running ComfyUI"


@pytest.mark.parametrize("name", NAMES)
def test_the_graph_sets_every_input_that_is_required(name: str, definitions: dict[str, Any]) -> None:
    for node_id, node in read(BUILT_IN_DIR / f"{name}.json").items():
        inputs = definitions[node["class_type"]]["input"]
        known = {*inputs["required"], *inputs.get("optional", {})}
        assert set(inputs["required"]) <= set(node["inputs"]) <= known, node_id


@pytest.mark.parametrize("name", NAMES)
def test_links_fit_and_agree_on_both_sides(name: str) -> None:
    template = read(TEMPLATES / f"{name}.json")
    nodes = {node["id"]: node for node in template["nodes"]}
    assert len(nodes) == template["last_node_id"]
    for link_id, source, source_slot, target, target_slot, kind in template["links"]:
        output = nodes[source]["outputs"][source_slot]
        socket = nodes[target]["inputs"][target_slot]
        assert link_id in output["links"]
        assert socket["link"] == link_id
        assert kind == output["type"]
        assert kind == socket["type"]
        assert nodes[source]["order"] < nodes[target]["order"]


@pytest.mark.parametrize("name", NAMES)
def test_nodes_do_not_overlap(name: str) -> None:
    boxes = [(*node["pos"], *node["size"]) for node in read(TEMPLATES / f"{name}.json")["nodes"]]
    for index, (x, y, width, height) in enumerate(boxes):
        for other_x, other_y, other_width, other_height in boxes[index + 1 :]:
            apart_x = x + width <= other_x or other_x + other_width <= x
            assert apart_x or y + height <= other_y or other_y + other_height <= y


def test_a_seed_has_the_widget_that_the_page_adds(definitions: dict[str, Any]) -> None:
    graph = {"noise": {"class_type": "RandomNoise", "inputs": {"noise_seed": 5}}}
    (node,) = convert("x", graph, definitions)["nodes"]
    assert node["widgets_values"] == [5, "randomize"]
