"""What the retry loop finds out from a graph."""

from __future__ import annotations

from typing import Any

import pytest

from flux_face.nodes.errors import UserInputError
from flux_face.nodes.retry.plan import attempt_of, plan_retry
from flux_face.tests.comfy_server import Graph
from flux_face.tests.retry.graphs import custom_sampler_graph, ksampler_graph, node


def plan(graph: Graph) -> Any:
    return plan_retry(graph.__getitem__, "retry")


def test_only_what_lies_between_sampler_and_retry_is_repeated() -> None:
    found = plan(ksampler_graph([], run="", seed=5))
    assert set(found.repeated) == {"sampler", "decode", "verdicts"}
    assert found.latents == (("sampler", "latent_image"),)
    assert found.seeds == {("sampler", "seed"): 5}
    assert found.seed == 5


def test_a_noise_node_is_repeated_with_its_sampler() -> None:
    found = plan(custom_sampler_graph([], run="", seed=5))
    assert set(found.repeated) == {"sampler", "decode", "verdicts", "noise"}
    assert found.seeds == {("noise", "noise_seed"): 5}


def test_a_side_branch_is_not_repeated() -> None:
    graph = ksampler_graph([], run="")
    graph["preview"] = node("PreviewImage", images=["decode", 0])
    graph["photo"] = node("LoadImage", image="photo.png")
    graph["verdicts"]["inputs"]["photo"] = ["photo", 0]
    assert set(plan(graph).repeated) == {"sampler", "decode", "verdicts"}


@pytest.mark.parametrize(
    ("class_type", "switch", "off"),
    [("KSamplerAdvanced", "add_noise", "disable"), ("SamplerCustom", "add_noise", False)],
)
def test_a_sampler_without_noise_is_refused(class_type: str, switch: str, off: object) -> None:
    graph = ksampler_graph([], run="")
    graph["sampler"] = node(class_type, latent_image=["latent", 0], noise_seed=1, **{switch: off})
    with pytest.raises(UserInputError, match=rf"{class_type} \(node sampler\) draws no noise"):
        plan(graph)


def test_disabled_noise_is_refused() -> None:
    graph = custom_sampler_graph([], run="")
    graph["noise"] = node("DisableNoise")
    with pytest.raises(UserInputError, match="draws no noise"):
        plan(graph)


def test_a_second_stage_may_draw_no_noise() -> None:
    graph = ksampler_graph([], run="", seed=5)
    graph["refine"] = node("KSamplerAdvanced", latent_image=["sampler", 0], noise_seed=9, add_noise="disable")
    graph["decode"]["inputs"]["samples"] = ["refine", 0]
    found = plan(graph)
    assert found.latents == (("sampler", "latent_image"),)
    assert found.seeds == {("sampler", "seed"): 5}
    assert "refine" in found.repeated


def test_a_seed_from_an_unknown_node_is_refused() -> None:
    graph = ksampler_graph([], run="")
    graph["dice"] = node("DiceNode")
    graph["sampler"]["inputs"]["seed"] = ["dice", 0]
    with pytest.raises(UserInputError, match=r"comes over a link from DiceNode \(node dice\).*PrimitiveInt"):
        plan(graph)


def test_a_graph_of_a_thousand_nodes_is_walked_at_once() -> None:
    """A ladder of diamonds has two to the power of its length paths."""
    graph = ksampler_graph([], run="")
    previous = "decode"
    for i in range(500):
        graph[f"a{i}"] = node("ImageInvert", image=[previous, 0])
        graph[f"b{i}"] = node("ImageBatch", image1=[previous, 0], image2=[f"a{i}", 0])
        previous = f"b{i}"
    graph["retry"]["inputs"]["images"] = [previous, 0]
    assert len(plan(graph).repeated) == 1003


@pytest.mark.parametrize(
    ("node_id", "attempt"),
    [
        ("sample", 1),
        ("12", 1),
        ("retry.0.0.copy.sample", 2),
        ("retry.0.0.latents.sample", 2),
        ("retry.0.0.step", 2),
        ("retry.0.0.step.0.0.copy.sample", 3),
        ("retry.0.0.step.0.0.step.0.0.step", 4),
        ("other.0.0.sample", 1),
    ],
)
def test_the_attempt_of_a_running_node(node_id: str, attempt: int) -> None:
    assert attempt_of(node_id) == attempt
