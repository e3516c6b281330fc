"""The pack's public nodes as ComfyUI describes them to its web page."""

from __future__ import annotations

from typing import Any

from flux_face.nodes.face.nodes import NODES as FACE_NODES
from flux_face.nodes.gguf.nodes import COMMUNITY_NODES
from flux_face.nodes.gguf.nodes import NODES as GGUF_NODES
from flux_face.nodes.job.nodes import NODES as JOB_NODES
from flux_face.nodes.retry.nodes import NODES as RETRY_NODES
from flux_face.nodes.skin.nodes import NODES as SKIN_NODES

Info = dict[str, Any]

_INFOS = [node.GET_NODE_INFO_V1() for node in (*GGUF_NODES, *FACE_NODES, *SKIN_NODES, *RETRY_NODES, *JOB_NODES)]

# Without the loaders under the community's ids, which have the same inputs and outputs.
INFOS: dict[str, Info] = {info["name"]: info for info in _INFOS if not info["dev_only"]}
COMMUNITY_INFOS: dict[str, Info] = {name: node.GET_NODE_INFO_V1() for name, node in COMMUNITY_NODES.items()}


def inputs(info: Info) -> dict[str, tuple[Any, dict[str, Any]]]:
    """A node's inputs by name: type, and the rest of what is said about it."""
    found: dict[str, tuple[Any, dict[str, Any]]] = {
        **info["input"].get("required", {}),
        **info["input"].get("optional", {}),
    }
    return found
