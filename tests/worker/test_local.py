"""The SDK's local modes, and a second worker that uses a ComfyUI it has not started."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from flux_face.tests.worker.conftest import Production
from flux_face.tests.worker.cutter import Cutter
from flux_face.tests.worker.process import SLOW, Worker, free_port, get, is_running, post, trouble, wait_gone
from flux_face.tests.worker.standin import Platform


@pytest.fixture(scope="module")
def local_api(production: Production, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    arguments = ["--rp_serve_api", "--rp_api_host", "127.0.0.1", "--rp_api_port", str(port)]
    env = {"FLUX_FACE_COMFYUI_URL": production.comfy_url}
    with Worker(tmp_path_factory.mktemp("local-api"), arguments, env=env):
        yield f"http://127.0.0.1:{port}"


def test_runsync_returns_the_images(local_api: str) -> None:
    answer = post(f"{local_api}/runsync", {"input": trouble(batch_size=2)})
    assert answer["status"] == "COMPLETED"
    assert len(answer["output"]["images"]) == 2


def test_run_and_status_return_the_images(local_api: str) -> None:
    job = post(f"{local_api}/run", {"input": trouble()})
    answer = post(f"{local_api}/status/{job['id']}", {})
    assert answer["status"] == "COMPLETED"
    assert answer["output"]["images"]


def test_an_error_is_a_failed_job_with_text(local_api: str) -> None:
    answer = post(f"{local_api}/runsync", {"input": trouble(profil="starter")})
    assert answer["status"] == "FAILED"
    assert answer["error"].startswith("[field_unknown] profil: ")


def test_test_input_json_is_run_once(production: Production, tmp_path: Path) -> None:
    (tmp_path / "test_input.json").write_text(json.dumps({"input": trouble()}), encoding="utf-8")
    with Worker(tmp_path, env={"FLUX_FACE_COMFYUI_URL": production.comfy_url}) as worker:
        assert worker.process.wait(60) == 0
        assert "completed successfully" in worker.log()


def test_a_failing_test_input_is_exit_code_1(production: Production, tmp_path: Path) -> None:
    arguments = ["--test_input", json.dumps({"input": {"profile": "none such"}})]
    with Worker(tmp_path, arguments, env={"FLUX_FACE_COMFYUI_URL": production.comfy_url}) as worker:
        assert worker.process.wait(60) == 1
        assert "[profile_unknown] profile: " in worker.log()


def test_sigterm_lets_a_short_job_finish(production: Production, platform: Platform, tmp_path: Path) -> None:
    env = {**platform.environment(), "FLUX_FACE_COMFYUI_URL": production.comfy_url}
    with Worker(tmp_path, env=env) as worker:
        job = platform.submit(trouble(SLOW + 20))
        Production(platform, worker).wait_running(job)
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(20) == 0
    assert "output" in job.result


def test_sigterm_cancels_a_long_job_when_its_grace_is_over(
    production: Production, platform: Platform, tmp_path: Path
) -> None:
    env = {
        **platform.environment(),
        "FLUX_FACE_COMFYUI_URL": production.comfy_url,
        "FLUX_FACE_SHUTDOWN_GRACE_S": "0.5",
    }
    with Worker(tmp_path, env=env) as worker:
        job = platform.submit(trouble(SLOW + 300))
        Production(platform, worker).wait_running(job)
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(20) == 0
    assert job.results == []
    platform.wait(lambda: production.active_jobs() == 0, 60, "end of the graph")
    assert get(f"{production.comfy_url}/flux-face/v1/jobs?limit=1")["jobs"][0]["status"] == "CANCELLED"


def test_a_broken_event_stream_loses_neither_job_nor_progress(
    production: Production, platform: Platform, tmp_path: Path
) -> None:
    with Cutter(production.worker.comfy_port) as cutter:
        env = {**platform.environment(), "FLUX_FACE_COMFYUI_URL": cutter.url}
        with Worker(tmp_path, env=env):
            job = platform.submit(trouble(SLOW + 25))
            output = platform.finish(job)["output"]
    assert len(output["images"]) == 1
    assert "submissions" not in output
    assert cutter.cut > 1
    stages = {update["stage"] for update, _ in job.progress}
    assert "running" in stages
    assert stages <= {"queued", "running"}


def test_refresh_worker_takes_one_job_and_stops(production: Production, platform: Platform, tmp_path: Path) -> None:
    env = {**platform.environment(), "FLUX_FACE_COMFYUI_URL": production.comfy_url, "REFRESH_WORKER": "true"}
    with Worker(tmp_path, env=env) as worker:
        first, second = platform.submit(trouble()), platform.submit(trouble())
        assert platform.finish(first)["stopPod"] is True
        assert worker.process.wait(20) == 0
    assert not second.taken


def test_a_worker_without_comfyui_says_what_to_set(platform: Platform, tmp_path: Path) -> None:
    env = {**platform.environment(), "COMFYUI_PATH": str(tmp_path), "FLUX_FACE_MAX_RESTARTS": "0"}
    with Worker(tmp_path, env=env) as worker:
        assert worker.process.wait(60) == 1
        assert f"No ComfyUI in {tmp_path}. Set FLUX_FACE_COMFYUI_PATH" in worker.log()
    assert [ping["status"] for ping in platform.pings if "status" in ping] == ["unhealthy"]


def test_an_unusable_setting_is_named(tmp_path: Path) -> None:
    with Worker(tmp_path, env={"FLUX_FACE_CONCURRENCY": "many"}) as worker:
        assert worker.process.wait(60) == 2
        assert "FLUX_FACE_CONCURRENCY='many': " in worker.log()


def test_a_killed_worker_takes_comfyui_with_it(tmp_path: Path) -> None:
    with Worker(tmp_path, ["--rp_serve_api", "--rp_api_port", str(free_port())]) as worker:
        worker.wait_log("ComfyUI is starting")
        (pid,) = worker.comfy_pids()
        assert is_running(pid)
        os.kill(worker.process.pid, signal.SIGKILL)
        worker.process.wait(10)
        wait_gone(pid)
