"""The retry loop in a running ComfyUI: interruption, and the report over HTTP."""

from __future__ import annotations

import json
import os
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from flux_face.tests.comfy_server import Comfy, ComfyError
from flux_face.tests.retry.graphs import custom_sampler_graph, ksampler_graph

ROOT = Path(__file__).resolve().parents[2]
COMFYUI = Path(os.environ.get("COMFYUI_PATH") or ROOT / ".comfyui" / "ComfyUI")
STARTER_MODELS = ROOT / ".comfyui" / "base" / "models"
ONE_BAD = [[1.0, 1.0, 0.2, 1.0], [0.9]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comfy]:
    """A server with the probe nodes."""
    folder = tmp_path_factory.mktemp("probe")
    config = folder / "nodes.yaml"
    # A JSON string is a YAML string.
    config.write_text(f"tests:\n  custom_nodes: {json.dumps(str(Path(__file__).parent / 'custom_nodes'))}\n")
    base = tmp_path_factory.mktemp("comfy")
    flags = ("--extra-model-paths-config", str(config))
    with Comfy.start(base, ROOT, COMFYUI, STARTER_MODELS, flags=flags) as started:
        yield started


def count(server: Comfy, kind: str) -> int:
    """How many pieces of one kind of work the log tells of."""
    lines = server.log().splitlines()
    return sum(int(line.rsplit(" ", 1)[1]) for line in lines if f"PROBE {kind} " in line)


def interrupt(server: Comfy) -> None:
    urllib.request.urlopen(urllib.request.Request(f"{server.url}/interrupt", data=b"{}"), timeout=10).close()


def test_one_bad_of_four_samples_five_and_again_none(server: Comfy) -> None:
    graph = custom_sampler_graph(ONE_BAD, run=uuid.uuid4().hex)
    before = count(server, "sampled")
    result = server.run(graph)["outputs"]["sink"]["result"][0]
    assert count(server, "sampled") - before == 5
    assert result["report"]["images_sampled"] == 5
    again = server.run(graph)["outputs"]["sink"]["result"][0]
    assert count(server, "sampled") - before == 5
    assert again == result


def test_more_attempts_go_on_where_the_others_ended(server: Comfy) -> None:
    run = uuid.uuid4().hex
    before = count(server, "sampled")
    for most, taken in ((1, 1), (2, 2), (4, 3), (4, 3)):
        graph = ksampler_graph([[0.1], [0.2], [1.0]], run=run, batch=1, max_attempts=most)
        outputs = server.run(graph)["outputs"]
        assert outputs["sink"]["result"][0]["report"]["attempts"] == taken
        (shown,) = outputs["retry"]["flux_face_attempts"]
        assert len(shown["items"][0]["attempts"]) == taken
        assert not shown["running"]
        assert count(server, "sampled") - before == taken


def test_interrupting_an_attempt_leaves_the_queue_healthy(server: Comfy) -> None:
    graph = ksampler_graph([[1.0, 0.1], [0.1], [0.1]], run=uuid.uuid4().hex, batch=2)
    graph["verdicts"]["inputs"]["seconds"] = 60.0
    waiting = count(server, "waiting")
    prompt_id = server.submit(graph)
    deadline = time.monotonic() + 60
    while count(server, "waiting") == waiting and time.monotonic() < deadline:
        time.sleep(0.05)
    interrupt(server)
    with pytest.raises(ComfyError, match="interrupted"):
        server.wait(prompt_id, timeout=20)
    next_graph = ksampler_graph(ONE_BAD, run=uuid.uuid4().hex, seed=99)
    assert server.run(next_graph)["outputs"]["sink"]["result"][0]["scores"] == [1.0, 1.0, 0.9, 1.0]


def test_a_mistake_is_told_to_the_user(server: Comfy) -> None:
    graph = ksampler_graph(ONE_BAD, run=uuid.uuid4().hex)
    graph["decode"]["inputs"]["samples"] = ["latent", 0]
    with pytest.raises(ComfyError, match="no sampler feeds them") as raised:
        server.run(graph)
    assert raised.value.response["exception_type"].endswith("UserInputError")
