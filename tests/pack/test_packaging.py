"""What is published, and what a user's ComfyUI is asked to install."""

from __future__ import annotations

import ast
import importlib
import json
import re
import sys
from typing import Any

from flux_face.devtools.comfyui import COMFYUI_VERSION
from flux_face.devtools.pack import ROOT
from flux_face.tests.comfy_server import COMFYUI
from flux_face.tests.repository import repository_files

# pytest brings tomli where Python has no tomllib yet.
tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

# Pulled in by a requirement, these replace what a user's ComfyUI runs on: CUDA builds, the other opencv.
NEVER_REQUIRED = {
    "insightface",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "opencv-contrib-python",
    "opencv-python",
    "opencv-python-headless",
    "torch",
    "torchaudio",
    "torchvision",
}

# Looked for on first use; without them the pack says what is missing, or does without.
OPTIONAL = {
    "boto3",
    "botocore",
    "cryptography",
    "cv2",
    "huggingface_hub",
    "insightface",
    "onnxruntime",
    "triton",
}


def _requirements() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower().replace("_", "-")


def _third_party_imports() -> set[str]:
    """Top-level modules that the published pack imports, at once or on first use."""
    found: set[str] = set()
    files = [ROOT / "__init__.py", ROOT / "extension.py"]
    for room in ("catalogue", "doctor", "nodes", "server_routes", "workflows"):
        files += (ROOT / room).rglob("*.py")
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names


def _pyproject() -> dict[str, Any]:
    data: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return data


def test_requirements_leave_a_users_comfyui_alone() -> None:
    assert {_name(requirement) for requirement in _requirements()} & NEVER_REQUIRED == set()


def test_requirements_suit_a_reader_of_single_lines() -> None:
    # ComfyUI-Manager gives pip one line at a time: no options, no continuation, no upper bound to force a downgrade.
    for requirement in _requirements():
        assert re.fullmatch(r"[A-Za-z0-9._-]+>=[0-9.]+", requirement), requirement


def test_every_requirement_has_its_reason() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    for above, line in zip(["", *lines], lines, strict=False):
        assert line.startswith("#") or above.startswith("#"), line


def test_requirements_name_what_the_pack_imports() -> None:
    """Nothing is missing, beyond what ComfyUI itself requires and what is optional, and nothing is named in vain."""
    installed_as = {"pillow": "PIL", "pyyaml": "yaml"}
    comfyui_lines = (COMFYUI / "requirements.txt").read_text(encoding="utf-8").splitlines()
    of_comfyui = {_name(line) for line in comfyui_lines if re.match("[A-Za-z]", line)}
    ours = {_name(requirement) for requirement in _requirements()}
    modules = {name: installed_as.get(name, name.replace("-", "_")) for name in of_comfyui | ours}
    comfyui_modules = {path.stem for path in COMFYUI.iterdir()}
    imported = _third_party_imports() - comfyui_modules
    assert imported - set(modules.values()) - OPTIONAL == set()
    assert {name for name in ours if modules[name] not in imported} == set()


def test_pyproject_and_requirements_agree() -> None:
    assert _pyproject()["project"]["dependencies"] == _requirements()


def test_registry_metadata() -> None:
    data = _pyproject()
    project, comfy = data["project"], data["tool"]["comfy"]
    assert re.fullmatch(r"[a-z][a-z0-9-]{0,99}", project["name"])
    assert "comfyui" not in project["name"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert project["license"] == {"file": "LICENSE"}
    assert project["urls"]["Repository"].startswith("https://")
    assert comfy["PublisherId"]
    assert comfy["requires-comfyui"] == f">={COMFYUI_VERSION}"
    # The folder is served under its own name by WEB_DIRECTORY; both together load every script twice.
    assert "web" not in comfy


def test_changelog_has_the_version() -> None:
    assert f"## [{_pyproject()['project']['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_licence_is_gpl3() -> None:
    head = (ROOT / "LICENSE").read_text(encoding="utf-8")[:200]
    assert "GNU GENERAL PUBLIC LICENSE" in head
    assert "Version 3" in head


def test_lock_is_complete_and_names_no_index() -> None:
    for name in ("dev.lock", "installer.lock"):
        lock = (ROOT / "requirements" / name).read_text(encoding="utf-8")
        pins = re.findall(r"^([A-Za-z0-9._-]+)==(.*)$", lock, flags=re.MULTILINE)
        assert pins
        # A pin's line goes on with its first hash.
        assert [pin for pin in pins if not pin[1].endswith("\\")] == []
        assert "://" not in lock
        assert "--index" not in lock
    names = {_name(line) for line in (ROOT / "requirements" / "dev.lock").read_text(encoding="utf-8").splitlines()}
    assert {_name(requirement) for requirement in _requirements()} <= names


def _texts() -> dict[str, str]:
    binary = {".gguf", ".safetensors", ".png", ".jpg", ".jpeg", ".webp", ".npz", ".npy", ".onnx", ".pt"}
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for path in repository_files()
        if path.suffix not in binary
    }


def test_no_machine_paths_or_registry_hosts() -> None:
    # Spelled so that this file does not hold them.
    words = ["/" + "work/", "/" + "root/.", "python" + "hosted", "pypi" + r"\.org"]
    forbidden = re.compile("|".join(words))
    found = [f"{name}: {hit[0]}" for name, text in _texts().items() if (hit := forbidden.search(text))]
    assert found == []


def test_no_code_from_data() -> None:
    words = [r"(?<![\w.])(?:eval|exec)\(", r"\bpickle\b", r"\bmarshal\b", "weights_only=False", "shell=True"]
    calls = re.compile("|".join(words))
    found = [
        f"{name}: {hit[0]}"
        for name, text in _texts().items()
        if name.endswith(".py") and name != "tests/pack/test_packaging.py" and (hit := calls.search(text))
    ]
    assert found == []


def test_only_v3_nodes() -> None:
    # ComfyUI calls no comfy_entrypoint where it finds this name.
    definition = re.compile(r"^\s*NODE_CLASS_MAPPINGS\s*[:=]", flags=re.MULTILINE)
    assert [name for name, text in _texts().items() if name.endswith(".py") and definition.search(text)] == []


def test_pack_imports_itself_relatively() -> None:
    # Inside ComfyUI the pack has no name of its own; `flux_face` exists in tests and in the tools that register it.
    absolute = re.compile(r"^\s*(?:from|import) flux_face\b", flags=re.MULTILINE)
    found = [name for name, text in _texts().items() if name.endswith(".py") and absolute.search(text)]
    assert [name for name in found if not name.startswith(("tests/", "devtools/")) and name != "dev.py"] == []


def test_json_files_parse() -> None:
    for path in repository_files():
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))


def test_committed_files_are_small() -> None:
    sizes = {path.relative_to(ROOT).as_posix(): path.stat().st_size for path in repository_files()}
    weights = {name: size for name, size in sizes.items() if name.startswith("starter/models/")}
    assert sum(weights.values()) <= 16 * 10**6
    assert {name: size for name, size in sizes.items() if size > 2 * 10**6 and name not in weights} == {}
