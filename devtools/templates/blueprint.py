"""A graph as one node: a subgraph that ComfyUI's node library offers."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from .graph import Link, adds_control, convert, inputs_of
from .layout import WIDTH, place
from .sources import Source

Json = dict[str, Any]

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "flux-face/subgraphs")
_CATEGORY = "Flux Face"
# The web page's own numbers of a subgraph's two ends.
_INPUT, _OUTPUT = -10, -20
_SLOT, _END_WIDTH, _END_GAP = 20, 140, 120


def blueprint(source: Source, definitions: Mapping[str, Json]) -> Json:
    """A workflow with one node, which holds the graph.

    Args:
        source: with inputs and outputs.
        definitions: answer of ComfyUI's ``/object_info``.
    """
    nodes, links = convert(source.graph, definitions)
    frames = place(source.groups, nodes, definitions)
    right = max(frame["frame"]["bounding"][0] + frame["frame"]["bounding"][2] for frame in frames)
    inputs = [
        _input(source, name, (-_END_GAP, 40 + place_ * _SLOT), nodes, links)
        for place_, name in enumerate(source.inputs)
    ]
    outputs = [
        _output(source, name, (right + _END_GAP, 40 + place_ * _SLOT), nodes, links)
        for place_, name in enumerate(source.outputs)
    ]
    identity = str(uuid.uuid5(_NAMESPACE, source.name))
    subgraph = {
        "id": identity,
        "version": 1,
        "state": {
            "lastGroupId": len(frames),
            "lastNodeId": len(nodes),
            "lastLinkId": len(links),
            "lastRerouteId": 0,
        },
        "revision": 0,
        "config": {},
        "name": source.name,
        "inputNode": {"id": _INPUT, "bounding": [-_END_GAP - _END_WIDTH, 20, _END_WIDTH, 40 + len(inputs) * _SLOT]},
        "outputNode": {"id": _OUTPUT, "bounding": [right + _END_GAP, 20, _END_WIDTH, 40 + len(outputs) * _SLOT]},
        "inputs": inputs,
        "outputs": outputs,
        "widgets": [],
        "nodes": list(nodes.values()),
        "groups": [{"id": number, **frame["frame"]} for number, frame in enumerate(frames, start=1)],
        "links": [link.record() for link in links],
        "extra": {"workflowRendererVersion": "LG"},
        "category": _CATEGORY,
        "description": source.description,
    }
    return {
        "revision": 0,
        "last_node_id": 1,
        "last_link_id": 0,
        "nodes": [_shell(source, identity, nodes, definitions)],
        "links": [],
        "version": 0.4,
        "definitions": {"subgraphs": [subgraph]},
        "extra": {},
    }


def _input(source: Source, name: str, pos: tuple[int, int], nodes: Mapping[str, Json], links: list[Link]) -> Json:
    slot = list(source.inputs).index(name)
    fed = []
    kind = ""
    for key, socket_name in source.inputs[name]:
        target = nodes[key]
        at = next(place_ for place_, socket in enumerate(target["inputs"]) if socket["name"] == socket_name)
        kind = target["inputs"][at]["type"]
        links.append(Link(len(links) + 1, _INPUT, slot, target["id"], at, kind))
        target["inputs"][at]["link"] = len(links)
        fed.append(len(links))
    return {"id": _slot_id(source, "input", name), "name": name, "type": kind, "linkIds": fed, "pos": list(pos)}


def _output(source: Source, name: str, pos: tuple[int, int], nodes: Mapping[str, Json], links: list[Link]) -> Json:
    key, number = source.outputs[name]
    output = nodes[key]["outputs"][number]
    slot = list(source.outputs).index(name)
    links.append(Link(len(links) + 1, nodes[key]["id"], number, _OUTPUT, slot, output["type"]))
    output["links"].append(len(links))
    return {
        "id": _slot_id(source, "output", name),
        "name": name,
        "type": output["type"],
        "linkIds": [len(links)],
        "pos": list(pos),
    }


def _slot_id(source: Source, end: str, name: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"{source.name}/{end}/{name}"))


def _shell(source: Source, identity: str, nodes: Mapping[str, Json], definitions: Mapping[str, Json]) -> Json:
    """The node that stands for the subgraph."""
    sockets, widgets = [], []
    for name, fed in source.inputs.items():
        key, inner = fed[0]
        socket = next(socket for socket in nodes[key]["inputs"] if socket["name"] == inner)
        row: Json = {"name": name, "type": socket["type"], "link": None}
        if "widget" in socket:
            row["widget"] = {"name": name}
            widgets.append([str(nodes[key]["id"]), inner])
            options = {named: (kind, rest) for named, kind, rest in inputs_of(definitions[nodes[key]["type"]])}
            if adds_control(inner, *options[inner]):
                widgets.append([str(nodes[key]["id"]), "control_after_generate"])
        sockets.append(row)
    return {
        "id": 1,
        "type": identity,
        "title": source.name,
        "pos": [0, 0],
        "size": [WIDTH, 420],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": sockets,
        "outputs": [
            {"name": name, "type": nodes[key]["outputs"][number]["type"], "links": []}
            for name, (key, number) in source.outputs.items()
        ],
        "properties": {"proxyWidgets": widgets},
        "widgets_values": [],
    }
