"""The pictures of docs/images: ComfyUI's page as it is, so that what the documentation shows stays true.

Every run takes them all, which fails when the page cannot come to look like that any more;
``python3 dev.py test tests/ui/test_screenshots.py --update-screenshots`` also writes them. A further picture is a line
in `SHOTS`; where it needs more than a graph and some titles, a function.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image
from playwright.sync_api import Browser

from flux_face.devtools.pack import ROOT
from flux_face.starter.portrait import PortraitSpec
from flux_face.starter.renderer import render
from flux_face.tests.comfy_server import Comfy

from .comfy_page import ComfyPage

Graph = dict[str, dict[str, Any]]
Shot = Callable[[ComfyPage], None]

IMAGES = ROOT / "docs" / "images"
SIZE = (1440, 900)
MOST_BYTES = 150_000
QUALITIES = (85, 75, 65, 50)

_FRAME = """(titles) => {
    const nodes = titles.length ? titles.map(fluxTest.node) : fluxTest.app.graph.nodes
    const boxes = nodes.map((node) => node.boundingRect)
    const left = Math.min(...boxes.map(([x]) => x))
    const top = Math.min(...boxes.map(([, y]) => y))
    const right = Math.max(...boxes.map(([x, , width]) => x + width))
    const bottom = Math.max(...boxes.map(([, y, , height]) => y + height))
    fluxTest.app.canvas.ds.fitToBounds([left, top, right - left, bottom - top], {zoom: 0.85})
    fluxTest.app.canvas.setDirty(true, true)
}"""
_COMMAND = "(id) => fluxTest.app.extensionManager.command.execute(id)"
_TIDY = """async () => {
    fluxTest.app.extensionManager.sidebarTab.activeSidebarTabId = null
    document.activeElement?.blur()
}"""


def after_run(graph: Graph, *titles: str) -> Shot:
    """The nodes with these titles of a graph that has run."""

    def take(page: ComfyPage) -> None:
        page.load_graph(graph)
        _run_and_frame(page, titles)

    return take


def starter(*titles: str, **widgets: dict[str, Any]) -> Shot:
    """The nodes with these titles, all of them if there are none, of the starter template after a run.

    Its values are changed by ``Title_of_node={"widget": value}``.
    """

    def take(page: ComfyPage) -> None:
        page.load(ROOT / "workflows" / "starter.json")
        page.set_widget("Seed", "control_after_generate", "fixed")
        for title, values in widgets.items():
            for name, value in values.items():
                page.set_widget(title.replace("_", " "), name, value)
        _run_and_frame(page, titles)

    return take


def _run_and_frame(page: ComfyPage, titles: Sequence[str]) -> None:
    ended = page.run()
    assert ended["kind"] == "execution_success", ended
    page.page.evaluate(_FRAME, list(titles))
    page.page.wait_for_timeout(1000)  # previews


def templates(page: ComfyPage) -> None:
    """The pack's templates in the templates browser."""
    page.page.evaluate(_COMMAND, "Comfy.BrowseTemplates")
    page.page.get_by_role("button", name="flux-face").click()
    page.page.get_by_test_id("template-workflow-starter").wait_for()
    page.page.wait_for_timeout(500)  # thumbnails


def node_library(page: ComfyPage) -> None:
    """The pack's nodes in the node library, with the short description of one."""
    page.load_graph({})
    page.page.evaluate(_COMMAND, "Workspace.ToggleSidebarTab.node-library")
    page.page.get_by_placeholder("Search").first.fill("Flux Face")
    page.page.get_by_text("Swap Face", exact=True).first.hover()
    page.page.wait_for_timeout(500)


def jobs(page: ComfyPage) -> None:
    """The panel of jobs, with two that programs have sent."""
    photo = base64.b64encode((page.comfy.base / "input" / "example.png").read_bytes()).decode()
    for prompt, count in (("portrait of a smiling woman with grey hair, green background", 1), (NEON, 2)):
        job = {"user_photo": photo, "prompt": prompt, "batch_size": count, "seed": 8, "profile": "starter"}
        answer = page.page.context.request.post(
            f"{page.comfy.url}/flux-face/v1/runsync",
            data=json.dumps({"input": job}),
            headers={"Content-Type": "application/json"},
            timeout=240_000,
        )
        assert answer.json().get("status") == "COMPLETED", answer.text()
    page.load(ROOT / "workflows" / "starter.json")
    page.page.evaluate(_COMMAND, "Workspace.ToggleSidebarTab.flux-face")
    page.locator(".flux-face-panel img").first.wait_for()
    page.page.wait_for_timeout(500)  # further thumbnails


def node(class_type: str, title: str, **inputs: Any) -> dict[str, Any]:
    """A node of an API-format graph; an input from another node is ``["name", slot]``."""
    return {"class_type": class_type, "_meta": {"title": title}, "inputs": inputs}


# Of these two portraits the first has blue skin, and passes when it is drawn again.
NEON = "portrait of a woman with fair skin and brown hair, neon light"
FACES = {
    "photo": node("LoadImage", "Load Image", image="people.png"),
    "faces": node("FluxFaceDetectFaces", "Detect Faces", images=["photo", 0]),
    "select": node("FluxFaceSelectFaces", "Select Faces", faces=["faces", 0], images=["photo", 0]),
    "mask": node("MaskPreview", "Preview Mask", mask=["select", 1]),
}

SHOTS: dict[str, Shot] = {
    "starter": starter(),
    "faces": after_run(FACES, "Load Image", "Detect Faces", "Select Faces"),
    "verdicts": starter(
        "Skin-Tone QA",
        "Retry What Failed",
        "Job Output",
        Prompt={"text": NEON},
        Size_and_Batch={"batch_size": 2},
        Seed={"noise_seed": 8},
    ),
    "templates": templates,
    "node-library": node_library,
    "jobs": jobs,
}


@pytest.fixture(scope="module")
def page(comfy: Comfy, browser: Browser) -> Iterator[ComfyPage]:
    """One page for all pictures, with two photographs that may be shown: of NASA's, and of nobody."""
    astronaut = Image.fromarray(skimage.data.astronaut())
    astronaut.save(comfy.base / "input" / "example.png")
    _row(
        Image.fromarray(
            np.uint8(render(PortraitSpec(skin=6, hair_colour="black", hair_style="long", background="yellow")) * 255)
        ),
        astronaut.crop((96, 0, 352, 256)),
        Image.fromarray(np.uint8(render(PortraitSpec(skin=4, hair_colour="grey", background="green")) * 255)),
    ).save(comfy.base / "input" / "people.png")
    context = browser.new_context(viewport={"width": SIZE[0], "height": SIZE[1]}, reduced_motion="reduce")
    yield ComfyPage.open(
        comfy,
        context,
        "vue",
        Comfy__Minimap__Visible=False,
        Comfy__Graph__CanvasInfo=False,
        Comfy__Workflow__WorkflowTabsPosition="Sidebar",
    )
    context.close()


@pytest.mark.parametrize("name", SHOTS)
def test_a_picture_can_be_taken(page: ComfyPage, name: str, request: pytest.FixtureRequest) -> None:
    SHOTS[name](page)
    picture = _photograph(page)
    page.page.keyboard.press("Escape")
    page.page.evaluate(_TIDY)
    if request.config.getoption("--update-screenshots"):
        IMAGES.mkdir(exist_ok=True)
        (IMAGES / f"{name}.jpg").write_bytes(picture)
    assert _size(IMAGES / f"{name}.jpg") == _size(io.BytesIO(picture)) == SIZE
    assert page.errors == []


def test_every_picture_is_small_and_taken_here_and_shown() -> None:
    kept = {path.stem: path.stat().st_size for path in IMAGES.glob("*.jpg")}
    assert kept.keys() == SHOTS.keys()
    assert {name: size for name, size in kept.items() if size > MOST_BYTES} == {}
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in pages)
    assert [name for name in kept if not re.search(rf"!\[[^\]]+\]\([\w/.]*\bimages/{name}\.jpg\)", text)] == []


def _photograph(page: ComfyPage) -> bytes:
    """What is on the screen as a JPEG, in the best quality that is small enough."""
    taken = (page.page.screenshot(type="jpeg", quality=quality) for quality in QUALITIES)
    return next(picture for picture in taken if len(picture) <= MOST_BYTES)


def _size(source: Path | io.BytesIO) -> tuple[int, int]:
    with Image.open(source) as picture:
        return picture.size


def _row(*pictures: Image.Image) -> Image.Image:
    """Pictures of one size side by side."""
    return Image.fromarray(np.hstack([np.asarray(picture.convert("RGB")) for picture in pictures]))
