"""The pack's nodes in the languages of the web page: names, choices, categories, tooltips, help and search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flux_face.tests.pack.texts import node_texts, read_locale

from .comfy_page import ComfyPage, Renderer
from .conftest import OpenPage

NODE = "FluxFaceSwapFace"
SOCKET = "identity"

# What users of other packs and other languages type for it.
SEARCHED = ("faceswap", "reactor", "roop", "deepfake", "换脸", "顔交換", "フェイススワップ")

# Adds one node of each kind, in rows, and returns the words that the page shows on it.
_SHOW_ALL = """(texts) => Object.fromEntries(Object.entries(texts).map(([name, {inputs}], index) => {
    const node = window.LiteGraph.createNode(name)
    node.pos = [(index % 6) * 360, Math.floor(index / 6) * 560]
    fluxTest.app.graph.add(node)
    const label = ({name, label, localized_name}) => [name, label ?? localized_name]
    const words = (key) => {
        const {getOptionLabel} = node.widgets.find((widget) => widget.name === key).options
        return Object.fromEntries(Object.keys(inputs[key].options).map((value) => [value, getOptionLabel(value)]))
    }
    return [name, {
        display_name: node.title,
        category: node.constructor.category,
        inputs: Object.fromEntries(node.inputs.map(label).filter(([key]) => key in inputs)),
        outputs: node.outputs.map((slot) => label(slot)[1]),
        choices: Object.fromEntries(Object.keys(inputs).filter((key) => inputs[key].options).map(
            (key) => [key, words(key)]
        )),
    }]
}))"""

# Leaves one node on the canvas, in the middle, or none.
_ALONE = """(name) => {
    const {graph} = fluxTest.app
    graph.clear()
    if (!name) return
    const node = window.LiteGraph.createNode(name)
    graph.add(node)
    fluxTest.centre(node)
    fluxTest.app.canvas.selectNode(node)
}"""

_SOCKET = """([type, name]) => {
    const node = fluxTest.node(type)
    const {canvas, ds} = fluxTest.app.canvas
    const [x, y] = ds.convertOffsetToCanvas(node.getInputPos(node.findInputSlot(name)))
    const {left, top} = canvas.getBoundingClientRect()
    return [left + x, top + y]
}"""


def _expected(text: dict[str, Any], outputs: list[str]) -> dict[str, Any]:
    """A node's words; an output without a name of its own is shown as ComfyUI calls its type."""
    named = {int(slot): output.get("name") for slot, output in text["outputs"].items()}
    return {
        "display_name": text["display_name"],
        "inputs": {key: words["name"] for key, words in text["inputs"].items()},
        "outputs": [named[slot] or shown for slot, shown in enumerate(outputs)],
        "choices": {key: words["options"] for key, words in text["inputs"].items() if "options" in words},
    }


@pytest.mark.parametrize(("renderer", "language"), [("classic", "ja"), ("vue", "zh")])
def test_nodes_speak_the_pages_language(
    open_page: OpenPage, screenshots: Path, renderer: Renderer, language: str
) -> None:
    texts = node_texts(language)
    page = open_page(renderer, locale=language)
    page.load({"version": 0.4, "nodes": [], "links": []})
    shown = page.page.evaluate(_SHOW_ALL, texts)
    categories = {node.pop("category") for node in shown.values()}
    assert shown == {name: _expected(text, shown[name]["outputs"]) for name, text in texts.items()}
    ours = read_locale(language, "main.json")["nodeCategories"]
    assert {f"{ours['Flux Face']}/{ours[part]}" for part in ("face", "quality", "job")} < categories
    # A label is only shown: the graph keeps the word that all languages share.
    assert page.widget(NODE, "target") == "largest"

    page.page.evaluate(_ALONE, NODE)
    _point_at_socket(page, texts[NODE]["inputs"][SOCKET]["name"])
    page.page.get_by_text(texts[NODE]["inputs"][SOCKET]["tooltip"]).wait_for()
    page.screenshot(screenshots / f"tooltip-{language}-{renderer}.png")

    page.page.get_by_test_id("info-button").click()
    page.locator(".node-help-content h1").filter(has_text=texts[NODE]["display_name"]).wait_for()
    label = texts[NODE]["inputs"]["colour_match"]["name"]
    assert f"（{label}" in page.locator(".node-help-content table").first.inner_text()
    page.screenshot(screenshots / f"help-{language}-{renderer}.png")

    page.page.evaluate(_ALONE, None)
    page.page.mouse.dblclick(600, 500)
    for typed in SEARCHED:
        page.page.keyboard.press("ControlOrMeta+a")
        page.page.keyboard.type(typed)
        page.page.get_by_test_id("result-item").filter(has_text=texts[NODE]["description"]).wait_for()
    page.screenshot(screenshots / f"search-{language}-{renderer}.png")


def _point_at_socket(page: ComfyPage, label: str) -> None:
    if page.renderer == "vue":
        page.locator(".lg-slot--input").filter(has_text=label).hover()
        return
    x, y = page.page.evaluate(_SOCKET, [NODE, SOCKET])
    page.page.mouse.move(x, y - 60)
    page.page.mouse.move(x, y, steps=3)
