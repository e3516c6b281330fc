"""Verdicts, attempts, and before and after, on the nodes of the quality part."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, expect

from flux_face.devtools.pack import ROOT

from .comfy_page import RENDERERS, ComfyPage, Renderer
from .conftest import OpenPage

# Of these two images the first has a blue face, and the next seed gives it a healthy one.
PROMPT, SEED = "portrait of a woman with fair skin and brown hair, neon light", 6

# All that the strip of attempts says while it is there, with the progress of each attempt.
_WATCH = """() => {
    const root = fluxTest.node('FluxFaceRetry').widgets.find((widget) => widget.name === 'inspector').element
    fluxTest.said = []
    const note = () => {
        const text = root.querySelector('[role="status"] span')?.textContent
        if (text) fluxTest.said.push([text, root.querySelector('progress')?.getAttribute('value') ?? null])
    }
    new MutationObserver(note).observe(root, {childList: true, subtree: true})
}"""
# On the canvas axe cannot tell what lies behind a text, and leaves contrast out.
_ON_A_STAGE = """() => {
    const stage = document.createElement('div')
    stage.id = 'stage'
    Object.assign(stage.style, {position: 'fixed', inset: 0, zIndex: 99999, background: '#888'})
    stage.append(...[...document.querySelectorAll('.flux-face-inspector')].map((panel) => panel.cloneNode(true)))
    document.body.append(stage)
}"""
# Pictures that the page itself shows on a node: on a canvas a widget, else elements.
_OTHER_PICTURES = """(type) => {
    const node = fluxTest.node(type)
    const elements = [...document.querySelectorAll(`[data-node-id="${node.id}"] img`)]
    return elements.filter((image) => !image.closest('.flux-face-inspector')).length +
        node.widgets.filter(({name}) => name === '$$canvas-image-preview').length
}"""
_OUTPUT = "(type) => fluxTest.app.nodeOutputs[fluxTest.node(type).id]"


def open_starter(page: ComfyPage, photo: str, prompt: str, seed: int = SEED, batch: int = 2) -> None:
    page.load(ROOT / "workflows" / "starter.json")
    page.set_widget("Load Face Photo", "photo", photo)
    page.set_widget("Prompt", "text", prompt)
    page.set_widget("Size and Batch", "batch_size", batch)
    page.set_widget("Seed", "noise_seed", seed)
    page.set_widget("Seed", "control_after_generate", "fixed")
    page.page.evaluate(_WATCH)


def panel(page: ComfyPage, label: str) -> Locator:
    return page.locator(f'.flux-face-inspector[aria-label="{label}"]')


def said(page: ComfyPage) -> list[list[Any]]:
    answer: list[list[Any]] = page.page.evaluate("() => fluxTest.said")
    return answer


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_run_shows_verdicts_attempts_and_both_sides_of_the_swap(
    open_page: OpenPage, photo: str, screenshots: Path, renderer: Renderer
) -> None:
    page = open_page(renderer)
    # A word that says nothing keeps one renderer's run from being answered with the other's results.
    open_starter(page, photo, f"{PROMPT} {renderer}")
    page.centre("FluxFaceRetry")
    expect(panel(page, "Attempts at each image")).to_contain_text("Run the workflow")
    assert page.run()["kind"] == "execution_success"

    assert "Attempt 2 of 3: 1 of 2 images" in [text for text, _ in said(page)]
    assert any(value is not None and 0.0 < float(value) < 1.0 for _, value in said(page))
    attempts = panel(page, "Attempts at each image")
    expect(attempts.locator("progress")).to_have_count(0)
    expect(attempts.get_by_role("status")).to_have_text("2 of 2 passed, 3 sampled")
    blue, healthy = attempts.get_by_role("list", name="Attempts at Image 1").get_by_role("listitem").all()
    expect(blue).to_contain_text("Failed")
    expect(blue).to_contain_text("Colour cast")
    expect(blue).to_contain_text(f"Seed {SEED}")
    expect(blue).not_to_contain_text("Kept")
    expect(healthy).to_contain_text("Passed")
    expect(healthy).to_contain_text(f"Seed {SEED + 1}")
    expect(healthy).to_contain_text("Kept")
    for picture in attempts.locator("img").all():
        assert picture.evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 192
    page.screenshot(screenshots / f"inspector-attempts-{renderer}.png")

    page.centre("FluxFaceSkinToneQA")
    verdicts = panel(page, "Verdicts on the images")
    document = page.page.evaluate(_OUTPUT, "FluxFaceSkinToneQA")["flux_face_verdicts"][0]
    cards = verdicts.locator("details")
    expect(cards).to_have_count(2)
    expect(cards.nth(0)).to_contain_text("Failed")
    expect(cards.nth(0)).to_contain_text(re.compile(r"distance from the hues of skin: [\d.]+, at most 5"))
    shown = cards.nth(0).locator("code").all_inner_texts()
    face = document["items"][0]["faces"][0]
    assert shown == [face["face"], document["photo"]["face"], face["neck"], face["white"], face["monk"]]
    second = cards.nth(1)
    assert second.get_attribute("open") is None
    second.locator("summary").focus()
    page.page.keyboard.press("Enter")
    expect(second).to_have_attribute("open", "")
    page.screenshot(screenshots / f"inspector-verdicts-{renderer}.png")

    page.centre("FluxFaceJobOutput")
    both = panel(page, "Before and after the swap")
    slider = both.get_by_role("slider")
    slider.focus()
    page.page.keyboard.press("End")
    expect(slider).to_have_attribute("aria-valuetext", "100 % before")
    both.get_by_role("button", name="Next picture").click()
    expect(both).to_contain_text("2 of 2")
    expect(both.get_by_role("img", name="Picture 2 before the swap")).to_be_visible()
    page.screenshot(screenshots / f"inspector-compare-{renderer}.png")
    assert page.page.evaluate(_OTHER_PICTURES, "FluxFaceJobOutput") == 0
    for theme in ("light", "dark"):
        page.page.evaluate("(theme) => fluxTest.app.extensionManager.setting.set('Comfy.ColorPalette', theme)", theme)
        expect(page.locator("html.dark-theme")).to_have_count(int(theme == "dark"))
        found = Axe().run(page.page, context=".flux-face-inspector")
        assert found.violations_count == 0, (theme, found.generate_report())
        page.page.evaluate(_ON_A_STAGE)
        found = Axe().run(page.page, context="#stage")
        page.page.evaluate("() => document.getElementById('stage').remove()")
        assert found.violations_count == 0, (theme, found.generate_report())
        assert "color-contrast" in {rule["id"] for rule in found.response["passes"]}


def test_more_attempts_are_there_after_another_tab_was_looked_at(open_page: OpenPage, photo: str) -> None:
    page = open_page("vue")
    open_starter(page, photo, "portrait of an alien", batch=1)
    page.set_widget("FluxFaceSkinToneQA", "min_score", 1.0)
    attempts = panel(page, "Attempts at each image")
    cards = attempts.get_by_role("list", name="Attempts at Image 1").get_by_role("listitem")
    for most in (2, 3):
        page.set_widget("FluxFaceRetry", "max_attempts", most)
        page.centre("FluxFaceRetry")
        assert page.run()["kind"] == "execution_success"
        expect(cards).to_have_count(most)
    other, own = page.locator(".workflow-tab").all()
    other.click()
    page.page.wait_for_function("() => !fluxTest.node('FluxFaceRetry')")
    own.click()
    page.centre("FluxFaceRetry")
    expect(cards).to_have_count(3)
    expect(attempts.get_by_role("status")).to_have_text("0 of 1 passed, 3 sampled")


@pytest.mark.parametrize("renderer", RENDERERS)
def test_without_anything_to_compare_the_page_shows_the_pictures(
    open_page: OpenPage, photo: str, screenshots: Path, renderer: Renderer
) -> None:
    page = open_page(renderer)
    page.load_graph(
        {
            "photo": {"class_type": "FluxFaceLoadPhoto", "inputs": {"photo": photo}},
            "output": {"class_type": "FluxFaceJobOutput", "inputs": {"images": ["photo", 0], "job_id": ""}},
        }
    )
    assert page.run()["kind"] == "execution_success"
    page.centre("FluxFaceJobOutput")
    page.page.wait_for_function(f"() => ({_OTHER_PICTURES})('FluxFaceJobOutput') === 1")
    page.screenshot(screenshots / f"inspector-nothing-to-compare-{renderer}.png")
    page.page.evaluate(
        "() => fluxTest.node('FluxFaceLoadPhoto').connect(0, fluxTest.node('FluxFaceJobOutput'), 'generated')"
    )
    assert page.run()["kind"] == "execution_success"
    expect(panel(page, "Before and after the swap").get_by_role("slider")).to_be_visible()
    page.page.wait_for_function(f"() => ({_OTHER_PICTURES})('FluxFaceJobOutput') === 0")
    # What ComfyUI's own queue shows of the run is the result.
    listed = page.page.evaluate("async () => (await (await fluxTest.app.api.fetchApi('/jobs')).json()).jobs")
    preview = max(listed, key=lambda job: job["create_time"])["preview_output"]
    assert preview["mediaType"] == "images"
    shown = page.page.evaluate(_OUTPUT, "FluxFaceJobOutput")["images"][0]
    assert preview["filename"] == shown["filename"]


def test_a_cancelled_run_says_where_it_stopped(open_page: OpenPage, photo: str) -> None:
    page = open_page("vue")
    open_starter(page, photo, "portrait of an alien", batch=1)
    page.set_widget("FluxFaceRetry", "max_attempts", 10)
    page.centre("FluxFaceRetry")
    page.queue()
    attempts = panel(page, "Attempts at each image")
    expect(attempts.get_by_role("status")).to_contain_text("Attempt 2 of 10", timeout=180_000)
    page.page.evaluate("() => fluxTest.app.api.interrupt()")
    assert page.wait_for_end()["kind"] == "execution_interrupted"
    expect(attempts.get_by_role("status")).to_have_text(re.compile(r"Stopped in attempt \d+ of 10"))
    expect(attempts.locator("progress")).to_have_count(0)
    expect(attempts.locator("li").first).to_contain_text("Failed")


def test_nodes_inside_a_subgraph_show_their_results(open_page: OpenPage, photo: str) -> None:
    page = open_page("classic")
    open_starter(page, photo, PROMPT)
    page.page.evaluate("""() => {
        const graph = fluxTest.app.rootGraph
        const chosen = ['FluxFaceSkinToneQA', 'FluxFaceRetry'].map((type) => fluxTest.node(type))
        const {node} = graph.convertToSubgraph(new Set(chosen))
        fluxTest.app.canvas.openSubgraph(node.subgraph, node)
    }""")
    page.page.evaluate(_WATCH)
    assert page.run()["kind"] == "execution_success"
    assert "Attempt 2 of 3: 1 of 2 images" in [text for text, _ in said(page)]
    page.centre("FluxFaceRetry")
    expect(panel(page, "Attempts at each image")).to_contain_text("2 of 2 passed, 3 sampled")
    expect(panel(page, "Verdicts on the images").locator("details")).to_have_count(2)
