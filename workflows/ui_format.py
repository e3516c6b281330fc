"""API-format graphs to the UI-format templates beside them, so that the two cannot drift apart.

Run it against a ComfyUI that has the pack; the node definitions come from there::

    python workflows/ui_format.py http://127.0.0.1:8188
"""

from __future__ import annotations

import argparse
import json
import logging
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

Json = dict[str, Any]

HERE = Path(__file__).parent
_WIDGET_TYPES = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "flux-face/workflows")
_COLUMN, _WIDTH, _GAP = 380, 320, 50  # pixels of the canvas
_TITLE, _ROW, _TEXT = 40, 26, 140


def convert(name: str, graph: Mapping[str, Json], definitions: Mapping[str, Json]) -> Json:
    """One graph in workflow format 0.4, laid out in columns from loaders to outputs.

    Args:
        name: of the template; its id is derived from it.
        graph: API format.
        definitions: answer of ComfyUI's ``/object_info``, at least for the graph's node types.
    """
    depths = _depths(graph)
    order = sorted(graph, key=lambda node_id: (depths[node_id], list(graph).index(node_id)))
    numbers = {node_id: number for number, node_id in enumerate(order, start=1)}
    nodes = [_node(numbers[key], graph[key], definitions[graph[key]["class_type"]]) for key in order]
    links = _connect(graph, numbers, nodes)
    _place(nodes, [depths[node_id] for node_id in order])
    return {
        "id": str(uuid.uuid5(_NAMESPACE, name)),
        "revision": 0,
        "last_node_id": len(nodes),
        "last_link_id": len(links),
        "nodes": nodes,
        "links": links,
        "groups": [],
        "config": {},
        "extra": {"ds": {"scale": 0.6, "offset": [60, 120]}},
        "version": 0.4,
    }


def _node(number: int, source: Json, definition: Json) -> Json:
    sockets: list[Json] = []
    values: list[Any] = []
    for name, spec in _inputs(definition):
        kind = "COMBO" if isinstance(spec[0], list) else spec[0]
        options = spec[1] if len(spec) > 1 else {}
        socket: Json = {"name": name, "type": kind, "link": None}
        if kind in _WIDGET_TYPES and not options.get("forceInput"):
            socket["widget"] = {"name": name}
            value = source["inputs"].get(name, options.get("default"))
            values.append(options.get("default") if isinstance(value, list) else value)
            # The web page adds this widget to every seed.
            if options.get("control_after_generate") or (kind == "INT" and name in ("seed", "noise_seed")):
                values.append("randomize")
        sockets.append(socket)
    outputs = [
        {"name": name, "type": kind, "links": [], "slot_index": slot}
        for slot, (name, kind) in enumerate(zip(definition["output_name"], definition["output"], strict=True))
    ]
    title = source.get("_meta", {}).get("title", definition["display_name"])
    return {
        "id": number,
        "type": source["class_type"],
        "title": title,
        "pos": [0, 0],
        "size": [_WIDTH, _height(sockets, outputs, definition)],
        "flags": {},
        "order": number - 1,
        "mode": 0,
        # Sockets with a widget come last, as the web page orders them.
        "inputs": sorted(sockets, key=lambda socket: "widget" in socket),
        "outputs": outputs,
        "properties": {"Node name for S&R": source["class_type"]},
        "widgets_values": values,
    }


def _inputs(definition: Json) -> Iterator[tuple[str, list[Any]]]:
    for group in ("required", "optional"):
        specs = definition["input"].get(group, {})
        for name in definition["input_order"].get(group, []):
            yield name, specs[name]


def _connect(graph: Mapping[str, Json], numbers: Mapping[str, int], nodes: list[Json]) -> list[list[Any]]:
    by_number = {node["id"]: node for node in nodes}
    links: list[list[Any]] = []
    for node_id, number in numbers.items():
        target = by_number[number]
        for slot, socket in enumerate(target["inputs"]):
            value = graph[node_id]["inputs"].get(socket["name"])
            if not isinstance(value, list):
                continue
            source = by_number[numbers[value[0]]]
            output = source["outputs"][value[1]]
            link = [len(links) + 1, source["id"], value[1], number, slot, output["type"]]
            links.append(link)
            socket["link"] = link[0]
            output["links"].append(link[0])
    return links


def _depths(graph: Mapping[str, Json]) -> dict[str, int]:
    """Longest way from a node without inputs; nodes without inputs stand just before their first user."""
    depths: dict[str, int] = {}

    def depth(node_id: str) -> int:
        if node_id not in depths:
            depths[node_id] = max((depth(source) + 1 for source in _sources(graph[node_id])), default=0)
        return depths[node_id]

    for node_id in graph:
        depth(node_id)
    for node_id, node in graph.items():
        users = [depths[user] for user, other in graph.items() if node_id in _sources(other)]
        if not _sources(node) and users:
            depths[node_id] = min(users) - 1
    return depths


def _sources(node: Json) -> list[str]:
    return [value[0] for value in node["inputs"].values() if isinstance(value, list)]


def _height(sockets: list[Json], outputs: list[Json], definition: Json) -> int:
    widgets = sum("widget" in socket for socket in sockets)
    rows = max(len(sockets) - widgets, len(outputs)) + widgets
    texts = sum(len(spec) > 1 and bool(spec[1].get("multiline")) for _, spec in _inputs(definition))
    pictures = 2 if definition["output_node"] or definition["name"] == "FluxFaceLoadPhoto" else 0
    return _TITLE + rows * _ROW + (texts + pictures) * _TEXT


def _place(nodes: list[Json], depths: list[int]) -> None:
    heights: dict[int, int] = {}
    for node, depth in zip(nodes, depths, strict=True):
        node["pos"] = [depth * _COLUMN, heights.get(depth, 0)]
        heights[depth] = node["pos"][1] + node["size"][1] + _GAP


def main() -> None:
    """Write ``workflows/NAME.json`` for every ``workflows/api/NAME.json``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("server", help="address of a ComfyUI that has the pack")
    address = parser.parse_args().server.rstrip("/")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{address}/object_info") as answer:
        definitions = json.load(answer)
    for path in sorted((HERE / "api").glob("*.json")):
        template = convert(path.stem, json.loads(path.read_text(encoding="utf-8")), definitions)
        target = HERE / path.name
        target.write_text(json.dumps(template, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        log.info("wrote workflows/%s", target.name)


if __name__ == "__main__":
    main()
