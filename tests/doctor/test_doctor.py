"""The doctor on real interpreters, packages, drivers, disks and ports, each broken on purpose."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flux_face.catalogue.manifest import load_manifest
from flux_face.doctor import comfyui, machine
from flux_face.doctor.diagnosis import Check
from flux_face.doctor.finding import Finding, to_table
from flux_face.doctor.models import models
from flux_face.doctor.subject import Subject
from flux_face.starter import prepare
from flux_face.tests.comfy_server import COMFYUI

ROOT = Path(__file__).resolve().parents[2]
Report = dict[str, list[dict[str, str]]]

linux = pytest.mark.skipif(sys.platform != "linux", reason="what Linux does")


def doctor(
    *arguments: str | Path, env: dict[str, str] | None = None, python: str | Path = sys.executable
) -> tuple[int, Report]:
    """The exit code, and the findings by name."""
    command = [python, ROOT / "doctor", "--json", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "COMFYUI_PATH"}
    done = subprocess.run(command, env={**environment, **(env or {})}, capture_output=True, text=True)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert report["healthy"] == (done.returncode == 0)
    found: Report = {}
    for finding in report["findings"]:
        found.setdefault(finding["name"], []).append(finding)
        assert finding["level"] == "ok" or finding["remedy"], finding
    return done.returncode, found


def look(check: Check, **subject: Any) -> list[Finding]:
    """What one check finds, in this process."""
    return list(check(Subject(**subject)))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Report]:
    """A machine as it should be, but for the GPU."""
    models = tmp_path_factory.mktemp("models")
    prepare.prepare(models)
    return doctor("--comfyui", COMFYUI, "--models-dir", models, "--model-type", "starter", "--writable", models)


def test_a_sound_machine_passes(sound: tuple[int, Report]) -> None:
    code, found = sound
    assert code == 0, found
    import torch

    assert torch.__version__ in found["torch"][0]["what"]
    assert found["comfyui"][0]["what"].startswith("ComfyUI 0.30.")
    assert found["models"][0] == {"name": "models", "level": "ok", "what": "starter: 3 files", "remedy": ""}
    assert "a session runs on" in found["onnx provider"][0]["what"]


def test_nothing_is_written(tmp_path: Path) -> None:
    look(machine.folders, writable=(tmp_path / "not" / "there",))
    look(models, models_dirs=(tmp_path / "models",), model_types=("starter", "face"))
    assert list(tmp_path.iterdir()) == []


def test_an_interpreter_without_packages(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path], check=True)
    python = tmp_path / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    code, found = doctor("--model-type", "sdxl", python=python)
    assert code == 1
    assert found["requirements"][0]["what"] == "not installed: pydantic, pillow"
    assert found["torch"][0]["level"] == "fail"
    assert "pydantic" in found["models"][0]["what"]
    assert found["onnxruntime"][0]["level"] == "ok"


@contextmanager
def _driver(directory: Path, version: int) -> Iterator[dict[str, str]]:
    """A driver library that says it supports CUDA ``version``, as NVIDIA's does, and has no GPU."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler to build a driver library with")
    source = directory / "driver.c"
    source.write_text(
        f"int cuDriverGetVersion(int *version) {{ *version = {version}; return 0; }}\n"
        "int cuInit(unsigned flags) { return 100; }\n"  # CUDA_ERROR_NO_DEVICE
    )
    subprocess.run([compiler, "-shared", "-fPIC", "-o", directory / "libcuda.so.1", source], check=True)
    yield {"LD_LIBRARY_PATH": str(directory)}


@linux
def test_a_driver_older_than_torch(tmp_path: Path) -> None:
    with _driver(tmp_path, 12_040) as env:
        code, found = doctor("--gpu", env=env)
    assert code == 1
    (finding,) = found["driver"]
    assert finding["level"] == "fail"
    assert "CUDA up to 12.4" in finding["what"]
    assert "580" in finding["remedy"]


@linux
def test_a_driver_without_a_gpu(tmp_path: Path) -> None:
    with _driver(tmp_path, 13_010) as env:
        code, found = doctor("--gpu", env=env)
    assert code == 1
    assert found["driver"][0]["level"] == "ok"
    assert "no GPU" in found["gpu"][0]["what"]
    assert found["triton"][0]["level"] == "ok"


@linux
def test_triton_without_a_compiler(tmp_path: Path) -> None:
    with _driver(tmp_path, 13_010) as env:
        _, found = doctor(env={**env, "PATH": str(tmp_path)})
    (finding,) = found["triton"]
    assert finding["level"] == "warn"
    assert "a C compiler is missing" in finding["what"]


def test_a_gpu_that_is_asked_for_and_not_there(sound: tuple[int, Report]) -> None:
    if sound[1]["gpu"][0]["level"] == "ok":
        pytest.skip("this machine has a GPU")
    assert sound[1]["gpu"][0]["level"] == "warn"
    code, found = doctor("--gpu")
    assert code == 1
    assert found["gpu"][0]["level"] == "fail"


def _installed(directory: Path, name: str, version: str, module: str) -> None:
    """The record that an installer leaves of a package."""
    info = directory / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "top_level.txt").write_text(module + "\n")


@pytest.mark.parametrize(("asked", "level"), [((), "warn"), (("--gpu",), "fail")])
def test_two_packages_that_own_one_module(tmp_path: Path, asked: tuple[str, ...], level: str) -> None:
    _installed(tmp_path, "onnxruntime-gpu", "1.2.3", "onnxruntime")
    _installed(tmp_path, "opencv-contrib-python", "4.5.6", "cv2")
    _, found = doctor(*asked, env={"PYTHONPATH": str(tmp_path)})
    onnx, cv = found["onnxruntime"][0], found["opencv"][0]
    assert (onnx["level"], cv["level"]) == (level, "warn")
    assert "onnxruntime-gpu 1.2.3" in onnx["what"]
    assert "opencv-contrib-python 4.5.6" in cv["what"]
    assert "pip uninstall onnxruntime onnxruntime-gpu" in onnx["remedy"]
    assert "pip install opencv-python-headless" in cv["remedy"]


def test_a_package_that_breaks_when_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime" / "__init__.py").write_text("raise OSError('libcudnn.so.9: cannot open')\n")
    code, found = doctor(env={"PYTHONPATH": str(tmp_path)})
    assert code == 1
    assert "OSError: libcudnn.so.9" in found["onnxruntime"][0]["what"]
    # What comes after it is looked at all the same.
    assert "opencv" in found


def test_no_comfyui(tmp_path: Path) -> None:
    (finding,) = look(comfyui.version, comfyui=tmp_path)
    assert finding.level == "fail"
    assert str(tmp_path) in finding.what


def test_an_old_comfyui(tmp_path: Path) -> None:
    (tmp_path / "main.py").touch()
    (tmp_path / "comfyui_version.py").write_text('__version__ = "0.3.64"\n')
    (finding,) = look(comfyui.version, comfyui=tmp_path)
    assert finding.level == "fail"
    assert "0.3.64" in finding.what
    assert "0.30.0" in finding.remedy


def test_missing_models_are_named_with_folder_size_licence_and_link(tmp_path: Path) -> None:
    findings = look(models, models_dirs=(tmp_path,), model_types=("face",))
    assert {finding.level for finding in findings} == {"fail"}
    (swapper,) = (finding for finding in findings if "inswapper_128.onnx" in finding.what)
    for part in (str(tmp_path / "insightface"), "554.3 MB", "non-commercial research only", "commercial use: no"):
        assert part in swapper.what
    assert "--accept-licence insightface-research" in swapper.remedy


def test_models_count_in_any_of_the_folders(tmp_path: Path) -> None:
    first, second = tmp_path / "image", tmp_path / "volume"
    model = next(model for model in load_manifest().models if model.id == "flux-vae")
    assert model.size is not None
    (first / "vae").mkdir(parents=True)
    (second / "vae").mkdir(parents=True)
    with (second / "vae" / model.name).open("wb") as file:
        file.truncate(model.size)
    where = {"models_dirs": (first, second), "model_types": ("flux-vae",)}
    assert [finding.level for finding in look(models, **where)] == ["ok"]
    (first / "vae" / model.name).write_bytes(b"half")
    (second / "vae" / model.name).unlink()
    (finding,) = look(models, **where)
    assert finding.level == "fail"
    assert "has 4 bytes" in finding.what
    assert "--replace" in finding.remedy


def test_missing_starter_models(tmp_path: Path) -> None:
    findings = look(models, models_dirs=(tmp_path,), model_types=("starter",))
    names = [prepare.FLUX_FILE, prepare.CLIP_FILE, prepare.VAE_FILE]
    assert [finding.level for finding in findings] == ["fail"] * 3
    assert all(name in finding.what for name, finding in zip(names, findings, strict=True))


def test_an_unknown_model_type() -> None:
    (finding,) = look(models, model_types=("flux1-schnel",))
    assert finding.level == "fail"
    assert "flux1-schnell" in finding.remedy


@contextmanager
def _mounted(directory: Path, options: str) -> Iterator[Path]:
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield directory
    finally:
        subprocess.run(["umount", directory], check=True)


def test_a_full_disk(tmp_path: Path) -> None:
    with _mounted(tmp_path / "small", "size=1m") as small:
        (small / "fill").write_bytes(bytes(1 << 20))
        (finding,) = look(machine.folders, writable=(small,))
    assert finding.level == "fail"
    assert "is full" in finding.what


@pytest.mark.parametrize(("size", "level"), [("20m", "fail"), ("1g", "warn"), ("3g", "ok")])
def test_a_disk_that_fills(tmp_path: Path, size: str, level: str) -> None:
    # A tmpfs takes no memory before it is written to.
    with _mounted(tmp_path / "small", f"size={size}") as small:
        (finding,) = look(machine.folders, writable=(small,))
    assert finding.level == level


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with _mounted(tmp_path / "locked", "ro") as locked:
        (finding,) = look(machine.folders, writable=(locked,))
    assert finding.level == "fail"
    assert "cannot be written" in finding.what


def test_a_taken_port() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (finding,) = look(machine.ports, ports=(port,))
        assert finding.level == "fail"
    (finding,) = look(machine.ports, ports=(port,))
    assert finding.level == "ok"


@linux
@pytest.mark.parametrize(("least", "level"), [("100.1", "fail"), ("0", "ok")])
def test_the_disk_that_runpod_asks_for(monkeypatch: pytest.MonkeyPatch, least: str, level: str) -> None:
    monkeypatch.setenv("RUNPOD_POD_ID", "pod")
    monkeypatch.setenv("RUNPOD_MIN_DISK_PERCENT", least)
    (finding,) = look(machine.folders)
    assert finding.level == level


@linux
def test_tcmalloc_is_seen(sound: tuple[int, Report]) -> None:
    finding = sound[1]["tcmalloc"][0]
    if finding["level"] == "warn":
        pytest.skip("TCMalloc is not installed")
    _, found = doctor(env={"LD_PRELOAD": finding["what"].partition(" ")[0]})
    assert "loaded into this process" in found["tcmalloc"][0]["what"]


def test_the_table_keeps_paths_in_one_piece() -> None:
    path = "/models/" + "long-name" * 20
    table = to_table([Finding("models", "fail", "missing", f"Put it into {path}"), Finding("gpu", "ok", "there")])
    assert path in table
    assert table.splitlines()[0].startswith("FAIL  models ")
    assert table.splitlines()[-1] == "1 ok, 0 warnings, 1 failures"


def test_dev_py_says_it_too() -> None:
    done: Any = subprocess.run(
        [sys.executable, ROOT / "dev.py", "doctor", "--json", "--model-type", "starter"],
        capture_output=True,
        text=True,
        env={**os.environ, "COMFYUI_PATH": str(COMFYUI)},
    )
    findings = json.loads(done.stdout)["findings"]
    assert {"python", "torch", "comfyui", "models"} <= {finding["name"] for finding in findings}
