"""Every node as ComfyUI shows it: loaded, documented, and with the inputs that workflows rely on."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from flux_face.devtools.pack import ROOT
from flux_face.tests.comfy_server import Comfy

SIGNATURES = ROOT / "tests" / "pack" / "signatures.json"
# signatures.json as it was in each version that was published.
RELEASED = sorted((ROOT / "tests" / "pack" / "released").glob("*.json"))
# Types that have a widget: a saved workflow keeps their values by position, and its lines by name.
WIDGETS = {"BOOLEAN", "COMBO", "FLOAT", "INT", "STRING"}

# Promised to workflows and API users; a node is never renamed.
PROMISED = {
    "CLIPLoaderGGUF",
    "DualCLIPLoaderGGUF",
    "FluxFaceCLIPLoaderGGUF",
    "FluxFaceCombineIdentities",
    "FluxFaceDetectFaces",
    "FluxFaceDualCLIPLoaderGGUF",
    "FluxFaceFaceIdentity",
    "FluxFaceFaceMask",
    "FluxFaceFaceSimilarity",
    "FluxFaceGGUFInfo",
    "FluxFaceJobOutput",
    "FluxFaceLoadFaceEngine",
    "FluxFaceLoadIdentity",
    "FluxFaceLoadPhoto",
    "FluxFaceMendSkin",
    "FluxFaceRetry",
    "FluxFaceSaveIdentity",
    "FluxFaceSelectFaces",
    "FluxFaceSkinGate",
    "FluxFaceSkinToneQA",
    "FluxFaceSwapFace",
    "FluxFaceSwapOptions",
    "FluxFaceTripleCLIPLoaderGGUF",
    "FluxFaceUnetLoaderGGUF",
    "TripleCLIPLoaderGGUF",
    "UnetLoaderGGUF",
}

Nodes = dict[str, dict[str, Any]]


@pytest.fixture(scope="session")
def nodes(comfy: Comfy) -> Nodes:
    """The pack's nodes in ``/object_info``."""
    found = {
        name: info
        for name, info in comfy.get("/object_info").items()
        if info["python_module"] == "custom_nodes.flux-face"
    }
    assert found, f"ComfyUI did not load the pack:\n{comfy.log()}"
    return found


def test_the_pack_loads_without_complaint(comfy: Comfy) -> None:
    assert "(IMPORT FAILED)" not in comfy.log()
    complaints = [line for line in comfy.log().splitlines() if "custom_nodes/flux-face" in line and "WARNING" in line]
    assert complaints == []


def test_every_promised_node_is_there(nodes: Nodes) -> None:
    assert PROMISED - nodes.keys() == set()


def test_other_nodes_have_our_prefix(nodes: Nodes) -> None:
    assert [name for name in nodes if name not in PROMISED and not name.startswith("FluxFace")] == []


def test_every_node_is_described(nodes: Nodes) -> None:
    assert [name for name, info in nodes.items() if not info["description"]] == []
    assert [name for name, info in nodes.items() if not info["category"].startswith("Flux Face")] == []
    # A node without a display name is shown by its id.
    assert [name for name, info in nodes.items() if info["display_name"] in (None, name)] == []


def test_every_input_has_a_tooltip(nodes: Nodes) -> None:
    bare = [
        f"{name}.{input_name}"
        for name, info in nodes.items()
        for input_name, spec in _inputs(info).items()
        if not (len(spec) > 1 and spec[1].get("tooltip"))
    ]
    assert bare == []


def test_every_output_has_a_tooltip(nodes: Nodes) -> None:
    bare = [
        f"{name}.{output}"
        for name, info in nodes.items()
        for output, tooltip in zip(info["output_name"], info["output_tooltips"], strict=True)
        if not tooltip
    ]
    assert bare == []


def test_nodes_are_found_by_other_words(nodes: Nodes) -> None:
    assert [name for name, info in nodes.items() if not info["search_aliases"] and not info["dev_only"]] == []


def test_signatures_are_the_recorded_ones(nodes: Nodes, request: pytest.FixtureRequest) -> None:
    """A change of a node's inputs or outputs breaks saved workflows: it must be meant, and show in a diff."""
    found = {name: _signature(info) for name, info in sorted(nodes.items())}
    if request.config.getoption("--update-signatures"):
        SIGNATURES.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    recorded = json.loads(SIGNATURES.read_text(encoding="utf-8"))
    assert found == recorded, "If this is meant: python3 dev.py test tests/pack --update-signatures"


def test_the_last_version_is_recorded() -> None:
    """What CHANGELOG.md calls a version has its signatures here, to be kept from then on."""
    versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert [path.stem for path in RELEASED] == sorted(versions)


@pytest.mark.parametrize("version", RELEASED, ids=lambda path: path.stem)
def test_signatures_only_grow(version: Path) -> None:
    """A workflow that was saved with a published version opens and runs as it did."""
    now = json.loads(SIGNATURES.read_text(encoding="utf-8"))
    published = json.loads(version.read_text(encoding="utf-8"))
    for name, then in ((name, published[name]) for name in PROMISED & published.keys()):
        before, after = _inputs({"input": then}), _inputs({"input": now[name]})
        assert before.items() <= after.items(), name
        assert set(now[name].get("required", {})) <= before.keys(), f"{name}: a new input is optional"
        widgets = [key for key, kind in before.items() if kind in WIDGETS]
        assert [key for key, kind in after.items() if kind in WIDGETS][: len(widgets)] == widgets, name
        assert now[name]["outputs"][: len(then["outputs"])] == then["outputs"], name


def _inputs(info: dict[str, Any]) -> dict[str, Any]:
    return {**info["input"].get("required", {}), **info["input"].get("optional", {})}


def _signature(info: dict[str, Any]) -> dict[str, Any]:
    """What a saved workflow depends on: names, types, order, and what must be given."""
    return {
        kind: {name: spec[0] if isinstance(spec[0], str) else "COMBO" for name, spec in group.items()}
        for kind, group in info["input"].items()
        if kind != "hidden"
    } | {"outputs": [list(pair) for pair in zip(info["output_name"], info["output"], strict=True)]}
