"""The container's start script, run for real: what it refuses, what it starts, and how that ends."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import insightface
import pytest
import skimage

from flux_face.doctor.graphics import driver_cuda
from flux_face.starter import prepare
from flux_face.tests.comfy_server import COMFYUI, START_TIMEOUT_S, free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the image is Linux")

ROOT = Path(__file__).resolve().parents[2]
STARTER_MODELS = ROOT / ".comfyui" / "base" / "models"
TOKEN = "tester-0123456789abcdef"
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Image:
    """What the image has, in a temporary folder: ComfyUI with the pack, the second port and the starter models.

    Attributes:
        comfyui: ComfyUI's folder.
        env: what the script is told.
    """

    comfyui: Path
    env: dict[str, str]

    @property
    def port(self) -> int:
        return int(self.env["FLUX_FACE_COMFYUI_PORT"])

    @property
    def old_port(self) -> int:
        return int(self.env["FLUX_FACE_OLD_PORT"])

    def command(self) -> list[str]:
        return [str(ROOT / "docker" / "start.sh")]

    def refused(self, **env: str) -> str:
        """What the script says that does not start anything."""
        done = subprocess.run(self.command(), env={**self.env, **env}, capture_output=True, text=True)
        assert done.returncode == 2, done.stderr
        assert done.stdout == ""
        return done.stderr


@pytest.fixture
def image(tmp_path: Path) -> Image:
    comfyui = tmp_path / "comfyui"
    for name in ("custom_nodes", "input", "models", "output", "temp", "user"):
        (comfyui / name).mkdir(parents=True)
    for path in COMFYUI.iterdir():
        if not (comfyui / path.name).exists():
            (comfyui / path.name).symlink_to(path)
    (comfyui / "custom_nodes" / "flux-face").symlink_to(ROOT)
    (comfyui / "custom_nodes" / "flux-face-ports").symlink_to(ROOT / "docker" / "ports")
    for folder, name in (("unet", prepare.FLUX_FILE), ("clip", prepare.CLIP_FILE), ("vae", prepare.VAE_FILE)):
        (comfyui / "models" / folder).mkdir()
        (comfyui / "models" / folder / name).symlink_to(STARTER_MODELS / folder / name)
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    env = {
        **kept,
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "COMFYUI_PATH": str(comfyui),
        "MODEL_TYPE": "starter",
        # main.py is a link: without, ComfyUI would take the folder that it leads to.
        "FLUX_FACE_COMFYUI_ARGS": f"--cpu --base-directory '{comfyui}'",
        "FLUX_FACE_COMFYUI_PORT": str(free_port()),
        "FLUX_FACE_OLD_PORT": str(free_port()),
        "PYTHONUNBUFFERED": "1",
    }
    return Image(comfyui, env)


@contextmanager
def running(image: Image, log: Path, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """The script's process, once the API is ready."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            image.command(), env={**image.env, **env}, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        _until(lambda: process.poll() is not None or _healthy(image))
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        process.kill()
        process.wait()


def _until(condition: Callable[[], bool], seconds: float = START_TIMEOUT_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _healthy(image: Image) -> bool:
    """What the image's HEALTHCHECK asks."""
    return subprocess.run([sys.executable, ROOT / "docker" / "health.py"], env=image.env).returncode == 0


def _ask(port: int, path: str, body: object = None, token: str | None = TOKEN) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=data, headers=headers)
    try:
        with _OPENER.open(request, timeout=120) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        text = error.read()
        return error.code, json.loads(text) if text.startswith(b"{") else None


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _swap() -> dict[str, Any]:
    photos = {
        "source_image": Path(skimage.__file__).parent / "data" / "astronaut.png",
        "target_image": Path(insightface.__file__).parent / "data" / "images" / "Tom_Hanks_54745.png",
    }
    return {"input": {name: base64.b64encode(path.read_bytes()).decode() for name, path in photos.items()}}


def test_the_worker_runs_answers_and_ends_on_a_signal(image: Image, tmp_path: Path) -> None:
    # As on the platform, where this is the address that jobs are taken from; nothing listens there.
    log = tmp_path / "log"
    with running(
        image, log, RUNPOD_WEBHOOK_GET_JOB="http://127.0.0.1:9/$ID", RUNPOD_SKIP_AUTO_SYSTEM_CHECKS="true"
    ) as process:
        said = log.read_text()
        assert "0 failures" in said
        assert "starter: 3 files" in said
        # Not a child of the script: the script has become the worker.
        assert "worker" in Path(f"/proc/{process.pid}/cmdline").read_text()
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    assert not _listens(image.port)
    assert not _listens(image.old_port)


def test_comfyui_alone_answers_on_both_ports_and_ends_on_a_signal(image: Image, tmp_path: Path) -> None:
    tokens = {"FLUX_FACE_SERVE": "routes", "FLUX_FACE_API_TOKENS": f"tester:{TOKEN}"}
    with running(image, tmp_path / "log", **tokens) as process:
        assert _ask(image.old_port, "/ping")[0] == 200
        code, swapped = _ask(image.old_port, "/api/runpod", _swap())
        assert (code, swapped["status"]) == (200, "COMPLETED"), swapped
        assert swapped["output"]["image"]
        # The old port has the callers' rules of the new one.
        assert _ask(image.old_port, "/api/runpod", _swap(), token=None)[0] == 401
        # Nothing else of ComfyUI's is on it.
        assert _ask(image.old_port, "/system_stats")[0] == 404
        assert _ask(image.old_port, "/flux-face/v1/jobs")[0] == 404
        profiles = _ask(image.port, "/flux-face/v1/profiles")[1]["profiles"]
        assert [profile["name"] for profile in profiles if profile["default"]] == ["starter"]
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        installed = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True).stdout
        assert ("tcmalloc" in maps) == ("libtcmalloc_minimal.so" in installed)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    assert not _listens(image.port)
    assert not _listens(image.old_port)


def test_no_gpu(image: Image) -> None:
    if driver_cuda() is not None:
        pytest.skip("this machine has a driver")
    said = image.refused(FLUX_FACE_COMFYUI_ARGS="")
    assert "FAIL  gpu" in said
    assert "no NVIDIA driver" in said
    assert said.splitlines()[-1] == "flux-face: not started: see what failed above"


def test_missing_models(image: Image) -> None:
    said = image.refused(MODEL_TYPE="starter flux1-schnell-gguf")
    for part in ("flux1-schnell-Q4_K_S.gguf", "ae.safetensors", str(image.comfyui / "models"), "/runpod-volume/models"):
        assert part in said


def test_missing_comfyui(image: Image) -> None:
    (image.comfyui / "main.py").unlink()
    assert f"there is no ComfyUI in {image.comfyui}" in " ".join(image.refused().split())


def test_a_full_disk(image: Image) -> None:
    output = image.comfyui / "output"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", output], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        (output / "fill").write_bytes(bytes(1 << 20))
        assert "is full" in image.refused()
    finally:
        subprocess.run(["umount", output], check=True)


def test_a_taken_port(image: Image) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", image.port))
        taken.listen()
        assert f"FAIL  port {image.port}" in image.refused()


def test_routes_without_tokens(image: Image) -> None:
    assert "FLUX_FACE_API_TOKENS" in image.refused(FLUX_FACE_SERVE="routes")


def test_an_unknown_way_to_serve(image: Image) -> None:
    assert "worker or routes" in image.refused(FLUX_FACE_SERVE="web")


def test_the_health_check_says_why_not(image: Image) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docker" / "health.py"], env=image.env, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert str(image.port) in done.stdout
