"""A real ComfyUI process for tests."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Graph = dict[str, dict[str, Any]]
Entry = dict[str, Any]

# Set by conftest.py where dev.py has not.
COMFYUI = Path(os.environ["COMFYUI_PATH"])
START_TIMEOUT_S = 240.0

# The server is on this machine, whatever proxy the environment names.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ComfyError(AssertionError):
    """ComfyUI refused a graph, failed to run it, or is not there any more.

    Attributes:
        response: what ComfyUI answered: the body of the refusal, or the execution error; else empty.
    """

    def __init__(self, message: str, response: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.response = response or {}


@dataclass(frozen=True)
class Comfy:
    """One running ComfyUI.

    Attributes:
        base: its base directory, with ``models/``, ``input/``, ``output/`` and ``custom_nodes/flux-face``.
        port: where it listens on 127.0.0.1.
    """

    base: Path
    port: int
    process: subprocess.Popen[bytes]

    @classmethod
    def start(
        cls,
        base: Path,
        pack: Path,
        comfyui: Path,
        models: Path,
        *,
        flags: Sequence[str] = (),
        env: dict[str, str] | None = None,
    ) -> Comfy:
        """Start ComfyUI on the CPU and wait until it answers.

        Args:
            base: an empty directory to become the base directory, or that of a server that has ended, to start again
                on it; the log goes on in the same file.
            pack: the pack's root, linked into ``custom_nodes`` unless the pack is there.
            comfyui: ComfyUI's source tree.
            models: a models directory that is read in place, besides the base directory's own.
            flags: further command-line flags.
            env: environment variables beside those of this process.

        Raises:
            ComfyError: it ended, or did not answer in time; with the tail of its log.
        """
        for name in ("models", "input", "output", "custom_nodes"):
            (base / name).mkdir(exist_ok=True)
        link = base / "custom_nodes" / "flux-face"
        if not link.exists():
            link.symlink_to(pack, target_is_directory=True)
        (base / "extra_model_paths.yaml").write_text(
            # A JSON string is a YAML string, whatever characters the path has.
            f"starter:\n  base_path: {json.dumps(str(models))}\n"
            "  diffusion_models: unet\n  text_encoders: clip\n  vae: vae\n",
            encoding="utf-8",
        )
        port = free_port()
        command = [sys.executable, str(comfyui / "main.py"), "--cpu", "--disable-auto-launch"]
        command += ["--listen", "127.0.0.1", "--port", str(port), "--base-directory", str(base)]
        command += ["--extra-model-paths-config", str(base / "extra_model_paths.yaml")]
        command += ["--database-url", "sqlite:///:memory:", *flags]
        with (base / "comfyui.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=base,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        server = cls(base, port, process)
        try:
            server._wait_until_ready()
        except BaseException:
            server.stop()
            raise
        return server

    @property
    def url(self) -> str:
        """Address without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Comfy:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process and wait for its end."""
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def kill(self) -> None:
        """End the process at once, as a system does that runs out of memory."""
        self.process.kill()
        self.process.wait()

    def log(self) -> str:
        """All that the server has printed so far."""
        return (self.base / "comfyui.log").read_text(encoding="utf-8", errors="replace")

    def get(self, path: str) -> Any:
        """The JSON answer to GET ``path``."""
        return json.loads(self._request(path))

    def submit(self, graph: Graph) -> str:
        """Queue an API-format graph; returns its prompt id.

        Raises:
            ComfyError: the graph was refused; the message names each node's error.
        """
        body = json.dumps({"prompt": graph, "client_id": uuid.uuid4().hex}).encode()
        try:
            answer = json.loads(self._request("/prompt", body))
        except urllib.error.HTTPError as refusal:
            response = json.loads(refusal.read())
            raise ComfyError(_refusal_text(response), response) from None
        return str(answer["prompt_id"])

    def wait(self, prompt_id: str, timeout: float = 120) -> Entry:
        """Wait for a queued graph; returns its history entry.

        Raises:
            ComfyError: it failed (the message is the execution error's), the server ended, or time ran out.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            history: dict[str, Entry] = self.get(f"/history/{prompt_id}")
            if prompt_id in history:
                entry = history[prompt_id]
                _raise_execution_error(entry)
                return entry
            self._check_alive()
            time.sleep(0.05)
        raise ComfyError(f"The graph did not end within {timeout} s.\n{self._log_tail()}")

    def run(self, graph: Graph, timeout: float = 120) -> Entry:
        """Queue an API-format graph and wait for it; returns its history entry.

        Raises:
            ComfyError: see `submit` and `wait`.
        """
        return self.wait(self.submit(graph), timeout)

    def images(self, entry: Entry, node_id: str) -> list[NDArray[np.uint8]]:
        """The images that a node of a finished graph has shown or saved, ``[H,W,3]`` RGB."""
        return [self.picture(reference) for reference in entry["outputs"][node_id]["images"]]

    def picture(self, reference: dict[str, str]) -> NDArray[np.uint8]:
        """An image by its file name, subfolder and type, ``[H,W,3]`` RGB."""
        data = self._request("/view?" + urllib.parse.urlencode(reference))
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    def _request(self, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(self.url + path, data=body)
        if body is not None:
            request.add_header("Content-Type", "application/json")
        with _OPENER.open(request, timeout=60) as answer:
            data: bytes = answer.read()
            return data

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            self._check_alive()
            try:
                self._request("/system_stats")
            except OSError:
                time.sleep(0.2)
            else:
                return
        raise ComfyError(f"ComfyUI did not answer within {START_TIMEOUT_S} s.\n{self._log_tail()}")

    def _check_alive(self) -> None:
        code = self.process.poll()
        if code is not None:
            raise ComfyError(f"ComfyUI ended with exit code {code}.\n{self._log_tail()}")

    def _log_tail(self) -> str:
        return "\n".join(self.log().splitlines()[-60:])


StartComfy = Callable[..., Comfy]


def free_port() -> int:
    """A port on 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _refusal_text(response: dict[str, Any]) -> str:
    lines = [f"{response['error']['message']}: {response['error']['details']}"]
    for node_id, node in (response.get("node_errors") or {}).items():
        prefix = f"node {node_id} ({node['class_type']}): "
        lines.extend(f"{prefix}{error['message']}: {error['details']}" for error in node["errors"])
    return "\n".join(lines)


def _raise_execution_error(entry: Entry) -> None:
    for kind, data in entry["status"]["messages"]:
        if kind == "execution_error":
            raise ComfyError(f"{data['node_type']}: {data['exception_message']}", data)
        if kind == "execution_interrupted":
            raise ComfyError("The graph was interrupted", data)
