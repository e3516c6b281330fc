"""Profiles: API-format graphs by name, and how a request's values are put into them.

A profile is a JSON file in ComfyUI's API format. Nothing else describes it: the inputs that a request may set are
found by node type, and their values in the file are the profile's defaults. Where a graph has several nodes of a type
(a second CLIPTextEncode for a negative prompt), the one whose title is the request's field name, e.g. ``prompt``,
is meant. A job runs what FluxFaceJobOutput needs and no other output: a SaveImage in the file is for the web UI.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

Graph = dict[str, dict[str, Any]]
"""API format: node id -> {"class_type", "inputs", "_meta"}."""

BUILT_IN_DIR = Path(__file__).parent / "api"

OUTPUT_CLASS = "FluxFaceJobOutput"

# Request field -> the node inputs that carry it, by class type.
_CARRIERS: Mapping[str, Mapping[str, str]] = {
    "user_photo": {"FluxFaceLoadPhoto": "photo"},
    "target_image": {"FluxFaceLoadPhoto": "photo"},
    "prompt": {"CLIPTextEncode": "text"},
    "num_steps": {"BasicScheduler": "steps"},
    "batch_size": {"EmptyLatentImage": "batch_size", "EmptySD3LatentImage": "batch_size", "EmptyImage": "batch_size"},
    "width": {"EmptyLatentImage": "width", "EmptySD3LatentImage": "width", "EmptyImage": "width"},
    "height": {"EmptyLatentImage": "height", "EmptySD3LatentImage": "height", "EmptyImage": "height"},
    "seed": {"RandomNoise": "noise_seed"},
    "max_attempts": {"FluxFaceRetry": "max_attempts"},
    "several_faces_in_photo": {"FluxFaceSwapFace": "several_faces_in_photo"},
    "job_id": {OUTPUT_CLASS: "job_id"},
}

# Nodes that show pictures in the web page, as temporary files, where their input `preview` says so; not if left out.
_PREVIEWING = frozenset({"FluxFaceSwapFace", "FluxFaceSkinToneQA", "FluxFaceRetry"})

# Fields that most graphs have no place for: only a node with that title carries them.
_BY_TITLE_ONLY = frozenset({"target_image"})


class ProfileError(ValueError):
    """A profile's file cannot be used; the message names the file and the reason."""


@dataclass(frozen=True)
class Binding:
    """The node input that carries a request field."""

    node_id: str
    input_name: str


@dataclass(frozen=True)
class Profile:
    """A graph and the places where a request's values go.

    Attributes:
        name: the file's name without ``.json``.
        graph: the template; never changed.
        bindings: request field -> the inputs it goes into; a field that the graph has no place for is absent.
        defaults: request field -> the template's own value, for steps, size, batch and attempts.
    """

    name: str
    graph: Mapping[str, Any]
    bindings: Mapping[str, tuple[Binding, ...]]
    defaults: Mapping[str, int]

    @classmethod
    def from_file(cls, path: Path) -> Profile:
        """Read and bind one file.

        Raises:
            ProfileError: not JSON, not an API-format graph, no job output, or an ambiguous field.
        """
        try:
            graph = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ProfileError(f"profile {path.name} cannot be read: {error}") from error
        if not is_api_format(graph):
            raise ProfileError(f"profile {path.name} is not in API format: export it with 'Export (API)'")
        bindings = {field: (found,) for field in _CARRIERS if (found := _find(graph, field, path.name)) is not None}
        if "job_id" not in bindings:
            raise ProfileError(f"profile {path.name} has no {OUTPUT_CLASS} node to hand the pictures back")
        defaults = {
            field: graph[at.node_id]["inputs"][at.input_name]
            for field, (at,) in bindings.items()
            if field in ("num_steps", "batch_size", "width", "height", "max_attempts")
        }
        for field, value in defaults.items():
            if type(value) is not int:
                raise ProfileError(f"profile {path.name}: {field} must be a whole number in the graph, not {value!r}")
        return cls(path.stem, MappingProxyType(graph), MappingProxyType(bindings), MappingProxyType(defaults))

    def fill(self, values: Mapping[str, Any]) -> Graph:
        """A copy of the graph with the values put in, and without previews: nobody looks, and they would be files.

        Raises:
            KeyError: a field that the profile has no place for.
        """
        graph: Graph = copy.deepcopy(dict(self.graph))
        for field, value in values.items():
            for at in self.bindings[field]:
                graph[at.node_id]["inputs"][at.input_name] = value
        for node in graph.values():
            if node["class_type"] in _PREVIEWING:
                node["inputs"].pop("preview", None)
        return graph

    def with_default(self, field: str, value: int) -> Profile:
        """The profile with another value in its template; itself if it has no place for the field."""
        if field not in self.defaults:
            return self
        defaults = MappingProxyType({**self.defaults, field: value})
        return replace(self, graph=MappingProxyType(self.fill({field: value})), defaults=defaults)

    @property
    def output_nodes(self) -> tuple[str, ...]:
        """Ids of the nodes that hand pictures back; one, but for a raw graph."""
        return tuple(at.node_id for at in self.bindings["job_id"])

    def field_at(self, node_id: str, input_name: str) -> str | None:
        """The request field behind this node input: put in there, or into the node that it is linked to; else None."""
        value = self.graph[node_id]["inputs"].get(input_name)
        source = value[0] if isinstance(value, list) else None
        for field, places in self.bindings.items():
            if any((at.node_id, at.input_name) == (node_id, input_name) or at.node_id == source for at in places):
                return field
        return None


def is_api_format(graph: object) -> bool:
    """Whether it is a graph as ComfyUI's "Export (API)" writes it; its nodes and links may still be wrong."""
    return isinstance(graph, dict) and all(
        isinstance(node, dict) and isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict)
        for node in graph.values()
    )


def load_profiles(directories: Iterable[Path]) -> dict[str, Profile]:
    """All profiles of the directories, by name; a later directory's profile replaces an earlier one's of that name.

    Raises:
        ProfileError: a directory is missing or one of its files cannot be used.
    """
    profiles: dict[str, Profile] = {}
    for directory in directories:
        if not directory.is_dir():
            raise ProfileError(f"the profiles directory {directory} does not exist")
        for path in sorted(directory.glob("*.json")):
            profile = Profile.from_file(path)
            profiles[profile.name] = profile
    return profiles


def _find(graph: Mapping[str, Any], field: str, file_name: str) -> Binding | None:
    carriers = _CARRIERS[field]
    candidates = [
        Binding(node_id, input_name)
        for node_id, node in graph.items()
        if (input_name := carriers.get(node["class_type"])) is not None
        and not isinstance(node["inputs"].get(input_name, []), list)  # a link: the value comes from another node
    ]
    titles = {at: graph[at.node_id].get("_meta", {}).get("title", "").lower() for at in candidates}
    titled = [at for at in candidates if titles[at] == field]
    if field not in _BY_TITLE_ONLY:
        candidates = [at for at in candidates if titles[at] not in _BY_TITLE_ONLY]
        if len(candidates) == 1:
            return candidates[0]
    if len(titled) == 1:
        return titled[0]
    if len(titled) > 1 or (candidates and field not in _BY_TITLE_ONLY):
        ids = ", ".join(at.node_id for at in candidates)
        raise ProfileError(f"profile {file_name}: nodes {ids} could all take {field}; give one the title {field!r}")
    return None
