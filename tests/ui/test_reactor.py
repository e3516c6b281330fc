"""A workflow made with ReActor in the web page of a ComfyUI that does not have it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .comfy_page import RENDERERS, Renderer
from .conftest import OpenPage


def node(
    number: int, kind: str, inputs: dict[str, int | None], outputs: dict[str, list[int]], values: list[Any]
) -> Any:
    """A node as the page saves it; sockets by name with their links."""
    return {
        "id": number,
        "type": kind,
        "pos": [400 * number, 100],
        "size": [320, 300],
        "flags": {},
        "order": number,
        "mode": 0,
        "inputs": [{"name": name, "type": "IMAGE", "link": link} for name, link in inputs.items()],
        "outputs": [{"name": name, "type": "IMAGE", "links": links} for name, links in outputs.items()],
        "properties": {"Node name for S&R": kind},
        "widgets_values": values,
    }


def workflow(photo: str, *, enabled: bool) -> dict[str, Any]:
    values = [enabled, "inswapper_128.onnx", "retinaface_resnet50", "none", 1, 0.5, "no", "no", "0", "0", 1]
    return {
        "nodes": [
            node(1, "LoadImage", {}, {"IMAGE": [1, 2]}, [photo, "image"]),
            node(
                2,
                "ReActorFaceSwap",
                {"input_image": 1, "source_image": 2, "face_model": None, "face_boost": None},
                {"SWAPPED_IMAGE": [3], "FACE_MODEL": [], "ORIGINAL_IMAGE": []},
                values,
            ),
            node(3, "PreviewImage", {"images": 3}, {}, []),
        ],
        "links": [[1, 1, 0, 2, 0, "IMAGE"], [2, 1, 0, 2, 1, "IMAGE"], [3, 2, 0, 3, 0, "IMAGE"]],
        "last_node_id": 3,
        "last_link_id": 3,
        "version": 0.4,
    }


@pytest.mark.parametrize("renderer", RENDERERS)
def test_the_page_offers_to_replace_it(open_page: OpenPage, photo: str, screenshots: Path, renderer: Renderer) -> None:
    page = open_page(renderer)
    # Switched off in one renderer, for the page to carry that over, too.
    enabled = renderer == "vue"
    page.load(workflow(photo, enabled=enabled))
    page.page.get_by_text("View details").first.click()
    page.page.get_by_role("button", name="Replace Node").wait_for()
    page.screenshot(screenshots / f"reactor-offer-{renderer}.png")
    page.page.get_by_role("button", name="Replace Node").click()
    page.page.wait_for_function("() => fluxTest.node('FluxFaceSwapFace')")
    swap = page.prompt()["2"]
    assert swap["class_type"] == "FluxFaceSwapFace"
    assert {name: swap["inputs"][name] for name in ("images", "photo", "blend", "several_faces_in_photo")} == {
        "images": ["1", 0],
        "photo": ["1", 0],
        "blend": float(enabled),
        "several_faces_in_photo": "largest",
    }
    ended = page.run()
    page.screenshot(screenshots / f"reactor-replaced-{renderer}.png")
    assert ended["kind"] == "execution_success", ended
