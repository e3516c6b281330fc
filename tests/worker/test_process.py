"""How ComfyUI is started, without starting it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from flux_face.server_routes.settings import Settings as RouteSettings
from flux_face.tests.worker.process import COMFYUI, ROOT, wait_gone
from flux_face.worker.process import StartError, command, environment
from flux_face.worker.settings import Settings

LAUNCHER = ROOT / "worker" / "launcher.py"


def _settings(**env: str) -> Settings:
    return Settings.from_env({"COMFYUI_PATH": str(COMFYUI), **env})


def test_comfyui_listens_on_loopback_unless_told_otherwise() -> None:
    arguments = command(_settings())
    assert arguments[arguments.index("--listen") + 1] == "127.0.0.1"
    served = command(_settings(SERVE_API_LOCALLY="true"))
    assert served[served.index("--listen") + 1] == "0.0.0.0"


def test_the_operators_arguments_come_last() -> None:
    assert command(_settings(FLUX_FACE_COMFYUI_ARGS="--cpu --port 1"))[-3:] == ["--cpu", "--port", "1"]


def test_a_missing_comfyui_is_refused_with_the_variable_to_set(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="Set FLUX_FACE_COMFYUI_PATH"):
        command(_settings(COMFYUI_PATH=str(tmp_path)))


def test_secrets_and_python_paths_stay_with_the_worker(tmp_path: Path) -> None:
    inherited = {
        "PATH": "/bin",
        "PYTHONPATH": "/pack",
        "RUNPOD_AI_API_KEY": "key",
        "RUNPOD_WEBHOOK_GET_JOB": "url",
        "FLUX_FACE_COMFYUI_TOKEN": "token",
        "FLUX_FACE_MAX_STEPS": "8",
        "FLUX_FACE_WARM_UP": "starter",
        "BUCKET_SECRET_ACCESS_KEY": "secret",
    }
    env = environment(_settings(FLUX_FACE_TCMALLOC="false"), inherited, None, tmp_path)
    kept = {"PATH", "FLUX_FACE_MAX_STEPS", "FLUX_FACE_WARM_UP", "BUCKET_SECRET_ACCESS_KEY"}
    assert {name for name in inherited if name in env} == kept
    assert "FLUX_FACE_API_TOKENS" not in env


def test_the_worker_joins_the_operators_tokens(tmp_path: Path) -> None:
    env = environment(_settings(), {"FLUX_FACE_API_TOKENS": "team:0123456789abcdef"}, "f" * 32, tmp_path)
    assert env["FLUX_FACE_API_TOKENS"] == f"team:0123456789abcdef,flux-face-worker:{'f' * 32}"


def test_the_job_table_is_the_workers_own(tmp_path: Path) -> None:
    env = environment(_settings(), {"FLUX_FACE_DATA_DIR": "/shared", "FLUX_FACE_DURABLE_KEY": "key"}, None, tmp_path)
    assert env["FLUX_FACE_DATA_DIR"] == str(tmp_path)
    assert "FLUX_FACE_DURABLE_KEY" not in env


def test_the_routes_never_let_the_worker_wait_unless_the_operator_says_so(tmp_path: Path) -> None:
    settings = _settings(FLUX_FACE_JOB_TIMEOUT_S="900")
    limits = RouteSettings.from_environ(environment(settings, {}, None, tmp_path)).limits
    assert limits.jobs_per_minute == limits.requests_per_minute == 1_000_000
    assert limits.job_seconds > 900
    assert limits.max_queue >= 16
    assert limits.max_results >= 2 * 16
    tight = environment(settings, {"FLUX_FACE_JOBS_PER_MINUTE": "5"}, None, tmp_path)
    assert RouteSettings.from_environ(tight).limits.jobs_per_minute == 5


def test_the_launcher_runs_a_script_as_python_does(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("VALUE = 7\n")
    script = tmp_path / "main.py"
    script.write_text("import sys, beside\nprint(__name__, sys.argv[1:], beside.VALUE)\n")
    parent = (
        "import subprocess, os, sys; subprocess.run([sys.executable, *sys.argv[1:2], str(os.getpid()), *sys.argv[2:]])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", parent, LAUNCHER, script, "--x"], capture_output=True, text=True, check=True, cwd="/"
    )
    assert shown.stdout == "__main__ ['--x'] 7\n"


@pytest.mark.parametrize("follow", ["_follow_parent_linux", "_follow_parent_posix"])
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and one of them is Linux's prctl")
def test_the_child_follows_a_killed_parent(follow: str) -> None:
    child = (
        f"import os, runpy, time; follow = runpy.run_path({str(LAUNCHER)!r})[{follow!r}];"
        "follow(os.getppid()); print(os.getpid(), flush=True); time.sleep(60)"
    )
    parent_code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", parent_code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(0.1)
        parent.kill()
        wait_gone(pid)
