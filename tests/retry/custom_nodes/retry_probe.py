"""Nodes for the retry tests: a model without weights that ComfyUI's own samplers drive, and verdicts by script.

Every piece of work is recorded in ``EVENTS`` and in the log.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Sequence
from typing import Any

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.supported_models_base
import nodes
import torch
from comfy_api.latest import ComfyExtension, io

log = logging.getLogger(__name__)

EVENTS: list[tuple[str, int]] = []
_calls: dict[str, int] = {}

Verdicts = io.Custom("FLUXFACE_VERDICTS")


def record(kind: str, count: int = 1) -> None:
    EVENTS.append((kind, count))
    log.info("PROBE %s %d", kind, count)


class _Still(torch.nn.Module):
    """Predicts a fixed share of its input; counts the images of every call."""

    dtype = torch.float32

    def forward(self, x: torch.Tensor, _timesteps: torch.Tensor, **_: object) -> torch.Tensor:
        record("sampled", x.shape[0])
        return 0.5 * x


class ProbeModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(node_id="ProbeModel", category="probe", outputs=[io.Model.Output()])

    @classmethod
    def execute(cls) -> io.NodeOutput:
        record("loaded")
        config = comfy.supported_models_base.BASE({"disable_unet_model_creation": True})
        config.latent_format = comfy.latent_formats.SD15()
        model = comfy.model_base.BaseModel(config)
        model.diffusion_model = _Still()
        cpu = torch.device("cpu")
        return io.NodeOutput(comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu))


class ProbeText(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ProbeText",
            category="probe",
            inputs=[io.String.Input("text")],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, text: str) -> io.NodeOutput:
        record("encoded")
        return io.NodeOutput([[torch.zeros(1, 1, 8), {"text": text}]])


class ProbeDecode(io.ComfyNode):
    """Latents as pictures: their first three channels, as many copies as asked, and larger where there are few."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ProbeDecode",
            category="probe",
            inputs=[
                io.Latent.Input("samples"),
                io.Int.Input("copies", default=1, optional=True),
                io.Int.Input("grow_below", default=0, optional=True),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, samples: dict[str, Any], copies: int = 1, grow_below: int = 0) -> io.NodeOutput:
        record("decoded", len(samples["samples"]))
        images = samples["samples"][:, :3].movedim(1, -1).repeat(copies, 1, 1, 1)
        return io.NodeOutput(images.repeat(1, 2, 2, 1) if len(images) < grow_below else images)


class ProbeVerdicts(io.ComfyNode):
    """Call k of one run gives the scores of entry k of the script; from 0.5 an image passes. No entry: all pass.

    From the second call on it takes some seconds, looking for interruptions as a long node should.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ProbeVerdicts",
            category="probe",
            inputs=[
                io.Image.Input("images"),
                io.String.Input("script"),
                io.String.Input("run"),
                io.Float.Input("seconds", default=0.0),
            ],
            outputs=[Verdicts.Output()],
        )

    @classmethod
    def execute(cls, images: torch.Tensor, script: str, run: str, seconds: float) -> io.NodeOutput:
        verdict = sys.modules[nodes.NODE_CLASS_MAPPINGS["FluxFaceRetry"].__module__].Verdict
        call = _calls.get(run, 0)
        _calls[run] = call + 1
        record("judged", len(images))
        if call and seconds:
            record("waiting")
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                comfy.model_management.throw_exception_if_processing_interrupted()
                time.sleep(0.02)
        entries = json.loads(script)
        scores = entries[call] if call < len(entries) else [1.0] * len(images)
        return io.NodeOutput(tuple(verdict(score >= 0.5, score) for score in scores))


class ProbeSwapReport(io.ComfyNode):
    """A swap node's report that tells images apart by their first pixel."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ProbeSwapReport",
            category="probe",
            inputs=[io.Image.Input("images")],
            outputs=[io.String.Output()],
        )

    @classmethod
    def execute(cls, images: torch.Tensor) -> io.NodeOutput:
        items = [{"pixel": float(image[0, 0, 0])} for image in images]
        return io.NodeOutput(json.dumps({"engine": "probe", "images": items}))


class ProbeSink(io.ComfyNode):
    """Hands out what came to it, as numbers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ProbeSink",
            category="probe",
            inputs=[
                io.Image.Input("images"),
                Verdicts.Input("verdicts"),
                io.String.Input("report", force_input=True),
                io.Image.Input("generated", optional=True),
                io.String.Input("swap_report", optional=True, force_input=True),
            ],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, **_: object) -> float:
        return float("nan")

    @classmethod
    def execute(
        cls,
        images: torch.Tensor,
        verdicts: Sequence[Any],
        report: str,
        generated: torch.Tensor | None = None,
        swap_report: str | None = None,
    ) -> io.NodeOutput:
        result = {
            "images": images.tolist(),
            "generated": None if generated is None else generated.tolist(),
            "scores": [verdict.score for verdict in verdicts],
            "report": json.loads(report),
            "swap": None if swap_report is None else json.loads(swap_report),
        }
        return io.NodeOutput(ui={"result": [result]})


class ProbeExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [ProbeModel, ProbeText, ProbeDecode, ProbeVerdicts, ProbeSwapReport, ProbeSink]


async def comfy_entrypoint() -> ProbeExtension:
    return ProbeExtension()
