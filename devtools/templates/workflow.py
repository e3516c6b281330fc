"""Whole templates as files of the web page."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from .graph import convert
from .layout import place
from .sources import Source

Json = dict[str, Any]

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "flux-face/workflows")


def workflow(source: Source, definitions: Mapping[str, Json]) -> Json:
    """A template in workflow format 0.4; its id is derived from its name.

    No view is stored: without one the page shows the whole.

    Args:
        definitions: answer of ComfyUI's ``/object_info``.
    """
    nodes, links = convert(source.graph, definitions)
    frames = place(source.groups, nodes, definitions)
    notes = [note for frame in frames for note in frame["notes"]]
    for number, note in enumerate(notes, start=len(nodes) + 1):
        note["id"] = number
        note["order"] = number - 1
    return {
        "id": str(uuid.uuid5(_NAMESPACE, source.name)),
        "revision": 0,
        "last_node_id": len(nodes) + len(notes),
        "last_link_id": len(links),
        "nodes": [*nodes.values(), *notes],
        "links": [link.row() for link in links],
        "groups": [{"id": number, **frame["frame"]} for number, frame in enumerate(frames, start=1)],
        "config": {},
        "extra": {},
        "version": 0.4,
    }
