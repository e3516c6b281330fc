"""A pack for the benchmark's ComfyUI, with a node that takes a known time; loaded by ComfyUI, never by the pack."""

from __future__ import annotations

import time

import torch
from comfy_api.latest import ComfyExtension, io


class BenchWait(io.ComfyNode):
    """Passes images on after a while."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BenchWait",
            inputs=[io.Image.Input("images"), io.Int.Input("milliseconds", default=0, min=0)],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: object) -> float:
        return float("nan")  # equals nothing, so it is never answered from the cache

    @classmethod
    def execute(cls, images: torch.Tensor, milliseconds: int) -> io.NodeOutput:
        time.sleep(milliseconds / 1000)
        return io.NodeOutput(images)


class BenchNodes(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [BenchWait]


async def comfy_entrypoint() -> BenchNodes:
    return BenchNodes()
