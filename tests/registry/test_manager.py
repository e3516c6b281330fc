"""ComfyUI-Manager, the real one, installs the pack from a git repository, and ComfyUI loads it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from flux_face.devtools.pack import ROOT
from flux_face.tests.comfy_server import COMFYUI, Comfy
from flux_face.tests.conftest import STARTER_MODELS

from .conftest import Outside, program

# Manager writes into ComfyUI's folder: it gets a copy, with fresh folders instead of these and without tests.
FRESH = ("custom_nodes", "input", "models", "output", "user")
LEFT_OUT = {*FRESH, "tests", "tests-unit", ".git"}


def test_manager_installs_the_pack_and_comfyui_loads_it(
    comfy: Comfy, outside: Outside, checkout: Path, tmp_path: Path
) -> None:
    comfyui, home = tmp_path / "ComfyUI", tmp_path / "home"
    shutil.copytree(COMFYUI, comfyui, ignore=lambda folder, _: LEFT_OUT if folder == str(COMFYUI) else ())
    for name in FRESH:
        (comfyui / name).mkdir()
    home.mkdir()
    config = comfyui / "user" / "__manager" / "config.ini"
    config.parent.mkdir()
    config.write_text("[default]\nnetwork_mode = offline\n", encoding="utf-8")
    environment = {**outside.environment(home), "COMFYUI_PATH": str(comfyui)}

    # Manager takes addresses with a host only, and git takes this machine's name as one.
    address = f"file://localhost{checkout.as_posix()}"
    installed = subprocess.run(
        [program("cm-cli"), "install", address, "--exit-on-fail"],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    printed = installed.stdout
    assert installed.returncode == 0, printed + installed.stderr
    assert "Installation was successful" in printed
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    for requirement in filter(lambda line: line and not line.startswith("#"), lines):
        assert f"Requirement already satisfied: {requirement} in " in printed
    assert "Successfully installed" not in printed
    assert (comfyui / "custom_nodes" / "flux-face" / ".git").is_dir()

    flags = ("--enable-manager",)
    with Comfy.start(comfyui, checkout, comfyui, STARTER_MODELS, flags=flags, env=environment) as server:
        assert "(IMPORT FAILED)" not in server.log()
        assert "ComfyUI-Manager" in server.log()
        (listed,) = (pack for name, pack in server.get("/v2/customnode/installed").items() if "flux-face" in name)
        assert listed["enabled"] is True
        modules = {name: info["python_module"] for name, info in server.get("/object_info").items()}
    wanted = {
        name for name, info in comfy.get("/object_info").items() if info["python_module"] == "custom_nodes.flux-face"
    }
    assert wanted <= {name for name, module in modules.items() if module == "custom_nodes.flux-face"}
