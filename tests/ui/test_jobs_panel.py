"""The panel in the side bar: jobs as they go on, the doctor, and models that are downloaded only when told to."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import skimage.data
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Locator, expect

from flux_face.tests.catalogue.hub import Fault, Hub, Served
from flux_face.tests.comfy_server import Comfy
from flux_face.tests.routes.conftest import ADMIN, TOKENS, start_server

from .comfy_page import ComfyPage
from .conftest import OpenPage

API = "/flux-face/v1"
OPEN = {"hub": "gfpgan-1.2", "file": "facefusion/models-3.0.0/gfpgan_1.2.onnx"}
LICENSED = {"hub": "simswap-256", "file": "facefusion/models-3.0.0/simswap_256.onnx"}

_WATCH_STATES = """(id) => {
    window.seenStates = []
    const look = () => {
        const state = document.querySelector(`[data-id="${id}"]`)?.dataset.state
        if (state && seenStates.at(-1) !== state) seenStates.push(state)
    }
    look()
    new MutationObserver(look).observe(document.body, {attributes: true, childList: true, subtree: true})
}"""


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    """A server that behaves like Hugging Face."""
    with Hub.running() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, hub: Hub) -> Iterator[Comfy]:
    """With profiles that sleep and fail, and models from the stand-in of the hub."""
    with start_server(tmp_path_factory.mktemp("panel"), {"HF_ENDPOINT": hub.url()}) as running:
        yield running


@pytest.fixture(scope="module")
def token_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comfy]:
    """The same with tokens."""
    tokens = {**TOKENS, "ops": ADMIN}
    environment = {
        "FLUX_FACE_API_TOKENS": ",".join(f"{name}:{token}" for name, token in tokens.items()),
        "FLUX_FACE_ADMINS": "ops",
    }
    with start_server(tmp_path_factory.mktemp("tokens"), environment) as running:
        yield running


def photo() -> str:
    """One person (NASA, public domain), as the API takes it."""
    file = io.BytesIO()
    Image.fromarray(skimage.data.astronaut()).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def submit(page: ComfyPage, token: str | None = None, **job: Any) -> str:
    """Start a job as a program does; returns its id."""
    answer = page.page.context.request.post(
        f"{page.comfy.url}{API}/run",
        data=json.dumps({"input": job}),
        headers={"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})},
    )
    assert answer.ok, answer.text()
    return str(answer.json()["id"])


def open_panel(page: ComfyPage, name: str = "Flux Face") -> Locator:
    """Click the panel's place in the side bar."""
    page.page.get_by_role("button", name=re.compile(name)).first.click()
    panel = page.locator(".flux-face-panel")
    expect(panel).to_be_visible()
    return panel


def card(panel: Locator, job_id: str) -> Locator:
    """The job's entry in the list."""
    return panel.locator(f'[data-id="{job_id}"]')


def assert_accessible(page: ComfyPage, selector: str) -> None:
    """No finding of axe within the element."""
    found = Axe().run(page.page, context=selector)
    assert found.violations_count == 0, found.generate_report()


def test_jobs_as_they_go_on(open_page: OpenPage, server: Comfy, screenshots: Path) -> None:
    page = open_page(server=server)
    panel = open_panel(page)
    expect(panel.locator(".flux-face-empty pre")).to_contain_text(f"curl -sS {server.url}{API}/run")
    docs = panel.get_by_role("link", name="All routes")
    assert page.page.context.request.get(str(docs.get_attribute("href"))).ok
    assert_accessible(page, ".flux-face-panel")
    page.screenshot(screenshots / "jobs-empty.png")

    blocker = submit(page, profile="sleep")
    portrait = submit(
        page, profile="starter", prompt="portrait of a smiling woman", user_photo=photo(), seed=7, batch_size=2
    )
    later = submit(page, profile="tiny")
    expect(card(panel, blocker)).to_have_attribute("data-state", "IN_PROGRESS")
    expect(card(panel, portrait)).to_contain_text("Waiting")
    expect(card(panel, portrait)).to_contain_text("jobs before it: 1")
    expect(card(panel, later)).to_contain_text("jobs before it: 2")
    page.page.evaluate(_WATCH_STATES, portrait)
    card(panel, blocker).get_by_role("button", name="Cancel").click()
    expect(card(panel, blocker)).to_have_attribute("data-state", "CANCELLED")
    expect(card(panel, portrait)).to_have_attribute("data-state", "COMPLETED", timeout=120_000)
    assert page.page.evaluate("seenStates") == ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]

    pictures = card(panel, portrait).locator("img")
    expect(pictures).to_have_count(2)
    page.page.wait_for_function(
        "(id) => [...document.querySelectorAll(`[data-id='${id}'] img`)].every((image) => image.naturalWidth === 256)",
        arg=portrait,
    )
    expect(card(panel, portrait).locator("[data-passed]")).to_have_count(2)
    expect(card(panel, portrait)).to_contain_text(re.compile(r"(Passed|Not passed), score \d\.\d\d"))
    expect(card(panel, portrait)).to_contain_text("seed 7")
    with page.page.context.expect_page() as opened:
        card(panel, portrait).get_by_role("link").first.click()
    assert opened.value.locator("img").evaluate("(image) => image.naturalWidth") == 256
    opened.value.close()

    failing = submit(page, profile="raise")
    expect(card(panel, failing)).to_have_attribute("data-state", "FAILED")
    expect(card(panel, failing).locator(".flux-face-error")).to_contain_text("node_failed")
    expect(card(panel, failing)).to_contain_text("See the server's log")
    expect(card(panel, failing)).not_to_contain_text("secret")
    assert_accessible(page, ".flux-face-panel")
    page.screenshot(screenshots / "jobs.png")
    page.page.evaluate(_WATCH_STATES, failing)
    card(panel, failing).get_by_role("button", name="Run again").click()
    page.page.wait_for_function("seenStates.length > 1 && seenStates.at(-1) === 'FAILED'")
    assert server.get(f"{API}/health")["jobs"]["retried"] == 1


def test_many_jobs_and_a_lost_connection(open_page: OpenPage, server: Comfy, screenshots: Path) -> None:
    """By keyboard only."""
    page = open_page("vue", server=server, Comfy__ColorPalette="light")
    running, *waiting = [submit(page, profile="sleep") for _ in range(22)]
    keyboard = page.page.keyboard
    page.page.get_by_role("button", name=re.compile("Flux Face")).first.focus()
    keyboard.press("Enter")
    panel = page.locator(".flux-face-panel")
    expect(panel.locator("li[data-id]")).to_have_count(20)
    expect(card(panel, running)).to_have_count(0)
    page.screenshot(screenshots / "jobs-light.png")
    press(page, panel.get_by_role("button", name="Older"), "Enter")
    expect(card(panel, running)).to_contain_text("Running")
    press(page, panel.get_by_role("button", name="Cancel all waiting jobs"), "Enter")
    dialog = page.page.get_by_role("dialog")
    expect(dialog).to_contain_text("The running one goes on")
    assert [job["status"] for job in jobs(page)[:21]] == ["IN_QUEUE"] * 21, "nothing before it is confirmed"
    press(page, dialog.get_by_role("button", name="Confirm"), "Enter")
    expect(panel).to_contain_text("Cancelled: 21")

    press(page, panel.get_by_label("Show"), "w")  # "waiting or running"
    expect(panel.locator("li[data-id]")).to_have_count(1)
    page.page.evaluate("fluxTest.app.api.socket.close()")
    submit(page, profile="tiny")
    expect(panel.locator("li[data-id]")).to_have_count(2)
    press(page, card(panel, running).get_by_role("button", name="Cancel"), "Space")
    expect(panel).to_contain_text("No such jobs.")
    assert {job["status"] for job in jobs(page) if job["id"] in waiting} == {"CANCELLED"}


def press(page: ComfyPage, target: Locator, key: str) -> None:
    """Go to a control with the Tab key, and press another there."""
    expect(target).to_be_visible()
    for _ in range(150):
        if target.evaluate("(control) => control === document.activeElement"):
            page.page.keyboard.press(key)
            return
        page.page.keyboard.press("Tab")
    raise AssertionError(f"the Tab key does not reach {target}")


def jobs(page: ComfyPage) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = page.comfy.get(f"{API}/jobs")["jobs"]
    return listed


def test_a_token_where_one_is_needed(open_page: OpenPage, token_server: Comfy, screenshots: Path) -> None:
    page = open_page(server=token_server)
    own = submit(page, TOKENS["alice"], profile="tiny")
    others = submit(page, TOKENS["bob"], profile="tiny")
    panel = open_panel(page)
    expect(panel.get_by_role("alert")).to_contain_text("only to holders of a token")
    field = panel.get_by_label("Token", exact=True)
    assert field.get_attribute("type") == "password"
    assert_accessible(page, ".flux-face-panel")
    page.screenshot(screenshots / "jobs-token.png")
    field.fill("wrong-0123456789abcdef")
    field.press("Enter")
    expect(panel.get_by_role("alert")).to_contain_text("does not know this token")
    field.fill(TOKENS["alice"])
    panel.get_by_role("button", name="Use token").click()
    expect(card(panel, own)).to_contain_text("Completed")
    page.page.wait_for_function("document.querySelector('.flux-face-panel img')?.naturalWidth > 0")
    expect(card(panel, others)).to_have_count(0)
    unseen, seen = (submit(page, TOKENS[name], profile="tiny") for name in ("bob", "alice"))
    expect(card(panel, seen)).to_contain_text("Completed")
    expect(card(panel, unseen)).to_have_count(0)
    panel.get_by_role("tab", name="Doctor").click()
    expect(panel).to_contain_text("Only admins see the checks")
    expect(panel.locator('[data-model="flux-vae"]').first).to_contain_text("Missing")
    expect(panel.get_by_role("button", name=re.compile("Download"))).to_have_count(0)
    kept = page.page.evaluate(
        "[JSON.stringify({...localStorage}), JSON.stringify({...sessionStorage}), document.cookie]"
    )
    assert [TOKENS["alice"] in text for text in kept] == [False, True, False]
    panel.get_by_role("button", name="Forget token").click()
    expect(panel.get_by_role("alert")).to_contain_text("only to holders of a token")
    expect(panel.locator("[data-id], [data-model]")).to_have_count(0)
    assert page.page.evaluate("sessionStorage.getItem('flux-face.token')") is None


def test_without_tokens_nobody_is_shown_anything_through_a_proxy(open_page: OpenPage, server: Comfy) -> None:
    page = open_page(server=server)
    page.page.context.set_extra_http_headers({"X-Forwarded-For": "198.51.100.7"})
    panel = open_panel(page)
    expect(panel.get_by_role("alert")).to_contain_text("its own machine only")
    expect(panel.locator("input, [data-id]")).to_have_count(0)


def test_the_doctor_in_japanese(open_page: OpenPage, server: Comfy, hub: Hub, screenshots: Path) -> None:
    page = open_page(server=server, locale="ja")
    panel = open_panel(page)
    panel.get_by_role("tab", name="診断").click()
    expect(panel.get_by_role("status").first).to_contain_text("失敗した項目", timeout=60_000)
    finding = panel.locator(".flux-face-finding", has_text="onnxruntime")
    expect(finding).to_contain_text("CPUExecutionProvider")
    default = panel.locator('details[data-set="flux1-schnell-gguf"]')
    expect(default).to_have_attribute("open", "")
    expect(default).to_contain_text("（0 / 4 あり）")
    others = panel.locator('details[data-set=""]')
    others.locator("summary").click()
    row = others.locator(f'[data-model="{OPEN["hub"]}"]')
    expect(row).to_contain_text("models/facerestore_models/")
    expect(row).to_contain_text("商用利用可")
    assert_accessible(page, ".flux-face-panel")
    page.screenshot(screenshots / "doctor-ja.png")

    hub.files[OPEN["file"]] = Served(b"x" * 4000, cdn_faults=[Fault(drip=10)])
    row.get_by_role("button", name="ダウンロード").click()
    dialog = page.page.get_by_role("dialog")
    expect(dialog).to_contain_text(f"{hub.url()}/facefusion/models-3.0.0/resolve/main/gfpgan_1.2.onnx")
    expect(dialog.get_by_role("heading")).to_contain_text("サイズ不明")
    expect(dialog).to_contain_text("Apache-2.0")
    assert_accessible(page, ".flux-face-dialog")
    page.screenshot(screenshots / "doctor-consent-ja.png")
    page.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert hub.seen == [], "nothing is fetched before a yes"
    expect(row.get_by_role("button")).to_be_focused()

    row.get_by_role("button").click()
    dialog.get_by_role("button", name="ダウンロード", exact=True).click()
    expect(panel.get_by_role("progressbar")).to_have_js_property("max", 4000)
    panel.get_by_role("button", name="ダウンロードを中止").click()
    expect(panel.locator(".flux-face-download")).to_contain_text("中止しました")
    expect(row).to_contain_text("なし")
    row.get_by_role("button").click()
    dialog.get_by_role("button", name="ダウンロード", exact=True).click()
    expect(panel.locator(".flux-face-download")).to_contain_text("ダウンロード完了")
    expect(row).to_contain_text("あり")
    expect(row.get_by_role("button")).to_have_count(0)

    hub.files[LICENSED["file"]] = Served(b"x" * 1000, sha256="0" * 64)
    others.locator(f'[data-model="{LICENSED["hub"]}"]').get_by_role("button").click()
    yes = dialog.get_by_role("button", name="ダウンロード", exact=True)
    expect(yes).to_be_disabled()
    dialog.get_by_role("checkbox").check()
    yes.click()
    failed = panel.locator(".flux-face-download .flux-face-error")
    expect(failed).to_contain_text(LICENSED["hub"])
    expect(failed).not_to_contain_text("licence_not_accepted")
    page.screenshot(screenshots / "doctor-failed-ja.png")
