"""A pack for the benchmark's ComfyUI, with nodes that take a known time; loaded by ComfyUI, never by the pack."""

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


class BenchPicture(io.ComfyNode):
    """Makes a picture of one colour within a given time."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BenchPicture",
            inputs=[io.Int.Input("side", default=64, min=1), io.Int.Input("milliseconds", default=0, min=0)],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: object) -> float:
        return float("nan")

    @classmethod
    def execute(cls, side: int, milliseconds: int) -> io.NodeOutput:
        end = time.perf_counter() + milliseconds / 1000
        picture = torch.tensor([0.2, 0.4, 0.6]).repeat(1, side, side, 1)
        time.sleep(max(0.0, end - time.perf_counter()))
        return io.NodeOutput(picture)


class BenchNodes(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [BenchWait, BenchPicture]


async def comfy_entrypoint() -> BenchNodes:
    return BenchNodes()
