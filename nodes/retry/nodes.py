"""ComfyUI nodes of the retry loop.

The loop is an expansion of the visible node, as ComfyUI's own documentation describes it: attempt 2 is a copy of the
nodes between sampler and retry node, fed with the failed latents and the next seed; an inner step node merges its
results and, if images still fail, expands into attempt 3. Copies link back to the original loaders and encoders.

What is repeated depends only on links and constants, so ComfyUI's cache knows every attempt again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from comfy_api.latest import io
from comfy_execution.graph import DynamicPrompt
from comfy_execution.graph_utils import GraphBuilder
from comfy_execution.utils import get_executing_context

from ..skin.verdict import Verdict
from ..sockets import Verdicts
from .latents import Latent, noise_slots, select_latents
from .plan import COPY, LATENTS, MAX_SEED, STEP, plan_retry
from .state import RetryState, first_state, merge, read_swap_report, report
from .strip import AttemptStrip

CATEGORY = "Flux Face/quality"

# Inputs of the retry node that every attempt makes anew.
_KEPT_IN_STEP = ("images", "verdicts", "generated", "swap_report")

State = io.Custom("FLUXFACE_RETRY_STATE")
Strip = io.Custom("FLUXFACE_RETRY_STRIP")
Indices = io.Custom("FLUXFACE_INDICES")


class FluxFaceRetry(io.ComfyNode):
    """Samples failed images again, and only those."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FluxFaceRetry",
            display_name="Retry Failed Images",
            category=CATEGORY,
            description="Samples the images that failed again, with the next seed, through the same nodes, until they "
            "pass or the attempts are used up; then the best one comes out. It finds the sampler by itself: connect "
            "the last images and their verdicts. Models stay loaded, images that passed are kept.",
            search_aliases=[
                "retry",
                "loop",
                "repeat",
                "resample",
                "until",
                "qa",
                "regenerate",
                "rerun failed",
                "重新生成",
                "重试",
                "再生成",
                "リトライ",
            ],
            has_intermediate_output=True,
            inputs=[
                io.Image.Input("images", tooltip="The images that were judged, one per latent of the sampler."),
                Verdicts.Input("verdicts", tooltip="Their verdicts, from Check Skin Tone."),
                io.Image.Input(
                    "generated",
                    optional=True,
                    tooltip="The images before the face swap, to be kept in step with the others.",
                ),
                io.Int.Input(
                    "max_attempts",
                    default=3,
                    min=1,
                    max=10,
                    tooltip="The most attempts per image, the first included. 1 never repeats.",
                ),
                io.String.Input(
                    "swap_report",
                    optional=True,
                    force_input=True,
                    tooltip="The report of Swap Face, to be kept in step with the images.",
                ),
                io.Boolean.Input(
                    "preview",
                    default=True,
                    optional=True,
                    advanced=True,
                    tooltip="Show a thumbnail of every attempt on this node. Over the API, left out means off.",
                ),
            ],
            outputs=[
                io.Image.Output("images", tooltip="The best image of each item, in the original order."),
                Verdicts.Output("verdicts", tooltip="The verdict on each of them."),
                io.Image.Output("generated", tooltip="The same images before the swap; nothing if not connected."),
                io.String.Output("report", tooltip="JSON: attempts, seeds, noise slots and verdicts of every item."),
                io.String.Output(
                    "swap_report", tooltip="What Swap Face said of each of these images; nothing if not connected."
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
            enable_expand=True,
        )

    @classmethod
    def execute(
        cls,
        images: torch.Tensor,
        verdicts: Sequence[Verdict],
        generated: torch.Tensor | None = None,
        max_attempts: int = 3,
        swap_report: str | None = None,
        # A graph from elsewhere than the web page names what it wants, and no picture is written behind its back.
        preview: bool = False,
    ) -> io.NodeOutput:
        prompt, retry_id = cls.hidden.dynprompt, cls.hidden.unique_id
        plan = plan_retry(prompt.get_node, retry_id)
        swaps = read_swap_report(swap_report)
        state = first_state(images, verdicts, generated, plan.seed, max_attempts, swaps)
        strip = AttemptStrip(get_executing_context().prompt_id, prompt.get_display_node_id(retry_id), preview)
        strip.add(tuple(range(len(images))), 1, images)
        return _finish_or_expand(state, strip, prompt, retry_id)


class FluxFaceRetryStep(io.ComfyNode):
    """Inner node: takes in one attempt's results and starts the next attempt if it must."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FluxFaceRetryStep",
            display_name="Retry Step (inner)",
            category=CATEGORY,
            description="Part of Retry Failed Images.",
            inputs=[
                State.Input("state", tooltip="All items before this attempt."),
                Strip.Input("strip", tooltip="What the web page shows of the attempts."),
                io.String.Input("retry_id", tooltip="The retry node's id."),
                io.Int.Input("seed", tooltip="This attempt's seed."),
                io.Image.Input("images", tooltip="This attempt's images."),
                Verdicts.Input("verdicts", tooltip="Their verdicts."),
                Indices.Input("slots", tooltip="Noise slot of every item."),
                io.Image.Input("generated", optional=True, tooltip="This attempt's images before the swap."),
                io.String.Input(
                    "swap_report", optional=True, force_input=True, tooltip="This attempt's report of Swap Face."
                ),
            ],
            outputs=[
                io.Image.Output("images", tooltip="The best image of each item."),
                Verdicts.Output("verdicts", tooltip="Their verdicts."),
                io.Image.Output("generated", tooltip="The same before the swap."),
                io.String.Output("report", tooltip="JSON report."),
                io.String.Output("swap_report", tooltip="What Swap Face said of each."),
            ],
            hidden=[io.Hidden.dynprompt],
            enable_expand=True,
            is_dev_only=True,
        )

    @classmethod
    def execute(
        cls,
        state: RetryState,
        strip: AttemptStrip,
        retry_id: str,
        seed: int,
        images: torch.Tensor,
        verdicts: Sequence[Verdict],
        slots: Sequence[int],
        generated: torch.Tensor | None = None,
        swap_report: str | None = None,
    ) -> io.NodeOutput:
        merged = merge(state, images, verdicts, generated, seed, slots, read_swap_report(swap_report))
        strip.add(state.failed, merged.attempt, images)
        return _finish_or_expand(merged, strip, cls.hidden.dynprompt, retry_id)


class FluxFaceSelectLatents(io.ComfyNode):
    """Inner node: the latents of the failed items."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FluxFaceSelectLatents",
            display_name="Select Latents (inner)",
            category=CATEGORY,
            description="Part of Retry Failed Images.",
            inputs=[
                io.Latent.Input("latent", tooltip="The whole batch."),
                Indices.Input("indices", tooltip="Positions to take."),
                io.Int.Input("batch_size", tooltip="How many images the batch made."),
            ],
            outputs=[
                io.Latent.Output("latent", tooltip="The items taken, each with its noise slot."),
                Indices.Output("slots", tooltip="Noise slot of every item of the whole batch."),
            ],
            is_dev_only=True,
        )

    @classmethod
    def execute(cls, latent: Latent, indices: Sequence[int], batch_size: int) -> io.NodeOutput:
        return io.NodeOutput(select_latents(latent, indices, batch_size), noise_slots(latent))


def _finish_or_expand(state: RetryState, strip: AttemptStrip, prompt: DynamicPrompt, retry_id: str) -> io.NodeOutput:
    if state.failed and state.attempt < state.max_attempts:
        return _expand(state, strip, prompt, retry_id)
    swaps = None if state.swaps is None else state.swaps.to_json()
    loop_report = json.dumps(report(state), allow_nan=False)
    shown = strip.show(state, running=False)
    return io.NodeOutput(state.images, state.verdicts, state.generated, loop_report, swaps, ui=shown)


def _expand(state: RetryState, strip: AttemptStrip, prompt: DynamicPrompt, retry_id: str) -> io.NodeOutput:
    """Build the next attempt: a copy of what the plan repeats, closed by a step node."""
    plan = plan_retry(prompt.get_node, retry_id)
    graph = GraphBuilder()
    step = state.attempt
    copies = {
        node_id: graph.node(prompt.get_node(node_id)["class_type"], f"{COPY}.{node_id}") for node_id in plan.repeated
    }

    def follow(value: Any) -> Any:
        if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and value[0] in copies:
            return copies[value[0]].out(value[1])
        return value

    for node_id, copy in copies.items():
        for name, value in prompt.get_node(node_id)["inputs"].items():
            copy.inputs[name] = follow(value)
    slots: Any = list(state.slots)
    for node_id, name in plan.latents:
        selection = graph.node(
            "FluxFaceSelectLatents",
            f"{LATENTS}.{node_id}",
            latent=copies[node_id].inputs[name],
            indices=list(state.failed),
            batch_size=len(state.images),
        )
        copies[node_id].inputs[name] = selection.out(0)
        slots = selection.out(1)
    for (node_id, name), seed in plan.seeds.items():
        copies[node_id].inputs[name] = (seed + step) % (MAX_SEED + 1)

    inputs = prompt.get_node(retry_id)["inputs"]
    results = {name: follow(inputs[name]) for name in _KEPT_IN_STEP if name in inputs}
    closing = graph.node(
        "FluxFaceRetryStep",
        STEP,
        state=state,
        strip=strip,
        retry_id=retry_id,
        seed=(plan.seed + step) % (MAX_SEED + 1),
        slots=slots,
        **results,
    )
    outputs = (closing.out(i) for i in range(5))
    return io.NodeOutput(*outputs, ui=strip.show(state, running=True), expand=graph.finalize())


NODES: tuple[type[io.ComfyNode], ...] = (FluxFaceRetry, FluxFaceRetryStep, FluxFaceSelectLatents)
