"""Where the nodes, notes and groups of a template lie, in pixels of the canvas.

The page draws nodes in two ways, on a canvas or as elements, and keeps one size for both: each node gets what the
larger of the two needs, so that nothing overlaps.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .graph import adds_control, inputs_of, is_widget
from .sources import Group

Json = dict[str, Any]

WIDTH = 340
_GAP, _PADDING = 30, 20
_COLUMN = WIDTH + 2 * _PADDING + 40
# Of a node's title, which lies above its position, and of a group's.
_TITLE, _GROUP_TITLE = 30, 40
# What a long text and a picture take besides.
_TEXT, _PICTURE, _PICTURE_ON_CANVAS = 90, 240, 190
_LINE, _LINE_LENGTH, _NOTE_FRAME, _NOTE = 17, 54, 30, 88

# Nodes that show pictures besides those that end a graph.
_WITH_PICTURE = frozenset(
    {"FluxFaceLoadPhoto", "FluxFaceSwapFace", "FluxFaceDetectFaces", "FluxFaceSelectFaces", "LoadImage"}
)
# What nodes show after a run otherwise: a text, or the panels of web/qa_inspector.js with their margins.
_PANELS = {"PreviewAny": 90, "FluxFaceSkinToneQA": 264, "FluxFaceRetry": 274, "FluxFaceJobOutput": 264}
# Where Swap Face puts in several people, who goes where stands above its pictures.
_ASSIGNMENT = 240


def place(groups: Sequence[Group], nodes: Mapping[str, Json], definitions: Mapping[str, Json]) -> list[Json]:
    """Give the nodes their place and size; returns the notes, as nodes without a number, and the groups.

    Args:
        nodes: by their keys in the groups; changed in place.
        definitions: answer of ComfyUI's ``/object_info``.
    """
    heights: dict[int, int] = {}
    frames = []
    for group in groups:
        left, top = group.column * _COLUMN, heights.get(group.column, 0)
        x, y = left + _PADDING, top + _GROUP_TITLE
        notes = [_note(group.note)] if group.note else []
        for node in (*notes, *(nodes[key] for key in group.nodes)):
            height = node["size"][1] or node_height(node, definitions[node["type"]])
            node["pos"], node["size"] = [x, y + _TITLE], [WIDTH, height]
            if group.collapsed and node not in notes:
                node["flags"]["collapsed"] = True
                height = 0
            y += _TITLE + height + _GAP
        bounding = [left, top, WIDTH + 2 * _PADDING, y - _GAP + _PADDING - top]
        frames.append({"notes": notes, "frame": {"title": group.title, "bounding": bounding, "color": "#3f789e"}})
        heights[group.column] = top + bounding[3] + _GAP
    return frames


def node_height(node: Json, definition: Json) -> int:
    """Least height without the title in which either renderer shows all, from measurements of both."""
    simple = long = folded = 0
    uploads = False
    for name, kind, options in inputs_of(definition):
        if is_widget(kind, options):
            count = 2 if adds_control(name, kind, options) else 1
            long += bool(options.get("multiline"))
            folded += count if options.get("advanced") else 0
            simple += 0 if options.get("multiline") or options.get("advanced") else count
            uploads = uploads or bool(options.get("image_upload"))
    sockets = max(sum("widget" not in socket for socket in node["inputs"]), len(node["outputs"]))
    # The canvas keeps room for what is folded, and has a button for uploads; elements have a row to unfold it and one
    # with the pack's name, and show a seed and what becomes of it in one row.
    canvas = 6 + 20 * sockets + 8 + 24 * (simple + folded + uploads)
    elements = 14 + 20 * sockets + 28 * simple + 24 * bool(folded) + 24 * _is_ours(definition)
    if node["type"] in _PANELS:
        panel = _PANELS[node["type"]]
        canvas, elements = canvas + panel, elements + panel
    elif definition["output_node"] or node["type"] in _WITH_PICTURE:
        canvas, elements = canvas + _PICTURE_ON_CANVAS, elements + _PICTURE
    several = any(socket["name"] == "identity" and socket["link"] for socket in node["inputs"])
    return max(canvas, elements) + _TEXT * long + _ASSIGNMENT * (several and node["type"] == "FluxFaceSwapFace")


def _is_ours(definition: Json) -> bool:
    return str(definition["python_module"]).startswith("custom_nodes")


def _note(text: str) -> Json:
    visible = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    height = _NOTE_FRAME + math.ceil(len(visible) / _LINE_LENGTH) * _LINE
    return {
        "type": "MarkdownNote",
        "title": "What to do",
        "pos": [0, 0],
        "size": [WIDTH, max(height, _NOTE)],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "properties": {},
        "widgets_values": [text],
        "color": "#432",
        "bgcolor": "#653",
    }
