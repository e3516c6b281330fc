"""RunPod's own Python client against our server: only its base URL and key are changed."""

from __future__ import annotations

import pytest
import runpod
from runpod.endpoint.runner import Endpoint

from flux_face.tests.comfy_server import Comfy
from flux_face.tests.routes.conftest import TOKENS


@pytest.fixture
def endpoint(api_server: Comfy, monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    monkeypatch.setattr(runpod, "endpoint_url_base", f"{api_server.url}/flux-face")
    return Endpoint("v1", api_key=TOKENS["alice"])


def test_run_sync(endpoint: Endpoint) -> None:
    output = endpoint.run_sync({"input": {"profile": "tiny"}}, timeout=30)
    assert output["images"][0]["type"] == "base64"


def test_run_status_output(endpoint: Endpoint) -> None:
    job = endpoint.run({"profile": "tiny"})
    assert job.output(timeout=30)["profile"] == "tiny"
    assert job.status() == "COMPLETED"


def test_stream(endpoint: Endpoint) -> None:
    job = endpoint.run({"profile": "nap"})
    chunks = list(job.stream())
    assert any(chunk.get("class_type") == "TestSleep" for chunk in chunks)
    assert job.status() == "COMPLETED"


def test_cancel_purge_and_health(endpoint: Endpoint) -> None:
    running = endpoint.run({"profile": "sleep"})
    waiting = endpoint.run({"profile": "sleep"})
    assert endpoint.health()["jobs"]["inQueue"] >= 1
    assert endpoint.purge_queue() == {"removed": 1, "status": "completed"}
    assert waiting.status() == "CANCELLED"
    assert running.cancel()["status"] == "CANCELLED"
    assert running.output(timeout=30) is None
    assert running.status() == "CANCELLED"
