"""``dev.py demo`` as its user runs it: the real worker, SDK, ComfyUI and starter models."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import skimage
from PIL import Image

from flux_face.tests.worker.process import ROOT, is_running, wait_gone

PICTURES = Path(skimage.__file__).parent / "data"


def _demo(out: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "devtools" / "pack.py"), "devtools.demo", "--out", str(out), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(autouse=True)
def _heed_interrupts() -> Iterator[None]:
    """A background job of a shell, which a test run may be, makes its children ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _comfy_pids(out: Path) -> list[int]:
    log = out / "worker.log"
    return [int(pid) for pid in re.findall(r"starting as process (\d+)", log.read_text())] if log.exists() else []


def _wait_booting(out: Path) -> int:
    deadline = time.monotonic() + 60
    while not _comfy_pids(out):
        assert time.monotonic() < deadline, "ComfyUI was not started"
        time.sleep(0.05)
    return _comfy_pids(out)[0]


def _worker_pid(comfy_pid: int) -> int:
    return int(Path(f"/proc/{comfy_pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_photograph_becomes_a_page_of_portraits(tmp_path: Path) -> None:
    out = tmp_path / "out"
    demo = _demo(out, "--json", "--batch", "2", "--seed", "7")
    stdout, stderr = demo.communicate(timeout=280)
    assert demo.returncode == 0, stderr
    report = json.loads(stdout)
    assert report["ok"] is True
    assert report == json.loads((out / "report.json").read_text())
    assert report["engine"]["name"] == "classic"
    for image in report["images"]:
        assert image["verdict"]["measured"]["faces"] >= 1
        swapped, generated = (Image.open(out / image[name]).convert("RGB") for name in ("swapped", "generated"))
        assert swapped.size == generated.size == (256, 256)
        assert swapped.tobytes() != generated.tobytes()
    assert Image.open(out / "photo.png").size == (512, 512)
    page = (out / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 6
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "ComfyUI is ready" in stderr
    assert not any(is_running(pid) for pid in _comfy_pids(out))


def test_a_photo_without_a_face_fails_and_says_so(tmp_path: Path) -> None:
    out = tmp_path / "out"
    demo = _demo(out, "--json", "--photo", str(PICTURES / "coffee.png"))
    stdout, stderr = demo.communicate(timeout=280)
    assert demo.returncode == 1
    assert json.loads(stdout)["ok"] is False
    assert "[photo_no_face]" in stderr
    assert not any(is_running(pid) for pid in _comfy_pids(out))


def test_a_photo_that_cannot_be_read_is_refused_at_once(tmp_path: Path) -> None:
    demo = _demo(tmp_path / "out", "--photo", str(tmp_path / "none.png"))
    stdout, stderr = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert stdout == ""
    assert "--photo: " in stderr


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    demo = _demo(tmp_path / "out")
    pid = _wait_booting(tmp_path / "out")
    worker = _worker_pid(pid)
    demo.send_signal(signal.SIGINT)
    _, stderr = demo.communicate(timeout=30)
    assert demo.returncode == 130
    assert "Interrupted" in stderr
    wait_gone(pid)
    wait_gone(worker)


def test_a_killed_demo_leaves_nothing_behind(tmp_path: Path) -> None:
    demo = _demo(tmp_path / "out")
    pid = _wait_booting(tmp_path / "out")
    worker = _worker_pid(pid)
    os.kill(demo.pid, signal.SIGKILL)
    demo.communicate(timeout=30)
    wait_gone(worker)
    wait_gone(pid)
