"""The real worker as a child process, and what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent
COMFYUI = Path(os.environ.get("COMFYUI_PATH") or ROOT / ".comfyui" / "ComfyUI")
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))

SLOW, HANG, KILL_ONCE, EXIT_THEN_KILL, NOISE, FAIL = (code * 1000 for code in range(1, 7))
"""Seeds of the trouble profile; add the amount, for times in tenths of a second."""


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def make_base(base: Path) -> Path:
    """A base directory for ComfyUI with the pack and the trouble node."""
    for name in ("models", "input", "output", "custom_nodes"):
        (base / name).mkdir(parents=True)
    (base / "custom_nodes" / "flux-face").symlink_to(ROOT, target_is_directory=True)
    trouble = HERE / "custom_nodes" / "flux_face_trouble"
    (base / "custom_nodes" / trouble.name).symlink_to(trouble, target_is_directory=True)
    return base


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def wait_gone(pid: int, timeout_s: float = 15.0) -> None:
    """Wait until a process has ended."""
    deadline = time.monotonic() + timeout_s
    while is_running(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.05)


class Worker:
    """``python worker ARGUMENTS`` in a directory of its own.

    Args:
        directory: its working directory, which gets ``worker.log``.
        arguments: for the SDK.
        env: beside the essentials.
    """

    def __init__(self, directory: Path, arguments: Sequence[str] = (), env: dict[str, str] | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.log_file = directory / "worker.log"
        self.comfy_port = free_port()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RUNPOD_", "FLUX_FACE_"))}
        environment = {
            **kept,
            "COMFYUI_PATH": str(COMFYUI),
            "FLUX_FACE_COMFYUI_ARGS": "--cpu --disable-api-nodes",
            "FLUX_FACE_COMFYUI_PORT": str(self.comfy_port),
            "FLUX_FACE_PROFILES_DIR": str(HERE / "profiles"),
            "FLUX_FACE_TROUBLE_DIR": str(directory),
            "PYTHONUNBUFFERED": "1",
            **(env or {}),
        }
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "worker"), *arguments],
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pid in self.comfy_pids():
            wait_gone(pid)

    def log(self) -> str:
        """All that worker and ComfyUI have printed so far."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def comfy_pids(self) -> list[int]:
        """The ComfyUI processes it has started so far."""
        return [int(pid) for pid in re.findall(r"ComfyUI is starting as process (\d+)", self.log())]

    def wait_log(self, text: str, timeout_s: float = 120.0, count: int = 1) -> None:
        """Wait until the log has a text ``count`` times."""
        deadline = time.monotonic() + timeout_s
        while self.log().count(text) < count:
            assert self.process.poll() is None, f"the worker ended\n{self.log()[-4000:]}"
            assert time.monotonic() < deadline, f"no {text!r} within {timeout_s} s\n{self.log()[-4000:]}"
            time.sleep(0.05)

    def kill_comfyui(self) -> None:
        """What the system does when memory runs out."""
        os.kill(self.comfy_pids()[-1], signal.SIGKILL)


def post(url: str, body: object, timeout_s: float = 180.0) -> dict[str, Any]:
    """POST JSON, waiting for a server that is not listening yet."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with _OPENER.open(request, timeout=timeout_s) as answer:
                content: dict[str, Any] = json.load(answer)
                return content
        except ConnectionError:
            assert time.monotonic() < deadline
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionError) or time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def get(url: str) -> dict[str, Any]:
    """GET JSON."""
    with _OPENER.open(url, timeout=30) as answer:
        content: dict[str, Any] = json.load(answer)
        return content


def trouble(seed: int = 0, **more: object) -> dict[str, object]:
    """Input of a job for the trouble profile."""
    return {"profile": "trouble", "seed": seed, **more}
