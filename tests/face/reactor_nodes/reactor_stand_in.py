"""A pack that has ReActor's main node: it gives back the source image."""

from __future__ import annotations

import torch
from comfy_api.latest import ComfyExtension, io


class StandIn(io.ComfyNode):
    """Answers to ReActor's id."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [io.Image.Input("input_image"), io.Image.Input("source_image")]
        return io.Schema(node_id="ReActorFaceSwap", inputs=inputs, outputs=[io.Image.Output()])

    @classmethod
    def execute(cls, source_image: torch.Tensor, **_: torch.Tensor) -> io.NodeOutput:
        return io.NodeOutput(source_image)


class StandInExtension(ComfyExtension):
    """The pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [StandIn]


async def comfy_entrypoint() -> StandInExtension:
    """Called by ComfyUI."""
    return StandInExtension()
