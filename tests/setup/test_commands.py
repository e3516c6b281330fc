"""dev.py runs other programs without losing their exit codes, or the programs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from flux_face.devtools.bench.report import Row, as_table, write_json
from flux_face.devtools.comfyui import link_directory
from flux_face.devtools.console import run, run_installer
from flux_face.devtools.pack import ROOT
from flux_face.tests.comfy_server import START_TIMEOUT_S, free_port

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to pass on")


def test_exit_codes_are_passed_on() -> None:
    assert run([sys.executable, "-c", "raise SystemExit(7)"]) == 7


def test_installer_output_is_shown_and_kept(capfd: pytest.CaptureFixture[str]) -> None:
    code, printed = run_installer([sys.executable, "-c", "print('one'); print('two'); raise SystemExit(3)"])
    assert (code, printed) == (3, "one\ntwo")
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "one" in shown.err


@posix
def test_an_ended_command_leaves_no_orphan(tmp_path: Path) -> None:
    # Stands for dev.py, ended by a supervisor while ComfyUI runs.
    pid_file = tmp_path / "pid"
    child = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    parent = (
        "import runpy, sys;"
        f"runpy.run_path({str(ROOT / 'devtools' / 'pack.py')!r})['load_pack']();"
        "from flux_face.devtools.console import run;"
        f"sys.exit(run([sys.executable, '-c', {child!r}]))"
    )
    process = subprocess.Popen([sys.executable, "-c", parent])
    try:
        _until(lambda: pid_file.exists() and pid_file.read_text() != "")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 128 + signal.SIGTERM
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid_file.read_text()), 0)
    finally:
        process.kill()


@posix
def test_serve_answers_and_ends(tmp_path: Path) -> None:
    (tmp_path / "custom_nodes").mkdir()
    link_directory(tmp_path / "custom_nodes" / "flux-face", ROOT)
    port = free_port()
    command: list[str | Path] = [sys.executable, ROOT / "dev.py", "serve", "--port", str(port)]
    # The later of two equal flags counts: what the user passes on does.
    command += ["--base-directory", tmp_path, "--database-url", "sqlite:///:memory:"]
    log = tmp_path / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
    try:
        _until(lambda: process.poll() is not None or _answers(port))
        assert process.poll() is None, log.read_text()
        assert f"http://127.0.0.1:{port}" in log.read_text()
    finally:
        process.terminate()
        process.wait(timeout=60)
    assert not _answers(port)


def test_benchmark_report(tmp_path: Path) -> None:
    rows = [Row("Q4_K", 2.0, 1.0, "gguf-py", "GB/s", 2.0), Row("Q4_K", 2.0, 4.0, "copy", "GB/s", 0.5, limit=True)]
    target = tmp_path / "new" / "bench.json"
    write_json(rows, target)
    assert '"ratio": 0.5' in target.read_text()
    assert [path.name for path in target.parent.iterdir()] == ["bench.json"]
    assert "copy (limit)" in as_table(rows)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/system_stats", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _until(condition: Callable[[], bool], seconds: float = START_TIMEOUT_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
