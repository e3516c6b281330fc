"""The image's files against the programs and the lists that they must agree with."""

from __future__ import annotations

import base64
import importlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import folder_paths
import pytest
import yaml

from flux_face.catalogue.manifest import load_manifest
from flux_face.catalogue.presence import FACE_FOLDERS, OTHER_NAMES
from flux_face.devtools.comfyui import COMFYUI_VERSION
from flux_face.nodes.face import identity_folders, model_folders
from flux_face.nodes.gguf import folders
from flux_face.server_routes.request_models import JobInput
from flux_face.server_routes.settings import Limits
from flux_face.worker.settings import Settings as WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
EXTRA_PATHS = ROOT / "docker" / "extra_model_paths.yaml"
# No models: nodes, and pictures to train on.
NO_MODELS = {"custom_nodes", "datasets"}


def program(name: str) -> str:
    """The path of a linter that requirements/dev.lock installs."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    assert found, f"{name} is not installed"
    return found


def lint(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_scripts_pass_shellcheck() -> None:
    lint(program("shellcheck"), *(ROOT / "docker").glob("*.sh"))


def test_dockerfile_passes_hadolint() -> None:
    lint(program("hadolint"), DOCKERFILE)


def test_scripts_can_be_executed() -> None:
    for script in ("start.sh", "download.sh"):
        listed = subprocess.run(["git", "ls-files", "-s", f"docker/{script}"], cwd=ROOT, capture_output=True, text=True)
        if listed.stdout:
            assert listed.stdout.startswith("100755"), script


def _stages() -> dict[str, str]:
    text = DOCKERFILE.read_text(encoding="utf-8")
    parts = re.split(r"^FROM \S+ AS (\w+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_what_is_copied_passes_the_ignore_file() -> None:
    """Everything else is kept out, so that neither secrets nor caches get into a layer."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    allowed = {line[1:] for line in lines if line.startswith("!")}
    assert [pattern for pattern in allowed if not list(ROOT.glob(pattern))] == []
    copied = re.findall(r"^COPY (?!--from)(\S+) ", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for source in copied:
        name = source.replace("${VARIANT}", "*")
        assert name == "." or any(name == pattern or name.startswith(f"{pattern}/") for pattern in allowed), name
    # What the pack needs at run time is what is published, and the worker.
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    published = {name.partition("/")[0] for name in tracked if "/" in name and not name.startswith(".")}
    left_out = {line.strip("/") for line in (ROOT / ".comfyignore").read_text(encoding="utf-8").split()}
    assert published - left_out - allowed == set()
    assert "worker" in allowed


def test_a_stage_declares_the_arguments_it_uses() -> None:
    # Docker hands them on to a stage that is built on another one; other builders do not.
    for name, text in _stages().items():
        declared = set(re.findall(r"^ARG (\w+)", text, flags=re.MULTILINE)) | {"PATH"}
        assert set(re.findall(r"\$\{(\w+)", text)) <= declared, name
        # In the RUN lines bash puts its own value in the place of these.
        assert declared & {"EUID", "PPID", "UID"} == set()


def test_secrets_are_build_secrets() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    assert (
        re.findall(r"^(?:ARG|ENV) .*(?:TOKEN|KEY|SECRET|PASSWORD).*$", text, flags=re.MULTILINE | re.IGNORECASE) == []
    )
    assert "--mount=type=secret,id=huggingface_token" in _stages()["downloader"]


def test_the_image_that_runs_is_not_roots() -> None:
    stages = _stages()
    assert re.search(r"^USER \$\{USER_ID\}", stages["slim"], flags=re.MULTILINE)
    assert not re.search(r"^USER ", stages["final"], flags=re.MULTILINE)
    assert "HEALTHCHECK" in stages["slim"]


def test_comfyui_is_the_one_that_was_tried() -> None:
    stage = _stages()["comfyui"]
    assert f"# v{COMFYUI_VERSION}\nARG COMFYUI_COMMIT=" in stage
    assert re.search(r"^ARG COMFYUI_COMMIT=[0-9a-f]{40}$", stage, flags=re.MULTILINE)


def _pins(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8")
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", text, flags=re.MULTILINE))


@pytest.mark.parametrize(
    ("variant", "runtime", "other"),
    [("gpu", "onnxruntime-gpu", "onnxruntime"), ("cpu", "onnxruntime", "onnxruntime-gpu")],
)
def test_a_lock_has_one_onnxruntime_and_one_opencv(variant: str, runtime: str, other: str) -> None:
    pins = _pins(f"docker-{variant}")
    assert runtime in pins
    assert other not in pins
    assert [name for name in pins if name.startswith("opencv")] == ["opencv-python-headless"]
    assert "insightface" in pins


def test_the_locks_have_the_torch_that_was_tried() -> None:
    tried = dict(
        line.split("==")
        for line in (ROOT / "requirements" / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    )
    for variant in ("gpu", "cpu"):
        pins = _pins(f"docker-{variant}")
        assert {name: pins[name] for name in tried} == tried


def test_base_image_cuda_and_onnxruntime_are_of_one_generation() -> None:
    match = re.search(
        r"^ARG BASE_IMAGE=nvidia/cuda:(\d+)\.", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert match
    pins = _pins("docker-gpu")
    # torch's own CUDA, and cuDNN's package, which is named after it.
    assert pins["nvidia-cuda-runtime"].startswith(f"{match[1]}.")
    assert f"nvidia-cudnn-cu{match[1]}" in pins
    # onnxruntime-gpu on the index is built for CUDA 13 from 1.27 on.
    assert match[1] == "13"
    assert tuple(map(int, pins["onnxruntime-gpu"].split(".")[:2])) >= (1, 27)


def _volume_folders() -> dict[str, list[str]]:
    (section,) = yaml.safe_load(EXTRA_PATHS.read_text(encoding="utf-8")).values()
    assert section.pop("base_path") == "/runpod-volume/models"
    return {name: value.split() for name, value in section.items()}


def test_every_model_folder_is_on_the_volume() -> None:
    of_pack = {
        *model_folders._FOLDERS,
        *identity_folders._DEFAULTS,
        folders.UNET_FOLDER,
        folders.CLIP_FOLDER,
    }
    of_comfyui = {
        name
        for name, (paths, _) in folder_paths.folder_names_and_paths.items()
        if any(Path(path).is_relative_to(folder_paths.models_dir) for path in paths)
    }
    of_catalogue = {model.folder for model in load_manifest().models}
    wanted = of_pack | of_comfyui | of_catalogue | set(FACE_FOLDERS) | set(OTHER_NAMES)
    assert wanted - NO_MODELS - set(_volume_folders()) == set()


def test_the_volume_has_the_layout_of_a_models_folder() -> None:
    """So that the downloader can fill it, and a models folder can be copied there as it is."""
    found = _volume_folders()
    for name, others in OTHER_NAMES.items():
        assert set(found[name]) == {name, *others}
    for folder in ("unet_gguf", "clip_gguf"):
        assert found[folder] == found[folders._SOURCES[folder]]
    for name, parts in identity_folders._DEFAULTS.items():
        assert found[name] == ["/".join(parts)]
    special = {*OTHER_NAMES, "unet_gguf", "clip_gguf", *identity_folders._DEFAULTS}
    assert {name: places for name, places in found.items() if name not in special and places != [name]} == {}


def test_comfyui_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extra_config = importlib.import_module("utils.extra_config")
    copy = tmp_path / "paths.yaml"
    copy.write_text(EXTRA_PATHS.read_text(encoding="utf-8").replace("/runpod-volume/models", str(tmp_path)))
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "volume.safetensors").touch()
    before = {name: (list(paths), set(kinds)) for name, (paths, kinds) in folder_paths.folder_names_and_paths.items()}
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", before)
    extra_config.load_extra_path_config(str(copy))
    assert str(tmp_path / "clip") in folder_paths.get_folder_paths("text_encoders")
    assert folder_paths.get_full_path("vae", "volume.safetensors") == str(tmp_path / "vae" / "volume.safetensors")


COMPOSE = ROOT / "docker-compose.yml"


def test_compose_file_is_valid() -> None:
    lint(program("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", COMPOSE)


def _services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    return found


def test_compose_builds_what_the_dockerfile_knows() -> None:
    arguments = set(re.findall(r"^ARG (\w+)", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE))
    for service in _services().values():
        assert service["build"]["dockerfile"] == DOCKERFILE.relative_to(ROOT).as_posix()
        assert set(service["build"]["args"]) <= arguments


def test_compose_has_the_originals_ports_on_this_machine_only() -> None:
    exposed = re.findall(r"^EXPOSE (.*)$", _stages()["slim"], flags=re.MULTILINE)[0].split()
    for service in _services().values():
        published = [port.split(":") for port in service["ports"]]
        assert {inside for _, _, inside in published} == set(exposed) == {"3001", "8000", "8188"}
        assert all(address == "127.0.0.1" and outside == inside for address, outside, inside in published)


def test_compose_starts_nothing_without_a_token() -> None:
    for service in _services().values():
        assert service["environment"]["FLUX_FACE_API_TOKENS"].startswith("${FLUX_FACE_API_TOKENS:?")


def test_only_the_cpu_service_does_without_a_gpu() -> None:
    services = _services()
    assert services["cpu"]["profiles"] == ["cpu"]
    assert services["cpu"]["environment"]["FLUX_FACE_COMFYUI_ARGS"] == "--cpu"
    (device,) = services["comfyui"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


RUNPOD = ROOT / "docker" / "runpod"
HUB = ROOT / ".runpod"
# What ComfyUI, the routes, the worker, the SDK and the start script read.
READ_BY_OTHERS = {"PORT", "PORT_HEALTH", "RUNPOD_LOG_LEVEL"}


def _variables() -> set[str]:
    """Names of variables that the code reads."""
    found = {f"FLUX_FACE_{limit.name.upper()}" for limit in fields(Limits)}
    for setting in fields(WorkerSettings):
        found |= set(setting.metadata["names"])
    for file in [*(ROOT / "server_routes").glob("*.py"), *(ROOT / "docker").glob("*.sh")]:
        text = file.read_text(encoding="utf-8")
        found |= {f"FLUX_FACE_{name}" for name in re.findall(r'text\("([A-Z_]+)"\)', text)}
        found |= set(re.findall(r"\b[A-Z][A-Z_]{3,}\b", text))
    return found


def test_settings_as_code_name_variables_that_exist() -> None:
    hub = json.loads((HUB / "hub.json").read_text(encoding="utf-8"))
    names = {row["key"] for row in hub["config"]["env"]}
    names |= {row["key"] for row in json.loads((HUB / "tests.json").read_text(encoding="utf-8"))["config"]["env"]}
    for file in RUNPOD.glob("template*.json"):
        names |= set(json.loads(file.read_text(encoding="utf-8"))["env"])
    for service in _services().values():
        names |= set(service["environment"]) - {"NVIDIA_VISIBLE_DEVICES"}
    assert names - _variables() - READ_BY_OTHERS == set()


def test_runpod_is_asked_for_machines_with_torchs_cuda() -> None:
    hub = json.loads((HUB / "hub.json").read_text(encoding="utf-8"))["config"]
    tests = json.loads((HUB / "tests.json").read_text(encoding="utf-8"))["config"]
    endpoint = json.loads((RUNPOD / "endpoint.json").read_text(encoding="utf-8"))
    for config in (hub, tests, endpoint):
        assert config["allowedCudaVersions"] == ["13.0"]


def test_no_secret_is_in_settings_as_code() -> None:
    for file in [*RUNPOD.glob("*.json"), *HUB.glob("*.json")]:
        text = file.read_text(encoding="utf-8")
        for name, value in re.findall(r'"(\w*(?:TOKENS|KEY|SECRET)\w*)": "([^"]*)"', text):
            assert value == "" or value.startswith("{{ RUNPOD_SECRET_"), f"{file.name}: {name}"


def test_hub_tests_are_requests_that_the_routes_take() -> None:
    tests = json.loads((HUB / "tests.json").read_text(encoding="utf-8"))["tests"]
    photo = base64.b64encode((ROOT / "server_routes" / "warm_up.jpg").read_bytes()).decode()
    for test in tests:
        assert JobInput.model_validate(test["input"])
        assert test["input"]["user_photo"] == photo


def test_hub_finds_the_dockerfile_and_a_handler() -> None:
    # On Windows git may check links out as files with the target's name.
    link = HUB / "Dockerfile"
    assert link.samefile(DOCKERFILE) or link.read_text(encoding="utf-8") == "../docker/Dockerfile"
    assert (HUB / "handler.py").is_file()
