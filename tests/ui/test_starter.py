"""The starter template in the real web page, in both of its node renderers."""

from __future__ import annotations

from pathlib import Path

import pytest

from flux_face.devtools.pack import ROOT

from .comfy_page import RENDERERS, Renderer
from .conftest import OpenPage


@pytest.mark.parametrize("renderer", RENDERERS)
def test_the_starter_template_runs(open_page: OpenPage, photo: str, screenshots: Path, renderer: Renderer) -> None:
    page = open_page(renderer)
    page.load(ROOT / "workflows" / "starter.json")
    page.set_widget("Load Face Photo", "photo", photo)
    ended = page.run()
    page.screenshot(screenshots / f"starter-{renderer}.png")
    assert ended["kind"] == "execution_success", ended
