"""The command line, as people and the Docker build run it: a directory given to Python."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flux_face.devtools.pack import ROOT
from flux_face.tests.catalogue.conftest import Shop
from flux_face.tests.catalogue.hub import Fault, Served

BYTES = random.Random(1).randbytes(300_000)
# Free, and of unknown size and hash, so that a test may make one up.
MODEL, NAME = "ghost-1", "ghost_1_256.onnx"


def command(shop: Shop, *arguments: str) -> subprocess.Popen[str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGINGFACE_"))}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "catalogue"), *arguments],
        cwd=shop.models_dir.parent,
        env=env | shop.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(shop: Shop, *arguments: str) -> tuple[int, str, str]:
    process = command(shop, *arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.fixture
def ghost(shop: Shop) -> Served:
    served = shop.hub.files[f"facefusion/models-3.0.0/{NAME}"] = Served(BYTES)
    return served


@pytest.mark.usefixtures("ghost")
def test_download_then_check(shop: Shop) -> None:
    path = shop.models_dir / "facefusion" / NAME
    arguments = ("--models-dir", str(shop.models_dir))
    assert run(shop, "check", MODEL, *arguments) == (1, f"missing  facefusion/{NAME}\n", "")
    code, out, err = run(shop, "download", MODEL, *arguments)
    assert (code, out) == (0, f"downloaded {path} (verified: host)\n"), err
    assert path.read_bytes() == BYTES
    assert run(shop, "check", MODEL, *arguments) == (0, f"found    {path}  verified: host\n", "")
    assert run(shop, "check", MODEL, "--hash", *arguments) == (0, f"found    {path}  hash is right\n", "")
    path.write_bytes(bytes(len(BYTES)))
    assert run(shop, "check", MODEL, "--hash", *arguments) == (1, f"wrong    {path}  hash is wrong\n", "")


def test_another_export_of_a_model_is_found_but_not_compared(shop: Shop) -> None:
    path = shop.models_dir / "facerestore_models" / "GFPGANv1.4.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(BYTES)
    found = (0, f"found    {path}  no hash to compare with\n", "")
    assert run(shop, "check", "gfpgan-1.4", "--hash", "--models-dir", str(shop.models_dir)) == found


def test_errors_are_lines_and_an_exit_code(shop: Shop) -> None:
    code, out, err = run(shop, "download", "face", "--models-dir", str(shop.models_dir))
    assert (code, out) == (1, "")
    assert "Traceback" not in err
    assert "accept it as 'insightface-research'" in err
    assert not shop.models_dir.exists()


def test_an_interrupted_download_keeps_its_part(shop: Shop, ghost: Served) -> None:
    ghost.cdn_faults = [Fault(drip=1000)]
    part = shop.models_dir / "facefusion" / f"{NAME}.part"
    process = command(shop, "download", MODEL, "--models-dir", str(shop.models_dir))
    while process.poll() is None and not (part.is_file() and part.stat().st_size):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "gone on with next time" in err
    assert 0 < part.stat().st_size < len(BYTES)


def test_list_needs_neither_comfyui_nor_the_pack(shop: Shop) -> None:
    code = f"""
import runpy, sys
sys.argv = ["catalogue", "list"]
try:
    runpy.run_path({str(ROOT / "catalogue")!r}, run_name="__main__")
except SystemExit as end:
    assert end.code == 0
loaded = {{name.partition(".")[0] for name in sys.modules}}
assert not loaded & {{"comfy", "folder_paths", "nodes", "server_routes", "worker", "torch", "requests",
                      "huggingface_hub", "filelock", "tqdm"}}, loaded
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=shop.models_dir.parent, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "flux1-schnell-gguf: flux1-schnell-q4_k_s t5xxl-fp8 clip-l flux-vae (default)" in result.stdout


def test_the_packs_root_stays_off_the_path(tmp_path: Path) -> None:
    code = f"""
import runpy, sys
sys.argv = ["catalogue", "list"]
try:
    runpy.run_path({str(ROOT / "catalogue")!r}, run_name="__main__")
except SystemExit:
    pass
assert {str(ROOT)!r} not in sys.path and {str(ROOT / "catalogue")!r} not in sys.path, sys.path
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
