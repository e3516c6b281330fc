"""Graphs made with ComfyUI-ReActor, where that pack is not installed: its nodes that have a counterpart among ours.

They are replaced in what is submitted, and the web page offers to replace them in what is opened. A node that some pack
has registered is left alone. docs/reactor.md tells users what differs.
"""

from __future__ import annotations

from typing import Any

import nodes as comfy_nodes
from comfy_api.latest import ComfyAPI, io
from server import PromptServer

Json = dict[str, Any]

_SWAP_WIDGETS = [
    "enabled",
    "swap_model",
    "facedetection",
    "face_restore_model",
    "face_restore_visibility",
    "codeformer_weight",
]
_SWAP_INPUTS = [
    {"new_id": "images", "old_id": "input_image"},
    {"new_id": "photo", "old_id": "source_image"},
    {"new_id": "identity", "old_id": "face_model"},
    # Off draws nothing, as a share of 0 does.
    {"new_id": "blend", "old_id": "enabled"},
    # What ReActor does where its index is left at 0.
    {"new_id": "target", "set_value": "largest"},
    {"new_id": "several_faces_in_photo", "set_value": "largest"},
    {"new_id": "colour_match", "set_value": 1.0},
]


def _swap(old_node_id: str, *more_widgets: str) -> io.NodeReplace:
    return io.NodeReplace(
        new_node_id="FluxFaceSwapFace",
        old_node_id=old_node_id,
        old_widget_ids=[*_SWAP_WIDGETS, *more_widgets],
        input_mapping=_SWAP_INPUTS,
        output_mapping=[{"old_idx": 0, "new_idx": 0}],
    )


REPLACEMENTS: tuple[io.NodeReplace, ...] = (
    _swap(
        "ReActorFaceSwap",
        "detect_gender_input",
        "detect_gender_source",
        "input_faces_index",
        "source_faces_index",
        "console_log_level",
    ),
    _swap("ReActorFaceSwapOpt"),
    io.NodeReplace(
        new_node_id="FluxFaceLoadIdentity",
        old_node_id="ReActorLoadFaceModel",
        old_widget_ids=["face_model"],
        input_mapping=[{"new_id": "file", "old_id": "face_model"}],
        output_mapping=[{"old_idx": 0, "new_idx": 0}],
    ),
    io.NodeReplace(
        new_node_id="FluxFaceFaceIdentity",
        old_node_id="ReActorBuildFaceModel",
        old_widget_ids=["save_mode", "send_only", "face_model_name", "compute_method"],
        input_mapping=[
            {"new_id": "photos", "old_id": "images"},
            {"new_id": "combine", "set_value": "mean"},
            {"new_id": "outliers", "set_value": "keep"},
            {"new_id": "outlier_limit", "set_value": 0.3},
            {"new_id": "several_faces_in_photo", "set_value": "largest"},
        ],
        output_mapping=[{"old_idx": 0, "new_idx": 0}],
    ),
    io.NodeReplace(
        new_node_id="FluxFaceFaceSimilarity",
        old_node_id="ReActorFaceSimilarity",
        old_widget_ids=[],
        input_mapping=[{"new_id": "images", "old_id": "image1"}, {"new_id": "photo", "old_id": "image2"}],
        output_mapping=[{"old_idx": 0, "new_idx": 0}, {"old_idx": 1, "new_idx": 1}],
    ),
)

_BY_OLD_ID = {replacement.old_node_id: replacement for replacement in REPLACEMENTS}


async def register_replacements() -> None:
    """Make them known to ComfyUI; once, at start."""
    api = ComfyAPI()
    for replacement in REPLACEMENTS:
        await api.node_replacement.register(replacement)
    PromptServer.instance.add_on_prompt_handler(replace)


def replace(request: Json) -> Json:
    """Replace ReActor's nodes in a graph that is submitted.

    ComfyUI 0.30 would do it next, but fails where a mapped input that is optional is left out, where a node has no
    ``_meta``, and, by chance, where two nodes that it replaces are connected. What it would have changed is the same.
    """
    for node in request.get("prompt", {}).values():
        replacement = _BY_OLD_ID.get(node.get("class_type"))
        if replacement is None or replacement.old_node_id in comfy_nodes.NODE_CLASS_MAPPINGS:
            continue
        old = node["inputs"]
        node["class_type"] = replacement.new_node_id
        # Outputs that are mapped keep their places.
        node["inputs"] = {
            mapped["new_id"]: mapped["set_value"] if "set_value" in mapped else old[mapped["old_id"]]
            for mapped in replacement.input_mapping
            if "set_value" in mapped or mapped["old_id"] in old
        }
    return request
