"""The help pages that the web page shows: one per node, with exactly the node's inputs, outputs and errors.

The front-end asks for ``docs/<node>/<locale>.md`` and, where that is missing, for ``docs/<node>.md``, which is what is
written here, for every locale. The loaders under the community's ids have no pages: their tooltips are shown instead.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from flux_face.devtools.pack import ROOT
from flux_face.nodes.face.nodes import NODES as FACE_NODES
from flux_face.nodes.gguf.nodes import NODES as GGUF_NODES
from flux_face.nodes.job.nodes import NODES as JOB_NODES
from flux_face.nodes.retry.nodes import NODES as RETRY_NODES
from flux_face.nodes.skin.nodes import NODES as SKIN_NODES

PAGES = ROOT / "web" / "docs"
SOURCE = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "nodes").rglob("*.py")))

_INFOS = [node.GET_NODE_INFO_V1() for node in (*FACE_NODES, *GGUF_NODES, *JOB_NODES, *RETRY_NODES, *SKIN_NODES)]
INFOS: dict[str, dict[str, Any]] = {info["name"]: info for info in _INFOS if not info["dev_only"]}

# A table's first cell: a name in backticks, and perhaps a mark.
_ROW = re.compile(r"^\| `(\w+)`(?: \((\w+)\))? \|", re.MULTILINE)
_ABSOLUTE_PATH = re.compile(r"(?<![\w.:/])/\w|\b[A-Za-z]:\\|~/|file://")


def _read(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


def _rows(page: str, heading: str) -> dict[str, str]:
    """Names in the tables of a section, in order, with their marks."""
    _, _, rest = page.partition(f"\n## {heading}\n")
    return dict(_ROW.findall(rest.partition("\n## ")[0]))


def test_every_node_has_a_page_and_every_page_a_node() -> None:
    assert {path.relative_to(PAGES).as_posix() for path in PAGES.rglob("*.md")} == {f"{name}.md" for name in INFOS}


@pytest.mark.parametrize("name", INFOS)
def test_a_page_has_the_schemas_names(name: str) -> None:
    info, page = INFOS[name], _read(name)
    inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    advanced = {key: "advanced" if spec[1].get("advanced") else "" for key, spec in inputs.items()}
    assert page.startswith(f"# {info['display_name']}\n")
    assert _rows(page, "Inputs") == advanced
    assert list(_rows(page, "Outputs")) == info["output_name"]


@pytest.mark.parametrize("name", INFOS)
def test_a_page_names_only_codes_of_the_code(name: str) -> None:
    page = _read(name)
    codes = [*_rows(page, "What can go wrong"), *_rows(page, "Reasons")]
    assert [code for code in codes if f'"{code}"' not in SOURCE] == []


def test_every_error_is_on_a_page() -> None:
    raised = set(re.findall(r'UserInputError\(\s*"(\w+)"', SOURCE))
    explained = {code for name in INFOS for code in _rows(_read(name), "What can go wrong")}
    assert raised
    assert raised - explained == set()


def test_pages_name_no_absolute_path() -> None:
    assert [name for name in INFOS if _ABSOLUTE_PATH.search(_read(name))] == []
