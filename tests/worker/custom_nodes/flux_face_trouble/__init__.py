"""A node that makes trouble on purpose, for the worker's tests.

The seed, the one number a request can put into a graph of core nodes, says which: ``code * 1000 + amount``.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import torch
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.utils import ProgressBar
from comfy_api.latest import ComfyExtension, io

DONE = Path(os.environ.get("FLUX_FACE_TROUBLE_DIR", "."))
STEP_S = 0.05
# So that the worker knows whose graph it was that killed ComfyUI, and has the next one in the queue.
SEEN_S = 2.0

SLOW, HANG, KILL_ONCE, EXIT_THEN_KILL, NOISE, FAIL = range(1, 7)


def _first_time(name: str) -> bool:
    marker = DONE / name
    if marker.exists():
        return False
    marker.touch()
    return True


class FluxFaceTrouble(io.ComfyNode):
    """Passes images on, sooner or later or not at all."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FluxFaceTrouble",
            category="tests",
            inputs=[io.Image.Input("images"), io.Noise.Input("order")],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: object) -> float:
        return float("nan")

    @classmethod
    def execute(cls, images: torch.Tensor, order: object) -> io.NodeOutput:
        code, amount = divmod(order.seed, 1000)  # type: ignore[attr-defined]
        if code == SLOW:
            steps = round(amount * 0.1 / STEP_S)
            progress = ProgressBar(steps)
            for _ in range(steps):
                throw_exception_if_processing_interrupted()
                time.sleep(STEP_S)
                progress.update(1)
        elif code == HANG:
            time.sleep(amount * 0.1)
        elif code == EXIT_THEN_KILL and _first_time(f"exit-{amount}"):
            time.sleep(SEEN_S)
            raise SystemExit(1)
        elif code == EXIT_THEN_KILL or (code == KILL_ONCE and _first_time(f"kill-{amount}")):
            time.sleep(SEEN_S)
            os.kill(os.getpid(), signal.SIGKILL)
        elif code == NOISE:
            images = torch.rand(images.shape, generator=torch.Generator().manual_seed(amount))
        elif code == FAIL:
            raise RuntimeError("trouble")
        return io.NodeOutput(images)


class TroubleExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [FluxFaceTrouble]


async def comfy_entrypoint() -> TroubleExtension:
    return TroubleExtension()
