"""The pack as ComfyUI sees it: its list of nodes and its HTTP routes."""

from __future__ import annotations

import logging

import nodes as comfy_nodes
from comfy_api.latest import ComfyExtension, io

from .nodes.face.nodes import NODES as FACE_NODES
from .nodes.face.reactor import register_replacements
from .nodes.gguf.nodes import COMMUNITY_NODES
from .nodes.gguf.nodes import NODES as GGUF_NODES
from .nodes.job.nodes import NODES as JOB_NODES
from .nodes.retry.nodes import NODES as RETRY_NODES
from .nodes.skin.nodes import NODES as SKIN_NODES
from .server_routes import register_routes

log = logging.getLogger(__name__)


class FluxFaceExtension(ComfyExtension):
    """Registers nodes and routes; constructed once per ComfyUI process."""

    async def on_load(self) -> None:
        register_routes()
        await register_replacements()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """All nodes of the pack.

        The GGUF loaders also answer to the community's class types, so that existing workflows open unchanged,
        unless another pack has registered those first.
        """
        community: list[type[io.ComfyNode]] = []
        for node_id, node in COMMUNITY_NODES.items():
            if node_id in comfy_nodes.NODE_CLASS_MAPPINGS:
                log.info("Flux Face: another pack provides %s; ours is FluxFace%s", node_id, node_id)
            else:
                community.append(node)
        return [*GGUF_NODES, *community, *JOB_NODES, *FACE_NODES, *SKIN_NODES, *RETRY_NODES]
