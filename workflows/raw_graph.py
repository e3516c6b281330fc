"""A whole graph from a request, made to take its pictures from memory and to hand its results back there.

The shape is that of runpod-workers/worker-comfyui: ``input.workflow`` in API format and ``input.images``, whose names
its LoadImage nodes mention. Those nodes are exchanged for ones that read the request's pictures, and SaveImage and
PreviewImage for ones that hand theirs back, so that nothing is written to disk. All other nodes stay as they are, but
ours write no previews.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from .profiles import OUTPUT_CLASS, Binding, Graph, Profile

NAME = "workflow"
"""What such a graph is called where a profile has its name."""

IMAGE_CLASS = "FluxFaceRequestImage"
_SAVING = frozenset({"SaveImage", "PreviewImage"})


class RawGraphError(ValueError):
    """The graph cannot be run for a request; the message says why."""


def adopt(graph: Mapping[str, Mapping[str, Any]], images: Collection[str]) -> Profile:
    """A profile out of a request's graph.

    Args:
        graph: in API format.
        images: names of the request's pictures; each becomes the field ``images.<name>``.

    Raises:
        RawGraphError: nothing in the graph hands pictures back, or it uses none of a picture's name.
    """
    adopted: Graph = copy.deepcopy({node_id: dict(node) for node_id, node in graph.items()})
    bindings: dict[str, tuple[Binding, ...]] = {}
    for node_id, node in adopted.items():
        name = node["inputs"].get("image")
        if node["class_type"] == "LoadImage" and isinstance(name, str) and name in images:
            adopted[node_id] = {"class_type": IMAGE_CLASS, "inputs": {"photo": ""}}
            field = image_field(name)
            bindings[field] = (*bindings.get(field, ()), Binding(node_id, "photo"))
        elif node["class_type"] in _SAVING and "images" in node["inputs"]:
            adopted[node_id] = {"class_type": OUTPUT_CLASS, "inputs": {"images": node["inputs"]["images"]}}
    outputs = tuple(
        Binding(node_id, "job_id") for node_id, node in adopted.items() if node["class_type"] == OUTPUT_CLASS
    )
    if not outputs:
        raise RawGraphError("no node of the graph is a SaveImage, PreviewImage or FluxFaceJobOutput")
    unused = sorted(name for name in images if image_field(name) not in bindings)
    if unused:
        raise RawGraphError(f"no LoadImage node of the graph names {unused[0]!r}")
    bindings["job_id"] = outputs
    return Profile(NAME, MappingProxyType(adopted), MappingProxyType(bindings), MappingProxyType({}))


def image_field(name: str) -> str:
    """The request field of the picture of that name."""
    return f"images.{name}"
