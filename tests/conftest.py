"""What every test can use: the pack as ``flux_face``, ComfyUI's modules, and a running ComfyUI."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

# The library must be in place before pytest imports tests/gguf/*.py, whose package would else be named ``gguf``.
import gguf  # noqa: F401
import pytest
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
COMFYUI = Path(os.environ.get("COMFYUI_PATH") or ROOT / ".comfyui" / "ComfyUI")
STARTER_MODELS = ROOT / ".comfyui" / "base" / "models"

if not (COMFYUI / "main.py").is_file():
    raise pytest.UsageError(f"No ComfyUI in {COMFYUI}. Run the tests through `python3 dev.py test`, which fetches it.")

# `python -m pytest` puts the working directory first, where the pack's `nodes` would shadow ComfyUI's.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT]
os.environ["COMFYUI_PATH"] = str(COMFYUI)
runpy.run_path(str(ROOT / "devtools" / "pack.py"))["load_pack"]()
# Last, so that nothing of ComfyUI's shadows an installed package.
sys.path.append(str(COMFYUI))

from comfy.cli_args import args as comfy_args  # noqa: E402  (needs the path above)

from flux_face.devtools.browser import MISSING, find_chromium, in_ci  # noqa: E402  (needs the pack)
from flux_face.tests.comfy_server import Comfy, StartComfy  # noqa: E402

# Node classes that run inside the test process use the CPU, as the servers below do.
comfy_args.cpu = True


@pytest.fixture(scope="session")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comfy]:
    """The real ComfyUI with the pack and the starter models, started once per session.

    Its base directory is temporary: tests may add files to ``comfy.base / "input"`` and ``comfy.base / "models"``.
    """
    with Comfy.start(tmp_path_factory.mktemp("comfy"), ROOT, COMFYUI, STARTER_MODELS) as server:
        yield server


@pytest.fixture
def start_comfy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartComfy]:
    """Start further servers with other flags: ``start_comfy("--cache-none", env={"NAME": "value"})``.

    They stop at the end of the test.
    """
    servers: list[Comfy] = []

    def start(*flags: str, env: dict[str, str] | None = None) -> Comfy:
        base = tmp_path_factory.mktemp("comfy")
        servers.append(Comfy.start(base, ROOT, COMFYUI, STARTER_MODELS, flags=flags, env=env))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def chromium() -> Path:
    """The browser for tests of the web page; without one they are skipped, in CI they fail."""
    program = find_chromium()
    if program is None:
        if in_ci():
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    return program


@pytest.fixture(scope="module")
def browser(chromium: Path) -> Iterator[Browser]:
    """One Chromium for a file's tests. Playwright's event loop must be gone before tests that have their own."""
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, headless=True, args=flags)
        yield running
        running.close()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-signatures",
        action="store_true",
        help="write the nodes' present inputs and outputs to tests/pack/signatures.json",
    )
    parser.addoption(
        "--update-locales",
        action="store_true",
        help="write the texts of the nodes' schemas, and what follows from labels, to locales/*/nodeDefs.json",
    )
    parser.addoption(
        "--update-screenshots",
        action="store_true",
        help="write the documentation's pictures of the web page to docs/images",
    )
