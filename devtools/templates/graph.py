"""Graphs in API format to nodes and links as the web page keeps them (workflow format 0.4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .model_links import model_links

Json = dict[str, Any]

_WIDGET_TYPES = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})


@dataclass(frozen=True)
class Link:
    """A wire: which output of which node feeds which input; nodes by number, slots by place."""

    number: int
    source: int
    source_slot: int
    target: int
    target_slot: int
    kind: str

    def row(self) -> list[Any]:
        """As a workflow lists it."""
        return [self.number, self.source, self.source_slot, self.target, self.target_slot, self.kind]

    def record(self) -> Json:
        """As a subgraph lists it."""
        return {
            "id": self.number,
            "origin_id": self.source,
            "origin_slot": self.source_slot,
            "target_id": self.target,
            "target_slot": self.target_slot,
            "type": self.kind,
        }


def convert(graph: Mapping[str, Json], definitions: Mapping[str, Json]) -> tuple[dict[str, Json], list[Link]]:
    """The nodes of a graph by their keys, numbered from 1 in the order in which they can run, and its links.

    Args:
        graph: API format.
        definitions: answer of ComfyUI's ``/object_info``, at least for the graph's node types.
    """
    order = _order(graph)
    nodes = {
        key: _node(number, graph[key], definitions[graph[key]["class_type"]])
        for number, key in enumerate(order, start=1)
    }
    return nodes, _connect(graph, nodes)


def inputs_of(definition: Json) -> Iterator[tuple[str, str, Json]]:
    """Name, type and options of a node's inputs, in the web page's order."""
    for group in ("required", "optional"):
        specs = definition["input"].get(group, {})
        for name in definition["input_order"].get(group, []):
            kind, options = specs[name][0], specs[name][1] if len(specs[name]) > 1 else {}
            yield name, "COMBO" if isinstance(kind, list) else kind, options


def is_widget(kind: str, options: Json) -> bool:
    """Whether the web page shows this input as a widget."""
    return kind in _WIDGET_TYPES and not options.get("forceInput")


def adds_control(name: str, kind: str, options: Json) -> bool:
    """Whether the web page adds a widget that says what becomes of the seed after a run."""
    return bool(options.get("control_after_generate")) or (kind == "INT" and name in ("seed", "noise_seed"))


def _node(number: int, source: Json, definition: Json) -> Json:
    sockets: list[Json] = []
    values: list[Any] = []
    for name, kind, options in inputs_of(definition):
        socket: Json = {"name": name, "type": kind, "link": None}
        if is_widget(kind, options):
            socket["widget"] = {"name": name}
            value = source["inputs"].get(name, options.get("default"))
            values.append(options.get("default") if isinstance(value, list) else value)
            if adds_control(name, kind, options):
                values.append("randomize")
        sockets.append(socket)
    properties: Json = {"Node name for S&R": source["class_type"]}
    if links := model_links(values):
        properties["models"] = links
    return {
        "id": number,
        "type": source["class_type"],
        "title": source.get("_meta", {}).get("title", definition["display_name"]),
        "pos": [0, 0],
        "size": [0, 0],
        "flags": {},
        "order": number - 1,
        "mode": 0,
        # Sockets with a widget come last, as the web page orders them.
        "inputs": sorted(sockets, key=lambda socket: "widget" in socket),
        "outputs": [
            {"name": name, "type": kind, "links": [], "slot_index": slot}
            for slot, (name, kind) in enumerate(zip(definition["output_name"], definition["output"], strict=True))
        ],
        "properties": properties,
        "widgets_values": values,
    }


def _connect(graph: Mapping[str, Json], nodes: Mapping[str, Json]) -> list[Link]:
    links: list[Link] = []
    for key, target in nodes.items():
        for slot, socket in enumerate(target["inputs"]):
            value = graph[key]["inputs"].get(socket["name"])
            if not isinstance(value, list):
                continue
            source = nodes[value[0]]
            output = source["outputs"][value[1]]
            link = Link(len(links) + 1, source["id"], value[1], target["id"], slot, output["type"])
            links.append(link)
            socket["link"] = link.number
            output["links"].append(link.number)
    return links


def _order(graph: Mapping[str, Json]) -> list[str]:
    """Keys so that every node comes after those it depends on, else in the graph's order."""
    order: list[str] = []

    def visit(key: str) -> None:
        if key not in order:
            for value in graph[key]["inputs"].values():
                if isinstance(value, list):
                    visit(value[0])
            order.append(key)

    for key in graph:
        visit(key)
    return order
