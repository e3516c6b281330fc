"""Finding out from a running graph what a retry must repeat.

Works on the graph as ComfyUI executes it: nodes by id, each ``{"class_type": str, "inputs": {name: value or link}}``,
a link being ``[node id, output index]``. Imports nothing of ComfyUI.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import UserInputError

MAX_SEED = 0xFFFFFFFFFFFFFFFF

# What the nodes of a further attempt are called: a repeated node, the one before its sampler, and the one that ends it.
COPY, LATENTS, STEP = "copy", "latents", "step"
# ComfyUI puts the expanding node's id, the call and the graph before the names in an expansion.
_OF_AN_ATTEMPT = re.compile(rf"\.\d+\.\d+\.(?:{COPY}\.|{LATENTS}\.|{STEP}\b)")

GraphNode = Mapping[str, Any]
GetNode = Callable[[str], GraphNode]


def attempt_of(node_id: str) -> int:
    """The attempt that a running node belongs to, from its id: 1 for the nodes of the user's graph."""
    return 1 + len(_OF_AN_ATTEMPT.findall(node_id))


@dataclass(frozen=True)
class SamplerKind:
    """How a sampler node takes its latents and its seed.

    Attributes:
        latent: name of its latent input.
        seed: name of its seed input; None where the noise comes from a noise node.
        noise: name of its noise input, which a noise node feeds.
        noise_switch: an input that can turn its noise off, and the value that does.
    """

    latent: str = "latent_image"
    seed: str | None = None
    noise: str | None = None
    noise_switch: tuple[str, object] | None = None


SAMPLERS: Mapping[str, SamplerKind] = {
    "KSampler": SamplerKind(seed="seed"),
    "KSamplerAdvanced": SamplerKind(seed="noise_seed", noise_switch=("add_noise", "disable")),
    "SamplerCustom": SamplerKind(seed="noise_seed", noise_switch=("add_noise", False)),
    "SamplerCustomAdvanced": SamplerKind(noise="noise"),
}
# Noise nodes that draw from a seed, with its input's name.
NOISE_SEEDS: Mapping[str, str] = {"RandomNoise": "noise_seed"}
# Nodes whose output is their own constant, with its input's name.
CONSTANTS: Mapping[str, str] = {"PrimitiveInt": "value"}


@dataclass(frozen=True)
class RetryPlan:
    """What to repeat.

    Attributes:
        repeated: ids of the nodes between samplers and retry node, samplers and their noise nodes included.
        latents: root samplers, those that start from the batch's own latents, with the input that takes them.
        seeds: where seeds are: node id and input name, with the seed of the first attempt.
        seed: seed of the first root sampler's first attempt.
    """

    repeated: frozenset[str]
    latents: tuple[tuple[str, str], ...]
    seeds: Mapping[tuple[str, str], int]
    seed: int


def plan_retry(get_node: GetNode, retry_id: str) -> RetryPlan:
    """Walk up from a retry node and find what to repeat.

    Repeated is every node that a sampler feeds and that feeds the retry node. All others (loaders, text encoders,
    the photo) keep their results.

    Raises:
        UserInputError: there is no sampler upstream, a sampler draws no noise of its own, or its seed is unknown.
    """
    upstream = _upstream(get_node, retry_id)
    samplers = [node_id for node_id in upstream if get_node(node_id)["class_type"] in SAMPLERS]
    if not samplers:
        raise UserInputError(
            "retry_no_sampler",
            "images",
            "no sampler feeds them, so there is nothing to sample again",
            f"Connect images that come from one of {', '.join(SAMPLERS)}, through any nodes in between",
        )
    repeated = {node_id for node_id in upstream if node_id in samplers or _feeds(upstream, samplers, node_id)}
    latents: list[tuple[str, str]] = []
    seeds: dict[tuple[str, str], int] = {}
    root_seed: int | None = None
    for node_id in samplers:
        node = get_node(node_id)
        kind = SAMPLERS[node["class_type"]]
        source = node["inputs"].get(kind.latent)
        is_root = not (_is_link(source) and source[0] in repeated)
        if is_root:
            latents.append((node_id, kind.latent))
        place = _seed_place(get_node, node_id, must_draw=is_root)
        if place is None:
            continue
        seeds[place] = _seed_value(get_node, place)
        repeated.add(place[0])
        if is_root and root_seed is None:
            root_seed = seeds[place]
    if root_seed is None:
        raise RuntimeError("a graph without cycles has a root sampler")
    return RetryPlan(frozenset(repeated), tuple(latents), seeds, root_seed)


def _is_link(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int)


def _upstream(get_node: GetNode, node_id: str) -> dict[str, frozenset[str]]:
    """All nodes above a node, nearest first, with the nodes that each is directly fed by."""
    found: dict[str, frozenset[str]] = {}
    waiting = list(_sources(get_node(node_id)))
    while waiting:
        current = waiting.pop(0)
        if current not in found:
            sources = _sources(get_node(current))
            found[current] = frozenset(sources)
            waiting.extend(sources)
    return found


def _sources(node: GraphNode) -> list[str]:
    return [value[0] for value in node["inputs"].values() if _is_link(value)]


def _feeds(upstream: Mapping[str, frozenset[str]], samplers: list[str], node_id: str) -> bool:
    """Whether a sampler is above the node."""
    seen: set[str] = set()
    waiting = list(upstream[node_id])
    while waiting:
        current = waiting.pop()
        if current in samplers:
            return True
        if current not in seen:
            seen.add(current)
            waiting.extend(upstream[current])
    return False


def _seed_place(get_node: GetNode, sampler_id: str, must_draw: bool) -> tuple[str, str] | None:
    """Node and input that hold a sampler's seed; None where it draws no noise and need not."""
    node = get_node(sampler_id)
    kind = SAMPLERS[node["class_type"]]
    if kind.seed is not None:
        if kind.noise_switch is None or node["inputs"].get(kind.noise_switch[0]) != kind.noise_switch[1]:
            return sampler_id, kind.seed
    else:
        noise = node["inputs"].get(kind.noise)
        if _is_link(noise):
            class_type = get_node(noise[0])["class_type"]
            if class_type in NOISE_SEEDS:
                return noise[0], NOISE_SEEDS[class_type]
    if not must_draw:
        return None
    raise UserInputError(
        "retry_no_noise",
        "images",
        f"the sampler {_name(get_node, sampler_id)} draws no noise from a seed, so another attempt would be the same",
        f"Give it noise: {', '.join(NOISE_SEEDS)} on its noise input, or add_noise enabled",
    )


def _seed_value(get_node: GetNode, place: tuple[str, str]) -> int:
    node_id, name = place
    value = get_node(node_id)["inputs"].get(name)
    if _is_link(value):
        source = get_node(value[0])
        if source["class_type"] in CONSTANTS:
            value = source["inputs"].get(CONSTANTS[source["class_type"]])
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise UserInputError(
        "retry_unknown_seed",
        name,
        f"the seed of {_name(get_node, node_id)} comes over a link from {_name(get_node, value[0])}"
        if _is_link(value)
        else f"{_name(get_node, node_id)} has no whole number as its seed but {value!r}",
        f"Type the seed into the node, or connect one of {', '.join(CONSTANTS)} that holds it",
    )


def _name(get_node: GetNode, node_id: str) -> str:
    return f"{get_node(node_id)['class_type']} (node {node_id})"
