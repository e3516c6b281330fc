"""The browser of the tests of the web page."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import skimage.data
from PIL import Image
from playwright.sync_api import Browser

from flux_face.tests.comfy_server import Comfy

from .comfy_page import ComfyPage

OpenPage = Callable[..., ComfyPage]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.ui)


@pytest.fixture
def open_page(comfy: Comfy, browser: Browser) -> Iterator[OpenPage]:
    """Open ComfyUI's page: ``open_page("vue", locale="ja")``.

    Pages are closed at the end of the test, which fails if one of them wrote an error to its console.
    """
    pages: list[ComfyPage] = []
    contexts = []

    def opened(*args: object, server: Comfy = comfy, **kwargs: object) -> ComfyPage:
        context = browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
        contexts.append(context)
        pages.append(ComfyPage.open(server, context, *args, **kwargs))  # type: ignore[arg-type]
        return pages[-1]

    yield opened
    errors = [error for page in pages for error in page.errors]
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture(scope="session")
def photo(comfy: Comfy) -> str:
    """A photograph of one person (NASA, public domain) in the server's input folder."""
    name = "photo.png"
    Image.fromarray(skimage.data.astronaut()).save(comfy.base / "input" / name)
    return name


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots are kept: FLUX_FACE_SCREENSHOTS, else a temporary folder."""
    given = os.environ.get("FLUX_FACE_SCREENSHOTS")
    return Path(given) if given else tmp_path_factory.mktemp("screenshots")
