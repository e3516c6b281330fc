"""The page that shows the OpenAPI document, in a real browser."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser
from playwright.sync_api import Page as Tab

from flux_face.tests.comfy_server import Comfy
from flux_face.tests.routes.client import BASE

pytestmark = pytest.mark.ui
PATHS = [f"{BASE}/docs", f"/api{BASE}/docs"]
Scheme = Literal["light", "dark"]

# The contrast of every piece of text with the first background behind it that is not transparent, by WCAG 2's formula.
CONTRASTS = """() => {
    const channels = (text) => text.match(/[\\d.]+/g).map(Number)
    const luminance = (rgb) => rgb.slice(0, 3).map((value) => value / 255)
        .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
        .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0)
    const behind = (element) => {
        for (; element; element = element.parentElement) {
            const found = channels(getComputedStyle(element).backgroundColor)
            if (found.length < 4 || found[3] > 0) return found
        }
        return [255, 255, 255]
    }
    return [...document.querySelectorAll("body *")]
        .filter((element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
        .filter((element) => element.checkVisibility() && !["SCRIPT", "STYLE"].includes(element.tagName))
        .map((element) => {
            const [one, other] = [channels(getComputedStyle(element).color), behind(element)].map(luminance)
            return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05)
        })
}"""


@dataclass
class Visit:
    """An opened page, and what went wrong on it or left the server."""

    tab: Tab
    complaints: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)


def visit(browser: Browser, url: str, scheme: Scheme = "light") -> Visit:
    tab = browser.new_context(color_scheme=scheme).new_page()
    visited = Visit(tab)
    tab.on("console", lambda message: visited.complaints.append(message.text))
    tab.on("pageerror", lambda error: visited.complaints.append(str(error)))
    tab.on("requestfailed", lambda request: visited.complaints.append(request.url))
    tab.on("request", lambda request: visited.addresses.append(request.url))
    tab.goto(url)
    tab.wait_for_selector("article")
    return visited


def operations(document: dict[str, Any]) -> set[str]:
    return {f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item}


@pytest.mark.parametrize("path", PATHS)
def test_every_route_is_on_it(browser: Browser, api_server: Comfy, path: str) -> None:
    visited = visit(browser, api_server.url + path)
    document = api_server.get(f"{BASE}/openapi.json")
    sections = visited.tab.locator("main section:not(.whole) article")
    shown = {" ".join(title.split()) for title in sections.locator("h3").all_inner_texts()}
    assert shown == operations(document)
    for article in sections.all():
        assert article.get_by_role("heading", name="Answers and errors").is_visible()
        example = article.locator("pre").first.inner_text()
        assert example.startswith("curl ")
        assert api_server.url + path.removesuffix(f"{BASE}/docs") in example
    run = visited.tab.locator("#run").inner_text()
    for name in document["components"]["schemas"]["JobInput"]["properties"]:
        assert f"input.{name}" in run
    assert visited.complaints == []
    assert {address.startswith((f"{api_server.url}/", "data:")) for address in visited.addresses} == {True}


def test_the_filter_finds_routes_and_fields(browser: Browser, api_server: Comfy) -> None:
    tab = visit(browser, api_server.url + PATHS[0]).tab
    tab.get_by_role("searchbox", name="Filter routes and fields").fill("PURGE")
    visible = tab.locator("main article:visible")
    assert visible.locator("h3").all_inner_texts() == ["POST /flux-face/v1/purge-queue"]
    assert tab.locator("nav li:visible").count() == 1
    assert tab.get_by_role("status").inner_text().startswith("1 of ")
    tab.get_by_label("Filter routes and fields").fill("executiontimeout")
    assert {"run", "runsync"} <= {str(article.get_attribute("id")) for article in visible.all()}
    tab.get_by_label("Filter routes and fields").fill("")
    assert visible.count() > len(operations(api_server.get(f"{BASE}/openapi.json")))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_by_everybody(browser: Browser, api_server: Comfy, scheme: Scheme) -> None:
    """Landmarks, headings without gaps, the keyboard's way in, and contrasts of WCAG 2's level AA."""
    tab = visit(browser, api_server.url + PATHS[0], scheme).tab
    levels = [
        int(tag[1]) for tag in tab.eval_on_selector_all("h1,h2,h3,h4,h5,h6", "all => all.map(one => one.tagName)")
    ]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))
    for role in ("main", "navigation", "search"):
        assert tab.get_by_role(role).count() == 1
    ids = tab.eval_on_selector_all("[id]", "all => all.map(one => one.id)")
    assert len(ids) == len(set(ids))
    targets = tab.eval_on_selector_all("a[href^='#']", "all => all.map(one => one.getAttribute('href').slice(1))")
    assert set(targets) <= set(ids)
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "content"
    contrasts = tab.evaluate(CONTRASTS)
    assert len(contrasts) > 1000
    assert min(contrasts) >= 4.5


def test_it_fits_a_phone(browser: Browser, api_server: Comfy) -> None:
    tab = visit(browser, api_server.url + PATHS[0]).tab
    tab.set_viewport_size({"width": 390, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") == 390


def test_a_document_that_does_not_come_is_said(browser: Browser, api_server: Comfy) -> None:
    tab = browser.new_page()
    tab.route("**/openapi.json", lambda route: route.fulfill(status=503))
    tab.goto(api_server.url + PATHS[0])
    alert = tab.get_by_role("alert")
    alert.wait_for()
    assert "status 503" in alert.inner_text()


def test_no_other_script_can_run_on_it(browser: Browser, api_server: Comfy) -> None:
    visited = visit(browser, api_server.url + PATHS[0])
    visited.tab.evaluate(
        """() => {
            const script = document.createElement("script")
            script.textContent = "window.injected = true"
            document.body.append(script)
        }"""
    )
    assert visited.tab.evaluate("window.injected") is None
    assert "Content Security Policy" in visited.complaints[0]
