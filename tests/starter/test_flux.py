"""The trainable twin computes what ComfyUI's Flux computes."""

from __future__ import annotations

import math

import numpy as np
import torch

from flux_face.starter.conditioning import LENGTH, Conditioner
from flux_face.starter.flux import Flux, FluxConfig, from_released, sample_euler, to_released
from flux_face.starter.vocabulary import ATTRIBUTES


def random_twin(config: FluxConfig) -> Flux:
    torch.manual_seed(0)
    twin = Flux(config).eval().requires_grad_(False)
    for parameter in twin.parameters():
        torch.nn.init.normal_(parameter, std=0.08)
    return twin


def test_twin_equals_comfyui() -> None:
    import comfy.ldm.flux.model
    import comfy.model_detection
    import comfy.ops

    config = FluxConfig(depth=2, depth_single=2, context=96, pooled=64)
    twin = random_twin(config)
    released = to_released(twin.state_dict())
    found = comfy.model_detection.detect_unet_config(released, "")
    assert (found["depth"], found["depth_single_blocks"]) == (config.depth, config.depth_single)
    assert found["num_heads"] == config.heads
    assert found["guidance_embed"] is False
    found.pop("image_model")
    theirs = comfy.ldm.flux.model.Flux(operations=comfy.ops.disable_weight_init, dtype=torch.float32, **found)
    renamed = {name.replace("_norm.scale", "_norm.weight"): tensor for name, tensor in released.items()}
    theirs.load_state_dict(renamed, strict=True)
    x, t = torch.randn(2, 16, 12, 8), torch.tensor([0.3, 0.9])
    context, pooled = torch.randn(2, 5, 96), torch.randn(2, 64)
    with torch.inference_mode():
        expected = theirs(x.clone(), t, context.clone(), y=pooled.clone())
        assert torch.allclose(twin(x, t, context, pooled), expected, atol=2e-4)


def test_released_order_is_invertible() -> None:
    state = random_twin(FluxConfig()).state_dict()
    back = from_released(to_released(state))
    assert all(torch.equal(state[name], back[name]) for name in state)


def test_equal_tokens_merge_exactly() -> None:
    twin = random_twin(FluxConfig(depth=1, depth_single=1))
    attributes = torch.zeros(1, len(ATTRIBUTES), dtype=torch.uint8)
    attributes[0, [0, 7, 20]] = 1
    context, pooled, log_count = Conditioner()(attributes, np.random.default_rng(1))
    counts = log_count[0].exp().round().int()
    assert counts.sum() == LENGTH
    full = context[0].repeat_interleave(counts, dim=0)[None]
    x, t = torch.randn(1, 16, 8, 8), torch.tensor([0.5])
    with torch.inference_mode():
        assert torch.allclose(twin(x, t, context, pooled, log_count), twin(x, t, full, pooled), atol=1e-4)


def test_euler_follows_a_constant_flow() -> None:
    noise = torch.randn(2, 16, 4, 4)

    class Constant(torch.nn.Module):
        def forward(self, x: torch.Tensor, *_: object) -> torch.Tensor:
            return torch.full_like(x, math.pi)

    nothing = torch.zeros(2, 1, 768)
    assert torch.allclose(sample_euler(Constant(), noise, nothing, nothing[:, 0], 5), noise - math.pi, atol=1e-5)
