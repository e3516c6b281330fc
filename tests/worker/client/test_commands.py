"""submit, status and cancel by the real client, and what it says of wrong arguments."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flux_face.tests.worker.client.process import ROOT, environment, png, run, start
from flux_face.tests.worker.client.standin import Endpoint, Knobs, Trouble

POLL = ("--poll", "0.02")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    file = tmp_path / "me.png"
    file.write_bytes(png(5))
    return file


def submit(endpoint: Endpoint, photo: Path, *more: object, code: int = 0) -> dict[str, Any]:
    arguments = ["submit", "--endpoint", "abc", "--photo", photo, "--prompt", "x", *POLL, *more]
    answer: dict[str, Any] = json.loads(run(arguments, endpoint, code=code)[0])
    return answer


def test_submit_status_and_cancel(photo: Path, tmp_path: Path) -> None:
    with Endpoint(Knobs(held=True)) as endpoint:
        job = submit(endpoint, photo, "--set", "num_steps=4", "--execution-timeout", "60", "--low-priority")
        remote = endpoint.jobs[job["id"]]
        assert job == {"id": remote.id, "target": "endpoint:abc"}
        assert remote.input["num_steps"] == 4
        assert remote.policy == {"executionTimeout": 60_000, "lowPriority": True}

        ask = ["status", remote.id, "--endpoint", "abc"]
        assert json.loads(run(ask, endpoint)[0])["status"] == "IN_QUEUE"
        endpoint.knobs.held = False
        remote.looks_left = 1
        done = json.loads(run(ask, endpoint)[0])
        assert done["status"] == "COMPLETED"
        assert done["output"]["images"][0]["data"] == f"{len(remote.input['user_photo'])} characters"
        (file,) = json.loads(run([*ask, "--out", tmp_path / "out"], endpoint)[0])["files"]
        assert (tmp_path / "out" / file).read_bytes() == png(5)

        cancel = ["cancel", "--endpoint", "abc"]
        assert json.loads(run([*cancel, remote.id], endpoint)[0])["status"] == "COMPLETED"
        other = submit(endpoint, photo)
        assert json.loads(run([*cancel, other["id"]], endpoint)[0])["status"] == "CANCELLED"
        assert (
            json.loads(run(["status", other["id"], "--endpoint", "abc"], endpoint, code=1)[0])["status"] == "CANCELLED"
        )


def test_submit_and_wait_through_trouble(photo: Path, tmp_path: Path) -> None:
    trouble = Trouble(busy=0.3, broken=0.2, dropped=0.1, unanswered=0.2)
    with Endpoint(Knobs(trouble=trouble, retry_after="0")) as endpoint:
        done = submit(endpoint, photo, "--wait", "--out", tmp_path / "out")
    assert done["status"] == "COMPLETED"
    assert (tmp_path / "out" / done["files"][0]).read_bytes() == png(5)
    assert len(endpoint.accepted) == 1


def test_a_failed_job_is_exit_code_1_with_its_error(photo: Path) -> None:
    with Endpoint(Knobs(judge=lambda _: "[photo_no_face] no face")) as endpoint:
        assert submit(endpoint, photo, "--wait", code=1)["error"] == "[photo_no_face] no face"


def test_a_job_is_found_on_any_of_the_targets(photo: Path) -> None:
    with Endpoint() as first, Endpoint() as second:
        job = submit(second, photo)
        servers = ["--server", first.server_url, "--server", second.server_url]
        found = json.loads(run(["status", job["id"], *servers])[0])
        assert found["target"] == f"server:{second.server_url}"
        _, told = run(["status", "../run", *servers], code=1)
        assert "No target knows the job ../run" in told
        assert first.requests["run"] == 0


def test_ctrl_c_while_waiting_leaves_the_job_and_tells_its_id(photo: Path) -> None:
    with Endpoint(Knobs(held=True)) as endpoint:
        client = start(["submit", "--endpoint", "abc", "--photo", photo, "--wait", *POLL], endpoint)
        endpoint.wait(lambda: endpoint.requests["status"] > 1, "looks at the job")
        client.send_signal(signal.SIGINT)
        _, told = client.communicate(timeout=60)
        assert client.returncode == 130
        assert f"{next(iter(endpoint.jobs))} is on endpoint:abc" in told
        assert "Traceback" not in told


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["submit", "--prompt", "x"], "there is no target. Give --endpoint ID or --server URL"),
        (["submit", "--server", "box"], "--server 'box' is not an address"),
        (["submit", "--endpoint", "abc", "--photo", "nowhere.png"], "'nowhere.png', which is not a file"),
        (["submit", "--endpoint", "abc", "--set", "steps"], "--set 'steps' is not of the form name=value"),
        (["batch", "nowhere", "--out", "OUT", "--endpoint", "abc"], "nowhere is not there"),
        (["batch", "OUT", "--out", "OUT", "--endpoint", "abc"], "OUT has no photos"),
        (["batch", "OUT", "--out", "OUT", "--in-flight", "0"], "argument --in-flight"),
    ],
)
def test_wrong_arguments_are_named(tmp_path: Path, arguments: list[str], problem: str) -> None:
    (tmp_path / "OUT").mkdir()
    client = subprocess.run(
        [sys.executable, ROOT / "worker" / "client", *arguments],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert client.returncode == 2
    assert problem in client.stderr
    assert "Traceback" not in client.stderr


def test_no_listener_is_said_in_one_line() -> None:
    _, told = run(["status", "x", "--server", "http://127.0.0.1:9", *POLL], code=1)
    assert "server:http://127.0.0.1:9 cannot be reached" in told
    assert "Traceback" not in told


def test_it_runs_as_a_module_in_the_packs_root() -> None:
    client = subprocess.run(
        [sys.executable, "-m", "worker.client", "batch", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "--cancel-on-interrupt" in client.stdout


def test_the_packs_root_is_not_on_the_path() -> None:
    """Its ``nodes`` would shadow ComfyUI's."""
    code = (
        "import runpy, sys; sys.argv = ['client', 'capacity', '--seconds-per-image', '6', '--images-per-hour', '0']\n"
        f"try: runpy.run_path({str(ROOT / 'worker' / 'client')!r}, run_name='__main__')\n"
        f"except SystemExit: pass\nassert {str(ROOT)!r} not in sys.path\nassert 'aiohttp' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT / "docs")
