"""Flux Face: Flux GGUF generation, face swap and skin-tone QA in one ComfyUI graph.

ComfyUI imports this file at start, so it imports nothing itself: node modules load in ``comfy_entrypoint``,
models and optional libraries on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .extension import FluxFaceExtension

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> FluxFaceExtension:
    """Called once by ComfyUI's custom-node loader."""
    from .extension import FluxFaceExtension

    return FluxFaceExtension()
