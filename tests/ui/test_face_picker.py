"""The face picker in the real web page: faces are clicked on, and the graph does what was chosen."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from axe_playwright_python.sync_playwright import Axe
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Locator

from flux_face.starter.portrait import PortraitSpec
from flux_face.starter.renderer import render
from flux_face.tests.comfy_server import Comfy

from .comfy_page import RENDERERS, ComfyPage, Renderer
from .conftest import OpenPage

SELECT, SWAP = "FluxFaceSelectFaces", "FluxFaceSwapFace"
# x, y and side of the same face three times, the largest first: left, right, and higher up in the middle.
PLACES = {1: (10, 40, 160), 2: (310, 50, 150), 3: (175, 10, 130)}
READING_ORDER = [3, 1, 2]


@pytest.fixture(scope="module")
def pictures(comfy: Comfy) -> None:
    """A group of three and two portraits in the server's input folder."""
    folder = comfy.base / "input"
    head = Image.fromarray(skimage.data.astronaut()).crop((100, 0, 400, 300))
    group = Image.new("RGB", (480, 210), (120, 130, 140))
    for x, y, side in PLACES.values():
        group.paste(head.resize((side, side)), (x, y))
    group.save(folder / "picker-group.png")
    for name, spec in (("anna", PortraitSpec(skin=9, hair_style="long", femininity=0.9)), ("ben", PortraitSpec())):
        Image.fromarray((render(spec) * 255).astype(np.uint8)).save(folder / f"picker-{name}.png")


def graph_of(images: int = 1) -> dict[str, Any]:
    """Anna and Ben for the faces of the group, once or in a batch of several."""
    graph: dict[str, Any] = {
        "file": node("LoadImage", image="picker-group.png"),
        "group": node("RepeatImageBatch", image=["file", 0], amount=images),
        "detect": node("FluxFaceDetectFaces", images=["group", 0]),
        "select": node(SELECT, faces=["detect", 0], images=["group", 0]),
        "people": node("FluxFaceCombineIdentities", identity_1=["anna", 0], identity_2=["ben", 0]),
        "swap": node(SWAP, images=["group", 0], faces=["select", 0], identity=["people", 0]),
        "show": node("PreviewImage", images=["swap", 0]),
    }
    for person in ("anna", "ben"):
        graph[f"{person} photo"] = node("LoadImage", image=f"picker-{person}.png")
        graph[person] = node("FluxFaceFaceIdentity", photos=[f"{person} photo", 0], name=person.title())
    return graph


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def picker(page: ComfyPage, node_type: str) -> Locator:
    return page.locator(f".flux-face-picker[data-node={node_type}]:visible")


def face(page: ComfyPage, node_type: str, number: int) -> Locator:
    return picker(page, node_type).locator(f"button[data-number='{number}']")


def swapped(page: ComfyPage) -> set[int]:
    """Runs the workflow; the numbers of the faces that it changed."""
    ended = page.run()
    assert ended["kind"] == "execution_success", ended
    entry = page.comfy.get(f"/history/{ended['prompt_id']}")[ended["prompt_id"]]
    shown = next(key for key, output in entry["outputs"].items() if "flux_face_people" in output)
    before, after = page.comfy.images(entry, shown)
    changed: NDArray[np.bool_] = (before != after).any(axis=2)
    return {number for number, (x, y, side) in PLACES.items() if changed[y : y + side, x : x + side].any()}


def complaints(page: ComfyPage, node_type: str) -> list[str]:
    """What axe finds in a picker."""
    result = Axe().run(page.page, context=f".flux-face-picker[data-node={node_type}]").response
    assert result["passes"]
    return [f"{found['id']}: {found['nodes'][0]['html']}" for found in result["violations"]]


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("renderer", RENDERERS)
def test_faces_are_chosen_by_click_and_key(open_page: OpenPage, screenshots: Path, renderer: Renderer) -> None:
    page = open_page(renderer)
    page.load_graph(graph_of())
    page.centre(SELECT)
    assert "Run once to see the faces" in picker(page, SELECT).inner_text()
    assert swapped(page) == {1, 2, 3}

    page.centre(SELECT)
    assert picker(page, SELECT).locator("button[aria-pressed=true]").count() == 3
    face(page, SELECT, 2).click()
    assert page.widget(SELECT, "numbers") == "1,3"
    assert face(page, SELECT, 2).get_attribute("aria-pressed") == "false"
    assert "2 of 3 chosen" in picker(page, SELECT).inner_text()
    page.screenshot(screenshots / f"picker-select-{renderer}.png")
    assert complaints(page, SELECT) == []

    focused = "() => Number(document.activeElement.dataset.number)"
    face(page, SELECT, 3).focus()
    walked = [page.page.evaluate(focused)]
    for key in ("ArrowRight", "Tab"):
        page.page.keyboard.press(key)
        walked.append(page.page.evaluate(focused))
    assert walked == READING_ORDER
    page.page.keyboard.press("Home")
    page.page.keyboard.press("Space")
    assert page.widget(SELECT, "numbers") == "1"
    assert page.page.evaluate(focused) == 3, "the focus stays where it is"
    picker(page, SELECT).get_by_role("button", name="None", exact=True).click()
    assert page.widget(SELECT, "numbers") == "none"
    face(page, SELECT, 2).press("Enter")
    assert page.widget(SELECT, "numbers") == "2"
    assert "face 2, " in (face(page, SELECT, 2).get_attribute("aria-label") or "").lower()
    assert swapped(page) == {2}

    # A face that another rule leaves out says so, in words and with a sign.
    page.set_widget(SELECT, "numbers", "")
    page.set_widget(SELECT, "min_size", 45)
    assert swapped(page) == {1, 2}
    page.centre(SELECT)
    assert [face(page, SELECT, number).inner_text() for number in PLACES] == ["1", "2", "3 ✗"]
    assert "left out by another rule" in (face(page, SELECT, 3).get_attribute("aria-label") or "")

    # What is typed is shown, and a choice can be taken back.
    page.set_widget(SELECT, "numbers", "1-2")
    assert face(page, SELECT, 3).get_attribute("aria-pressed") == "false"
    face(page, SELECT, 3).click()
    assert page.widget(SELECT, "numbers") == ""
    page.page.keyboard.press("Control+z")
    page.page.wait_for_timeout(500)
    assert page.widget(SELECT, "numbers") == "1-2"
    assert face(page, SELECT, 3).get_attribute("aria-pressed") == "false"


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("renderer", RENDERERS)
def test_people_are_put_on_faces_by_hand(open_page: OpenPage, screenshots: Path, renderer: Renderer) -> None:
    page = open_page(renderer)
    page.load_graph(graph_of())
    page.run()
    page.centre(SWAP)
    # As the node's own rule has it: the first person everywhere.
    assert [face(page, SWAP, number).inner_text() for number in PLACES] == ["1 → Anna", "2 → Anna", "3 → Anna"]
    face(page, SWAP, 1).click()
    assert page.widget(SWAP, "by_hand") == "1:Ben, 2:Anna, 3:Anna"
    picker(page, SWAP).get_by_role("combobox", name="Face 3").select_option("Nobody")
    assert page.widget(SWAP, "by_hand") == "1:Ben, 2:Anna"
    assert "Run to see it" in picker(page, SWAP).inner_text()
    assert swapped(page) == {1, 2}
    page.centre(SWAP)
    assert "By hand" in picker(page, SWAP).inner_text()
    assert "becomes: Ben, similarity 0." in (face(page, SWAP, 1).get_attribute("aria-label") or "")
    assert complaints(page, SWAP) == []
    page.screenshot(screenshots / f"picker-swap-{renderer}.png")
    picker(page, SWAP).get_by_role("button", name="Automatic").click()
    assert page.widget(SWAP, "by_hand") == ""
    (inputs,) = (item["inputs"] for item in page.prompt().values() if item["class_type"] == SWAP)
    assert inputs["by_hand"] == ""
    assert "face_picker" not in inputs


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_picker_works_in_a_subgraph_and_when_the_workflow_is_opened_anew(
    open_page: OpenPage, screenshots: Path, renderer: Renderer
) -> None:
    page = open_page(renderer)
    page.load_graph(graph_of())
    saved = page.page.evaluate(
        """(types) => {
            const graph = fluxTest.app.rootGraph
            graph.convertToSubgraph(new Set(graph.nodes.filter((node) => types.includes(node.type))))
            return graph.serialize()
        }""",
        [SELECT, SWAP],
    )
    saved["id"] = str(uuid.uuid4())  # as saved workflows have one; by it the server knows the run
    page.load(saved)
    assert swapped(page) == {1, 2, 3}
    # Opened anew, nothing is left in the page; the server still knows.
    page.load(saved)
    page.page.evaluate(
        """() => {
            const outer = fluxTest.app.rootGraph.nodes.find((node) => node.subgraph)
            fluxTest.app.canvas.openSubgraph(outer.subgraph, outer)
        }"""
    )
    page.centre(SELECT)
    face(page, SELECT, 1).click()
    assert page.widget(SELECT, "numbers") == "2,3"
    page.screenshot(screenshots / f"picker-subgraph-{renderer}.png")
    assert swapped(page) == {2, 3}


@pytest.mark.usefixtures("pictures")
def test_every_image_of_a_batch_has_its_own_choice(open_page: OpenPage, screenshots: Path) -> None:
    page = open_page("vue", locale="ja")
    page.load_graph(graph_of(images=2))
    page.run()
    page.centre(SELECT)
    select = picker(page, SELECT)
    face(page, SELECT, 1).click()
    assert page.widget(SELECT, "numbers") == "2,3; 1,2,3"
    select.get_by_role("button", name="次の画像").click()
    assert "2 / 2" in select.inner_text()
    select.get_by_role("button", name="なし").click()
    assert page.widget(SELECT, "numbers") == "2,3; none"
    face(page, SELECT, 3).click()
    assert page.run()["kind"] == "execution_success"
    page.screenshot(screenshots / "picker-batch.png")

    # Only the faces that were kept have come to this node.
    page.centre(SWAP)
    assert [face(page, SWAP, number).count() for number in PLACES] == [0, 1, 1]
    face(page, SWAP, 2).click()
    assert page.widget(SWAP, "by_hand") == "2:Ben, 3:Anna; 3:Anna"
    # ComfyUI empties its temporary folder when it starts; the faces can still be clicked on.
    page.page.route("**/view?*", lambda route: route.fulfill(status=404))
    picker(page, SWAP).get_by_role("button", name="次の画像").click()
    picker(page, SWAP).get_by_text("画像はもうサーバーにありません").wait_for()
    face(page, SWAP, 3).click()
    assert page.widget(SWAP, "by_hand") == "2:Ben, 3:Anna; 3:Ben"
