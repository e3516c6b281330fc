"""Graphs of the retry tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from flux_face.tests.comfy_server import Graph

Script = Sequence[Sequence[float]]


def ksampler_graph(script: Script, *, run: str, seed: int = 7, batch: int = 4, max_attempts: int = 3) -> Graph:
    """KSampler, decoder, verdicts by script, retry, sink."""
    graph = _frame(script, run, batch, max_attempts)
    graph["sampler"] = {
        "class_type": "KSampler",
        "inputs": {
            "model": ["model", 0], "positive": ["text", 0], "negative": ["text", 0], "latent_image": ["latent", 0],
            "seed": seed, "steps": 1, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0,
        },
    }  # fmt: skip
    return graph


def custom_sampler_graph(script: Script, *, run: str, seed: int = 7, batch: int = 4, max_attempts: int = 3) -> Graph:
    """The same with SamplerCustomAdvanced, as the Flux graph has it."""
    graph = _frame(script, run, batch, max_attempts)
    graph |= {
        "noise": node("RandomNoise", noise_seed=seed),
        "guider": node("BasicGuider", model=["model", 0], conditioning=["text", 0]),
        "algorithm": node("KSamplerSelect", sampler_name="euler"),
        "sigmas": node("BasicScheduler", model=["model", 0], scheduler="simple", steps=1, denoise=1.0),
        "sampler": node(
            "SamplerCustomAdvanced", noise=["noise", 0], guider=["guider", 0], sampler=["algorithm", 0],
            sigmas=["sigmas", 0], latent_image=["latent", 0],
        ),
    }  # fmt: skip
    return graph


def _frame(script: Script, run: str, batch: int, max_attempts: int) -> Graph:
    return {
        "model": node("ProbeModel"),
        "text": node("ProbeText", text="a face"),
        "latent": node("EmptyLatentImage", width=64, height=64, batch_size=batch),
        "decode": node("ProbeDecode", samples=["sampler", 0]),
        "verdicts": node(
            "ProbeVerdicts", images=["decode", 0], script=json.dumps(script), run=run, seconds=0.0
        ),
        "retry": node(
            "FluxFaceRetry", images=["decode", 0], verdicts=["verdicts", 0], generated=["decode", 0],
            max_attempts=max_attempts,
        ),
        "sink": node(
            "ProbeSink", images=["retry", 0], verdicts=["retry", 1], generated=["retry", 2], report=["retry", 3]
        ),
    }  # fmt: skip


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    """One node of an API-format graph."""
    return {"class_type": class_type, "inputs": inputs}
