"""What a template is made of: a graph in API format, and how it is shown.

A source is a JSON file::

    {
      "profile": "starter",             the API's graph to begin with; left out, an empty one
      "without": ["output"],            its nodes that the template does not have
      "nodes": {
        "lora": {"class_type": ...},    a node of its own, in API format
        "photo": {"title": "Your face", "inputs": {"photo": "me.jpg"}}    changes to a node that is there
      },
      "groups": [{"title": "1. You", "column": 0, "note": "Markdown ...", "nodes": ["photo"]}]
    }

Groups of one column stand one below the other, and so do a group's note and nodes. A blueprint says besides what its
subgraph shows: ``"inputs": {"photo": [["swap", "photo"], ["qa", "photo"]]}``, each with the inputs that it feeds,
and ``"outputs": {"images": ["retry", 0]}``.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..pack import ROOT

Json = dict[str, Any]

HERE = Path(__file__).parent
TEMPLATES = {path.stem: path for path in sorted((HERE / "sources").glob("*.json"))}
BLUEPRINTS = {path.stem: path for path in sorted((HERE / "blueprints").glob("*.json"))}


@dataclass(frozen=True)
class Group:
    """A framed part of a template.

    Attributes:
        note: Markdown for the user; empty for none.
        nodes: keys of the graph, from top to bottom.
        column: its place from the left, from 0.
        collapsed: whether its nodes show their titles only.
    """

    title: str
    note: str
    nodes: tuple[str, ...]
    column: int
    collapsed: bool


@dataclass(frozen=True)
class Source:
    """A template or blueprint before its layout.

    Attributes:
        graph: API format.
        inputs, outputs, description: of a blueprint; see the module.
    """

    name: str
    graph: Json
    groups: tuple[Group, ...]
    inputs: Mapping[str, tuple[tuple[str, str], ...]]
    outputs: Mapping[str, tuple[str, int]]
    description: str


def read_source(path: Path) -> Source:
    """Read a source and build its graph.

    Raises:
        ValueError: a node is in no group or in two.
    """
    data: Json = json.loads(path.read_text(encoding="utf-8"))
    graph: Json = {}
    if "profile" in data:
        graph = json.loads((ROOT / "workflows" / "api" / f"{data['profile']}.json").read_text(encoding="utf-8"))
    for key in data.get("without", ()):
        del graph[key]
    for key, change in data.get("nodes", {}).items():
        graph[key] = _changed(graph[key], change) if key in graph else change
    groups = tuple(
        Group(row["title"], row.get("note", ""), tuple(row["nodes"]), row["column"], row.get("collapsed", False))
        for row in data["groups"]
    )
    shown = sorted(key for group in groups for key in group.nodes)
    if shown != sorted(graph):
        raise ValueError(f"{path.name}: groups have {shown}, the graph has {sorted(graph)}")
    return Source(
        path.stem,
        graph,
        groups,
        {name: tuple((node, socket) for node, socket in fed) for name, fed in data.get("inputs", {}).items()},
        {name: (node, number) for name, (node, number) in data.get("outputs", {}).items()},
        data.get("description", ""),
    )


def _changed(node: Json, change: Json) -> Json:
    changed = copy.deepcopy(node)
    changed["inputs"].update(change.get("inputs", {}))
    if "title" in change:
        changed["_meta"]["title"] = change["title"]
    return changed
