"""The templates in the real web page: they open, and what the page would run is the API-format graph."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from flux_face.tests.comfy_server import Comfy
from flux_face.workflows.profiles import BUILT_IN_DIR

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
NAMES = sorted(path.stem for path in BUILT_IN_DIR.glob("*.json"))

OPEN = """async (template) => {
    const app = window.app ?? window.comfyAPI.app.app
    await app.loadGraphData(template)
    const prompt = (await app.graphToPrompt()).output
    const types = (window.LiteGraph ?? window.comfyAPI.litegraph.LiteGraph).registered_node_types
    const unknown = app.graph.nodes.map((node) => node.type).filter((type) => !(type in types))
    return {prompt, unknown}
}"""


@pytest.fixture(scope="module")
def page(comfy: Comfy, chromium: Path) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=FLAGS)
        tab = browser.new_page()
        tab.goto(comfy.url, timeout=120_000)
        # The page opens a workflow of its own last; opened earlier, ours would be replaced.
        tab.wait_for_function(
            "() => (window.app ?? window.comfyAPI?.app?.app)?.extensionManager?.workflow?.activeWorkflow != null",
            timeout=120_000,
        )
        yield tab
        browser.close()


def by_title(graph: dict[str, Any]) -> dict[str, Any]:
    """The graph with nodes named, and linked, by their titles."""
    titles = {node_id: node["_meta"]["title"] for node_id, node in graph.items()}

    def renamed(value: Any) -> Any:
        return [titles[value[0]], value[1]] if isinstance(value, list) else value

    return {
        titles[node_id]: (node["class_type"], {name: renamed(value) for name, value in node["inputs"].items()})
        for node_id, node in graph.items()
    }


@pytest.mark.ui
@pytest.mark.parametrize("name", NAMES)
def test_the_page_runs_what_the_api_runs(page: Page, comfy: Comfy, name: str) -> None:
    template = json.loads((BUILT_IN_DIR.parent / f"{name}.json").read_text(encoding="utf-8"))
    graph = json.loads((BUILT_IN_DIR / f"{name}.json").read_text(encoding="utf-8"))
    opened = page.evaluate(OPEN, template)
    assert opened["unknown"] == []
    definitions = comfy.get("/object_info")
    for node in graph.values():  # the page sends optional inputs too
        for input_name, spec in definitions[node["class_type"]]["input"].get("optional", {}).items():
            if len(spec) > 1 and "default" in spec[1]:
                node["inputs"].setdefault(input_name, spec[1]["default"])
    assert by_title(opened["prompt"]) == by_title(graph)


def test_the_templates_are_offered(comfy: Comfy) -> None:
    offered = comfy.get("/workflow_templates")
    assert sorted(offered["flux-face"]) == NAMES
    for name in NAMES:
        assert comfy.get(f"/api/workflow_templates/flux-face/{name}.json")["version"] == 0.4
