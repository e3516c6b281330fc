"""Every template in the real web page, in both of its node renderers; those on the starter models run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from flux_face.devtools.pack import ROOT
from flux_face.devtools.templates.pictures import write_pictures
from flux_face.devtools.templates.sources import TEMPLATES, read_source
from flux_face.tests.comfy_server import Comfy

from .comfy_page import RENDERERS, ComfyPage, Renderer
from .conftest import OpenPage

# Template -> what it loads, by the titles of its nodes.
PICTURES = {
    "starter": {"Load Face Photo": "photo.png"},
    "faceswap": {"Your face": "photo.png", "Picture to change": "portrait.png"},
    "several-people": {"Person 1": "photo.png", "Person 2": "person.png", "Picture of Several": "people.png"},
    "batch-statistics": {"Load Face Photo": "photo.png"},
    "from-reactor": {"Source Image": "photo.png", "Input Image": "portrait.png"},
}

_STATE = """() => {
    const types = (window.LiteGraph ?? window.comfyAPI.litegraph.LiteGraph).registered_node_types
    const nodes = fluxTest.app.graph.nodes
    return {
        unknown: nodes.map((node) => node.type).filter((type) => !(type in types)),
        red: nodes.filter((node) => node.has_errors).map((node) => node.title),
        boxes: nodes.filter((node) => !node.flags.collapsed)
            .map((node) => [node.title, node.pos[0], node.pos[1] - 30, node.size[0], node.size[1] + 30]),
        groups: fluxTest.app.graph.groups.map((group) => [...group.pos, ...group.size]),
    }
}"""

_SHOWN = """(title) => {
    const node = fluxTest.node(title)
    return (fluxTest.app.nodeOutputs?.[node.id]?.images ?? []).length
}"""


@pytest.fixture(scope="module", autouse=True)
def _pictures(comfy: Comfy) -> None:
    folder = comfy.base / "input"
    write_pictures(folder)
    shutil.copyfile(folder / "photo.png", folder / "example.png")


def read(name: str) -> dict[str, Any]:
    template: dict[str, Any] = json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    return template


def choose(page: ComfyPage, name: str) -> None:
    for title, file in PICTURES[name].items():
        page.set_widget(title, "image" if title == "Input Image" else "photo", file)


def by_title(graph: dict[str, Any]) -> dict[str, Any]:
    """The graph with nodes named, and linked, by their titles."""
    titles = {node_id: node["_meta"]["title"] for node_id, node in graph.items()}

    def renamed(value: Any) -> Any:
        return [titles[value[0]], value[1]] if isinstance(value, list) else value

    return {
        titles[node_id]: (node["class_type"], {name: renamed(value) for name, value in node["inputs"].items()})
        for node_id, node in graph.items()
    }


def overlaps(boxes: list[tuple[str, float, float, float, float]]) -> list[tuple[str, str]]:
    return [
        (one, other)
        for place, (one, x, y, width, height) in enumerate(boxes)
        for other, left, top, wide, high in boxes[place + 1 :]
        if x < left + wide and left < x + width and y < top + high and top < y + height
    ]


@pytest.mark.parametrize("renderer", RENDERERS)
def test_templates_open_and_run(open_page: OpenPage, comfy: Comfy, screenshots: Path, renderer: Renderer) -> None:
    page = open_page(renderer)
    definitions = comfy.get("/object_info")
    for name, path in TEMPLATES.items():
        page.load(read(name))
        state = page.page.evaluate(_STATE)
        # What needs models that are not there is red, and nothing else.
        lacking = [node["title"] for node in read(name)["nodes"] if "models" in node["properties"]]
        assert (name, state["unknown"], state["red"]) == (name, [], lacking)
        assert (name, overlaps(state["boxes"])) == (name, [])
        graph = read_source(path).graph
        for node in graph.values():  # the page sends optional inputs too
            for input_name, spec in definitions[node["class_type"]]["input"].get("optional", {}).items():
                if len(spec) > 1 and "default" in spec[1]:
                    node["inputs"].setdefault(input_name, spec[1]["default"])
        assert by_title(page.prompt()) == by_title(graph), name
        # All of them in one renderer, for the graphs are the same.
        if name == "starter" or (renderer == "vue" and name in PICTURES):
            choose(page, name)
            if "schedule" in graph:
                page.set_widget("Steps", "steps", 4)  # enough for a face
            ended = page.run(timeout_s=500)
            assert ended["kind"] == "execution_success", ended
            assert (name, overlaps(page.page.evaluate(_STATE)["boxes"])) == (name, []), "with what the nodes show now"
            assert page.page.evaluate(_SHOWN, "Save Image") == (4 if name == "batch-statistics" else 1)
            page.page.evaluate("() => fluxTest.app.extensionManager.command.execute('Comfy.Canvas.FitView')")
            page.page.wait_for_timeout(500)
            page.screenshot(screenshots / f"template-{name}-{renderer}.png")


def test_a_run_is_cancelled_and_the_page_goes_on(open_page: OpenPage) -> None:
    page = open_page("vue")
    page.load(read("starter"))
    choose(page, "starter")
    page.set_widget("Steps", "steps", 10_000)
    page.page.evaluate(
        "() => fluxTest.app.api.addEventListener('progress', () => { fluxTest.sampling = true }, {once: true})"
    )
    page.queue()
    page.page.wait_for_function("() => fluxTest.sampling", timeout=180_000)
    page.page.get_by_role("button", name="Cancel current run").first.click()
    assert page.wait_for_end()["kind"] == "execution_interrupted"
    page.load(read("faceswap"))
    choose(page, "faceswap")
    assert page.run()["kind"] == "execution_success"


def test_missing_models_are_named_with_folder_and_link(open_page: OpenPage, screenshots: Path) -> None:
    page = open_page("vue", Comfy__Workflow__ShowMissingModelsWarning=True)
    tab = page.page
    tab.evaluate("() => fluxTest.app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    tab.get_by_role("button", name="flux-face").click()
    tab.get_by_text("flux1-dev-lora").wait_for()
    tab.wait_for_function(
        "(count) => [...document.images].filter((image) => image.naturalWidth === 400).length === count",
        arg=len(TEMPLATES),
    )
    page.screenshot(screenshots / "templates.png")
    tab.get_by_text("flux1-dev-lora").click()
    tab.get_by_text("View details").first.click()
    panel = tab.get_by_test_id("error-group-missing-model")
    links = [link for node in read("flux1-dev-lora")["nodes"] for link in node["properties"].get("models", [])]
    for link in links:
        panel.get_by_text(link["name"], exact=True).wait_for()
        panel.get_by_text(link["directory"], exact=True).first.wait_for()
    assert panel.get_by_role("button", name="Copy URL").count() == len(links) == 5
    page.screenshot(screenshots / "missing-models.png")


def test_the_blueprint_is_inserted_and_runs(open_page: OpenPage, photo: str, screenshots: Path) -> None:
    page = open_page("vue")
    tab = page.page
    page.load({"nodes": [], "links": [], "groups": [], "version": 0.4, "last_node_id": 0, "last_link_id": 0})
    tab.evaluate("() => fluxTest.app.extensionManager.command.execute('Workspace.ToggleSidebarTab.node-library')")
    tab.get_by_placeholder("Search").first.fill("Portrait with my face")
    tab.get_by_text("Portrait with my face (starter)").click()
    tab.mouse.move(900, 400)
    tab.mouse.click(900, 400)
    tab.wait_for_function("() => fluxTest.app.graph.nodes.length === 1")
    assert [page.widget("Portrait with my face (starter)", name) for name in ("prompt", "seed", "attempts")] == [
        "portrait of a woman with fair skin and brown hair, blue background",
        1,
        3,
    ]
    tab.evaluate(
        """(photo) => {
            const {LiteGraph} = window.comfyAPI?.litegraph ?? window
            const graph = fluxTest.app.graph
            const [portrait] = graph.nodes
            const [load, preview] = ['FluxFaceLoadPhoto', 'PreviewImage'].map((type) => LiteGraph.createNode(type))
            load.pos = [portrait.pos[0] - 400, portrait.pos[1]]
            preview.pos = [portrait.pos[0] + 450, portrait.pos[1]]
            graph.add(load); graph.add(preview)
            load.widgets.find((widget) => widget.name === 'photo').value = photo
            load.connect(0, portrait, 0)
            portrait.connect(0, preview, 0)
        }""",
        photo,
    )
    page.set_widget("Portrait with my face (starter)", "prompt", "portrait of a man with black hair, sunset")
    texts = [node["inputs"]["text"] for node in page.prompt().values() if node["class_type"] == "CLIPTextEncode"]
    assert texts == ["portrait of a man with black hair, sunset"]
    ended = page.run()
    page.screenshot(screenshots / "blueprint.png")
    assert ended["kind"] == "execution_success", ended
    assert page.page.evaluate(_SHOWN, "PreviewImage") == 1
