"""ComfyUI's web page in a real Chromium, as the tests of the pack's web parts drive it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page

from flux_face.tests.comfy_server import Comfy

Renderer = Literal["classic", "vue"]
RENDERERS: tuple[Renderer, ...] = ("classic", "vue")

# What this machine causes and no code of the pack: no internet for ComfyUI's own services, no GPU for WebGL.
_NOT_OURS = (
    "net::ERR_",
    "Failed to load resource",
    "WebGL",
    "[ComfyUI Notice]",
    "[ComfyUI Deprecated]",
    "graph accessed before init",
)

_LOADED = "() => (window.app ?? window.comfyAPI?.app?.app)?.extensionManager?.workflow?.activeWorkflow != null"

_HELPERS = """() => {
    const app = window.app ?? window.comfyAPI.app.app
    window.fluxTest = {app, ended: [], started: 0}
    const note = (kind) => app.api.addEventListener(kind, ({detail}) => fluxTest.ended.push({kind, ...detail}))
    note('execution_success'); note('execution_error'); note('execution_interrupted')
    app.api.addEventListener('execution_start', () => { fluxTest.started += 1 })
    fluxTest.node = (title) => {
        const search = (graph) => {
            for (const node of graph?.nodes ?? []) {
                if (node.title === title || node.type === title) return node
                const inner = node.subgraph && search(node.subgraph)
                if (inner) return inner
            }
        }
        return search(app.rootGraph ?? app.graph)
    }
    fluxTest.centre = (node) => {
        app.canvas.ds.scale = 1
        app.canvas.centerOnNode(node)
        app.canvas.setDirty(true, true)
    }
}"""


@dataclass
class ComfyPage:
    """One browser tab with ComfyUI's page.

    Attributes:
        errors: what the page wrote to the console as an error, or threw, since it was opened; only of what the pack
            could have caused.
    """

    comfy: Comfy
    page: Page
    renderer: Renderer
    errors: list[str] = field(default_factory=list)

    @classmethod
    def open(
        cls, comfy: Comfy, context: BrowserContext, renderer: Renderer = "classic", locale: str = "en", **settings: Any
    ) -> ComfyPage:
        """Open the page and wait until its own workflow is there.

        Args:
            comfy: the server; its settings are set, and stay set for the next page.
            context: of the browser.
            renderer: ``classic`` draws nodes on a canvas, ``vue`` makes them elements ("Nodes 2.0").
            locale: of the page.
            settings: further settings of ComfyUI, dots written as ``__``.
        """
        wanted = {
            "Comfy.VueNodes.Enabled": renderer == "vue",
            "Comfy.Locale": locale,
            "Comfy.TutorialCompleted": True,
            "Comfy.Release.Status": "skipped",
            "Comfy.Workflow.ShowMissingModelsWarning": False,
            **{name.replace("__", "."): value for name, value in settings.items()},
        }
        answer = context.request.post(comfy.url + "/settings", data=json.dumps(wanted))
        assert answer.ok, answer.text()
        tab = cls(comfy, context.new_page(), renderer)
        tab.page.on("console", tab._note)
        tab.page.on("pageerror", lambda error: tab.errors.append(f"{error}\n{error.stack}"))
        tab.page.goto(comfy.url, timeout=120_000)
        # The page opens a workflow of its own last; opened earlier, ours would be replaced.
        tab.page.wait_for_function(_LOADED, timeout=120_000)
        tab.page.evaluate(_HELPERS)
        return tab

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not any(sign in message.text for sign in _NOT_OURS):
            self.errors.append(message.text)

    def load(self, workflow: dict[str, Any] | Path) -> None:
        """Open a UI-format workflow."""
        if isinstance(workflow, Path):
            workflow = json.loads(workflow.read_text(encoding="utf-8"))
        self.page.evaluate("async (workflow) => { await fluxTest.app.loadGraphData(workflow) }", workflow)
        self.page.wait_for_timeout(300)  # widgets are mounted in the next frames

    def load_graph(self, graph: dict[str, Any]) -> None:
        """Open a graph in API format, which the page lays out itself."""
        self.page.evaluate("async (graph) => { await fluxTest.app.loadApiJson(graph, 'graph') }", graph)
        self.page.wait_for_timeout(300)

    def prompt(self) -> dict[str, Any]:
        """The API-format graph that the page would run."""
        graph: dict[str, Any] = self.page.evaluate("async () => (await fluxTest.app.graphToPrompt()).output")
        return graph

    def queue(self) -> None:
        """Run the open workflow, as its Run button does."""
        self.page.evaluate("async () => { await fluxTest.app.queuePrompt(0, 1) }")

    def run(self, timeout_s: float = 180) -> dict[str, Any]:
        """Run the open workflow and wait for its end; returns the closing event with its ``kind``."""
        before = self.page.evaluate("() => fluxTest.ended.length")
        self.queue()
        return self.wait_for_end(before, timeout_s)

    def wait_for_end(self, before: int = 0, timeout_s: float = 180) -> dict[str, Any]:
        """Wait until more than ``before`` runs have ended; returns the last one's closing event with its ``kind``."""
        self.page.wait_for_function("(before) => fluxTest.ended.length > before", arg=before, timeout=timeout_s * 1000)
        event: dict[str, Any] = self.page.evaluate("() => fluxTest.ended.at(-1)")
        self.page.wait_for_timeout(200)  # what listens to the event draws in the next frames
        return event

    def centre(self, title: str) -> None:
        """Bring the node with this title, or else of this type, to the middle of the screen at its natural size."""
        self.page.evaluate("(title) => fluxTest.centre(fluxTest.node(title))", title)
        self.page.wait_for_timeout(300)

    def widget(self, title: str, name: str) -> Any:
        """The value of a node's widget."""
        return self.page.evaluate(
            "([title, name]) => fluxTest.node(title).widgets.find((widget) => widget.name === name)?.value",
            [title, name],
        )

    def set_widget(self, title: str, name: str, value: Any) -> None:
        """Give a node's widget a value, with what follows from it, as typing it would."""
        self.page.evaluate(
            """([title, name, value]) => {
                const node = fluxTest.node(title)
                const widget = node.widgets.find((widget) => widget.name === name)
                widget.value = value
                widget.callback?.(value, fluxTest.app.canvas, node)
            }""",
            [title, name, value],
        )

    def locator(self, selector: str) -> Locator:
        """Elements of the page."""
        return self.page.locator(selector)

    def screenshot(self, path: Path) -> None:
        """Keep what is on the screen."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path)
