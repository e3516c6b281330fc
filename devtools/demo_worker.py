"""The worker as the demo runs it: the real SDK's local API on a free port, and ComfyUI below it on another."""

from __future__ import annotations

import json
import os
import queue
import re
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from .pack import ROOT

STOP_S = 5.0
CONNECT_RETRY_S = 0.2
_WORKER_LINE = re.compile(r"\[flux-face\] (.*)")
_PROGRESS = re.compile(r"job \S+ progress (\{.*\})")
_FOREIGN = re.compile(r"(RUNPOD_|BUCKET_|FLUX_FACE_|COMFY_|REFRESH_WORKER$|SERVE_API_LOCALLY$|PYTHONPATH$)")
# The server is on this machine, whatever proxy the environment names.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))

OnLine = Callable[[str], None]
OnProgress = Callable[[dict[str, Any]], None]


class WorkerError(Exception):
    """The worker gave no answer; the message says why."""


class DemoWorker:
    """A running worker; use as a context manager, which leaves no process behind.

    Args:
        comfyui: ComfyUI's source tree.
        base: ComfyUI's base directory, with the pack in ``custom_nodes``.
        log: file that takes everything the worker and ComfyUI print.
        on_line: told what the worker says about itself.
        on_progress: told where the job is.
    """

    def __init__(self, comfyui: Path, base: Path, log: Path, on_line: OnLine, on_progress: OnProgress) -> None:
        self._log = log
        self._on_line = on_line
        self._on_progress = on_progress
        self._port = _free_port()
        environment = {name: value for name, value in os.environ.items() if not _FOREIGN.match(name)}
        environment.update(
            FLUX_FACE_COMFYUI_PATH=str(comfyui),
            FLUX_FACE_BASE_DIRECTORY=str(base),
            FLUX_FACE_COMFYUI_ARGS="--cpu",
            FLUX_FACE_COMFYUI_PORT=str(_free_port()),
            PYTHONUNBUFFERED="1",
            PYTHONIOENCODING="utf-8",
        )
        arguments = ["--rp_serve_api", "--rp_api_host", "127.0.0.1", "--rp_api_port", str(self._port)]
        worker = ROOT / "worker"
        self._process = subprocess.Popen(
            # Through the launcher, so that it ends with this process even if that is killed.
            [sys.executable, worker / "launcher.py", str(os.getpid()), worker / "__main__.py", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # A Ctrl-C is the demo's to act on, and it needs the worker alive to end ComfyUI.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self._reader = threading.Thread(target=self._read, name="worker-log", daemon=True)
        self._reader.start()

    def __enter__(self) -> DemoWorker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            # Busy with a job. ComfyUI follows it.
            self._process.kill()
            self._process.wait()
        self._reader.join(timeout=STOP_S)

    def runsync(self, job_input: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send a job and wait for its end; the SDK's answer.

        Raises:
            WorkerError: the worker ended, or time ran out.
        """
        answers: queue.Queue[dict[str, Any] | Exception] = queue.Queue()
        body = json.dumps({"input": job_input}).encode()
        over = threading.Event()

        def post() -> None:
            try:
                answers.put(self._post(body, timeout_s, over))
            except Exception as error:
                answers.put(error)

        threading.Thread(target=post, name="runsync", daemon=True).start()
        waited = 0.0
        try:
            while waited < timeout_s:
                try:
                    answer = answers.get(timeout=CONNECT_RETRY_S)
                except queue.Empty:
                    waited += CONNECT_RETRY_S
                    code = self._process.poll()
                    if code is not None:
                        raise WorkerError(f"The worker ended with exit code {code}; see {self._log}") from None
                    continue
                if isinstance(answer, Exception):
                    raise WorkerError(f"The worker's API failed ({answer}); see {self._log}") from answer
                return answer
            raise WorkerError(f"No result within {timeout_s:g} s; see {self._log}")
        finally:
            over.set()

    def _post(self, body: bytes, timeout_s: float, over: threading.Event) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/runsync", data=body, headers={"Content-Type": "application/json"}
        )
        while True:
            try:
                with _OPENER.open(request, timeout=timeout_s) as answer:
                    content: dict[str, Any] = json.load(answer)
                    return content
            except urllib.error.HTTPError:
                raise
            except OSError:
                # Not listening yet; the waiting side looks whether it ever will.
                if over.wait(CONNECT_RETRY_S):
                    raise

    def _read(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        with stream, self._log.open("wb") as log:
            for line in stream:
                log.write(line)
                log.flush()
                told = _WORKER_LINE.search(line.decode("utf-8", "replace"))
                if not told:
                    continue
                progress = _PROGRESS.match(told[1])
                if progress:
                    self._on_progress(json.loads(progress[1]))
                else:
                    self._on_line(told[1])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
