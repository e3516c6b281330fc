"""Names, labels, choices and help of the pack's nodes in the languages of the web page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flux_face.devtools.pack import ROOT

from .comfy_page import Renderer
from .conftest import OpenPage

NODE = "FluxFaceSwapFace"

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
        inputs: Object.fromEntries(node.inputs.map(label).filter(([key]) => key in inputs)),
        outputs: node.outputs.map((slot) => label(slot)[1]),
        choices: Object.fromEntries(Object.keys(inputs).filter((key) => inputs[key].options).map(
            (key) => [key, words(key)]
        )),
    }]
}))"""


def _expected(text: dict[str, Any], outputs: list[str]) -> dict[str, Any]:
    """A node's words; an output without a name of its own is shown as ComfyUI calls its type."""
    named = {int(slot): output.get("name") for slot, output in text["outputs"].items()}
    return {
        "display_name": text["display_name"],
        "inputs": {key: words["name"] for key, words in text["inputs"].items()},
        "outputs": [named[slot] or shown for slot, shown in enumerate(outputs)],
        "choices": {key: words["options"] for key, words in text["inputs"].items() if "options" in words},
    }


@pytest.mark.parametrize(("renderer", "language"), [("classic", "ja"), ("vue", "ja"), ("vue", "zh")])
def test_nodes_speak_the_pages_language(
    open_page: OpenPage, screenshots: Path, renderer: Renderer, language: str
) -> None:
    texts = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
    page = open_page(renderer, locale=language)
    shown = page.page.evaluate(_SHOW_ALL, texts)
    assert shown == {name: _expected(text, shown[name]["outputs"]) for name, text in texts.items()}

    page.page.evaluate("(name) => fluxTest.app.canvas.selectNode(fluxTest.node(name))", NODE)
    page.centre(NODE)
    page.locator("[data-testid='info-button']").click()
    page.locator(".node-help-content h1").filter(has_text=texts[NODE]["display_name"]).wait_for()
    label = texts[NODE]["inputs"]["colour_match"]["name"]
    assert f"（{label}）" in page.locator(".node-help-content table").first.inner_text()
    page.screenshot(screenshots / f"language-{language}-{renderer}.png")
