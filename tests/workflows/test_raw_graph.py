"""A request's own graph, made to take its pictures from memory and hand its results back there."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from flux_face.workflows.profiles import Binding
from flux_face.workflows.raw_graph import RawGraphError, adopt

GRAPH: dict[str, Any] = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "me.png"}},
    "2": {"class_type": "LoadImage", "inputs": {"image": "me.png"}},
    "3": {"class_type": "LoadImage", "inputs": {"image": "from the input folder.png"}},
    "4": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    "5": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    "6": {"class_type": "KSampler", "inputs": {"seed": 1}},
}


def test_pictures_come_and_go_through_memory() -> None:
    before = copy.deepcopy(GRAPH)
    profile = adopt(GRAPH, ["me.png"])
    assert before == GRAPH, "the client's graph is never changed"
    assert profile.output_nodes == ("4", "5")
    assert profile.bindings["images.me.png"] == (Binding("1", "photo"), Binding("2", "photo"))
    graph = profile.fill({"images.me.png": "job:7/images.me.png", "job_id": "7"})
    assert graph["1"] == {"class_type": "FluxFaceRequestImage", "inputs": {"photo": "job:7/images.me.png"}}
    assert graph["4"] == {"class_type": "FluxFaceJobOutput", "inputs": {"images": ["1", 0], "job_id": "7"}}
    assert {graph[name]["inputs"]["job_id"] for name in ("4", "5")} == {"7"}
    assert graph["3"] == GRAPH["3"]
    assert graph["6"] == GRAPH["6"]


def test_a_job_id_in_the_graph_is_replaced() -> None:
    """Else a client could have its pictures handed to another client's job."""
    graph = {"1": {"class_type": "FluxFaceJobOutput", "inputs": {"images": ["2", 0], "job_id": "another's"}}}
    assert adopt(graph, []).fill({"job_id": "mine"})["1"]["inputs"]["job_id"] == "mine"


@pytest.mark.parametrize(
    ("graph", "images", "problem"),
    [
        ({"1": GRAPH["1"]}, ["me.png"], "no node of the graph is a SaveImage"),
        (GRAPH, ["me.png", "you.png"], "no LoadImage node of the graph names 'you.png'"),
    ],
)
def test_graphs_that_cannot_be_run(graph: dict[str, Any], images: list[str], problem: str) -> None:
    with pytest.raises(RawGraphError, match=problem):
        adopt(graph, images)
