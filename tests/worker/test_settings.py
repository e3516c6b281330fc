"""Environment variables of the worker."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from flux_face.worker.settings import Settings, SettingsError


def test_defaults_without_any_variable() -> None:
    settings = Settings.from_env({})
    assert settings.url == "http://127.0.0.1:8188"
    assert settings.check_interval_s == 0.05
    assert settings.availability_timeout_s == settings.boot_timeout_s
    assert settings.job_timeout_s == 600
    assert settings.jobs_at_a_time == 2


def test_the_first_name_of_a_setting_wins() -> None:
    assert Settings.from_env({"COMFYUI_PATH": "/a"}).comfyui_path == Path("/a")
    assert Settings.from_env({"COMFYUI_PATH": "/a", "FLUX_FACE_COMFYUI_PATH": "/b"}).comfyui_path == Path("/b")


def test_the_originals_availability_check_keeps_its_meaning() -> None:
    env = {"COMFY_API_AVAILABLE_INTERVAL_MS": "100", "COMFY_API_AVAILABLE_MAX_RETRIES": "30"}
    assert Settings.from_env(env).availability_timeout_s == pytest.approx(3.0)
    external = Settings.from_env({"FLUX_FACE_COMFYUI_URL": "http://box:8188/"})
    assert external.url == "http://box:8188"
    assert external.availability_timeout_s == pytest.approx(25.0)


def test_the_originals_polling_limit_keeps_its_meaning() -> None:
    assert Settings.from_env({"COMFY_POLLING_MAX_RETRIES": "500"}).job_timeout_s == pytest.approx(125.0)


def test_a_worker_that_stops_after_each_job_takes_one_at_a_time() -> None:
    assert Settings.from_env({"REFRESH_WORKER": "TRUE", "FLUX_FACE_CONCURRENCY": "4"}).jobs_at_a_time == 1


def test_arguments_are_split_as_a_shell_would() -> None:
    settings = Settings.from_env({"FLUX_FACE_COMFYUI_ARGS": "--cpu --extra-model-paths-config '/a b/c.yaml'"})
    assert settings.comfyui_args == ("--cpu", "--extra-model-paths-config", "/a b/c.yaml")


def test_an_empty_variable_is_unset() -> None:
    assert Settings.from_env({"REFRESH_WORKER": "", "FLUX_FACE_BASE_DIRECTORY": " "}) == Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REFRESH_WORKER", "maybe"),
        ("FLUX_FACE_COMFYUI_PORT", "0"),
        ("FLUX_FACE_COMFYUI_PORT", "1.5"),
        ("FLUX_FACE_BOOT_TIMEOUT_S", "soon"),
        ("FLUX_FACE_BOOT_TIMEOUT_S", "nan"),
        ("FLUX_FACE_COMFYUI_URL", "box:8188"),
        ("FLUX_FACE_COMFYUI_ARGS", "'unclosed"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.from_env({name: value})


def test_a_bucket_needs_its_keys() -> None:
    with pytest.raises(SettingsError, match="BUCKET_ACCESS_KEY_ID"):
        Settings.from_env({"BUCKET_ENDPOINT_URL": "https://s3.example"})


def test_every_setting_has_a_variable_of_its_own_and_a_meaning() -> None:
    names = [name for setting in fields(Settings) for name in setting.metadata["names"]]
    assert len(names) == len(set(names))
    assert all(setting.metadata["meaning"] for setting in fields(Settings))
