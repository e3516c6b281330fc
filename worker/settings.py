"""Every environment variable of the worker, in one typed place."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

PACK = Path(__file__).resolve().parent.parent


class SettingsError(ValueError):
    """An environment variable has a value that cannot be used; the message names it."""


def _boolean(text: str) -> bool:
    value = text.strip().lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    raise ValueError("must be true or false")


def _number(text: str, low: float, high: float) -> float:
    value = float(text)
    if not low <= value <= high:
        raise ValueError(f"must be between {low:g} and {high:g}")
    return value


def _count(low: int, high: int) -> Callable[[str], int]:
    return lambda text: int(_number(str(int(text)), low, high))


def _seconds(low: float, high: float) -> Callable[[str], float]:
    return lambda text: _number(text, low, high)


def _arguments(text: str) -> tuple[str, ...]:
    return tuple(shlex.split(text))


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    return text.rstrip("/")


def _variable(names: str, parse: Callable[[str], object], meaning: str) -> dict[str, Any]:
    """A field read from the first of ``names`` (space-separated) that is set and not empty."""
    return {"names": names.split(), "parse": parse, "meaning": meaning}


@dataclass(frozen=True)
class Settings:
    """What the worker was told through its environment. Times are in seconds unless the variable says ``_MS``."""

    comfyui_path: Path = field(
        default=PACK / ".comfyui" / "ComfyUI",
        metadata=_variable("FLUX_FACE_COMFYUI_PATH COMFYUI_PATH", Path, "directory with ComfyUI's main.py"),
    )
    comfyui_python: str | None = field(
        default=None,
        metadata=_variable("FLUX_FACE_COMFYUI_PYTHON", str, "Python that runs ComfyUI; the worker's own if unset"),
    )
    base_directory: Path | None = field(
        default=None,
        metadata=_variable(
            "FLUX_FACE_BASE_DIRECTORY", Path, "ComfyUI's --base-directory; ComfyUI's own directory if unset"
        ),
    )
    comfyui_args: tuple[str, ...] = field(
        default=(),
        metadata=_variable(
            "FLUX_FACE_COMFYUI_ARGS", _arguments, "further arguments for ComfyUI, quoted as in a shell, e.g. --cpu"
        ),
    )
    comfyui_url: str | None = field(
        default=None,
        metadata=_variable(
            "FLUX_FACE_COMFYUI_URL", _url, "a running ComfyUI to use; the worker then starts none of its own"
        ),
    )
    comfyui_token: str | None = field(
        default=None,
        metadata=_variable(
            "FLUX_FACE_COMFYUI_TOKEN", str, "bearer token for FLUX_FACE_COMFYUI_URL, if its routes want one"
        ),
    )
    port: int = field(
        default=8188,
        metadata=_variable("FLUX_FACE_COMFYUI_PORT", _count(1, 65535), "port of the ComfyUI the worker starts"),
    )
    boot_timeout_s: float = field(
        default=420.0,
        metadata=_variable(
            "FLUX_FACE_BOOT_TIMEOUT_S",
            _seconds(1, 3600),
            "how long ComfyUI may take to become ready, its warm-up included",
        ),
    )
    silence_timeout_s: float = field(
        default=60.0,
        metadata=_variable(
            "FLUX_FACE_SILENCE_TIMEOUT_S",
            _seconds(1, 3600),
            "how long a running ComfyUI may not answer before it is restarted",
        ),
    )
    max_restarts: int = field(
        default=5,
        metadata=_variable(
            "FLUX_FACE_MAX_RESTARTS", _count(0, 1000), "restarts in a row that never became ready before giving up"
        ),
    )
    api_available_interval_ms: int = field(
        default=50,
        metadata=_variable(
            "COMFY_API_AVAILABLE_INTERVAL_MS", _count(1, 60_000), "time between two checks whether ComfyUI is ready"
        ),
    )
    api_available_max_retries: int | None = field(
        default=None,
        metadata=_variable(
            "COMFY_API_AVAILABLE_MAX_RETRIES",
            _count(1, 1_000_000),
            "checks a job waits for; if unset, 500 for FLUX_FACE_COMFYUI_URL, else as long as the worker's own ComfyUI "
            "is booting",
        ),
    )
    polling_interval_ms: int = field(
        default=250,
        metadata=_variable(
            "COMFY_POLLING_INTERVAL_MS",
            _count(10, 60_000),
            "time between two looks at a running job while its event stream is broken",
        ),
    )
    polling_max_retries: int | None = field(
        default=None,
        metadata=_variable(
            "COMFY_POLLING_MAX_RETRIES",
            _count(1, 1_000_000),
            "if set, a job may take this many polling intervals; if unset, FLUX_FACE_JOB_TIMEOUT_S",
        ),
    )
    longest_job_s: float = field(
        default=600.0,
        metadata=_variable(
            "FLUX_FACE_JOB_TIMEOUT_S", _seconds(1, 86_400), "how long a job may take before it is cancelled"
        ),
    )
    shutdown_grace_s: float = field(
        default=8.0,
        metadata=_variable(
            "FLUX_FACE_SHUTDOWN_GRACE_S",
            _seconds(0, 3600),
            "how long running jobs may go on after SIGTERM; container runtimes kill after 10 s by default",
        ),
    )
    concurrency: int = field(
        default=2,
        metadata=_variable(
            "FLUX_FACE_CONCURRENCY",
            _count(1, 16),
            "jobs taken at a time: with 2, the next is decoded while one is drawn; 1 if REFRESH_WORKER",
        ),
    )
    refresh_worker: bool = field(
        default=False,
        metadata=_variable("REFRESH_WORKER", _boolean, "stop the worker after each job, so that the next starts clean"),
    )
    serve_api_locally: bool = field(
        default=False,
        metadata=_variable(
            "SERVE_API_LOCALLY",
            _boolean,
            "serve the SDK's local API on 0.0.0.0:8000 and let ComfyUI listen on all interfaces",
        ),
    )
    tcmalloc: bool = field(
        default=True,
        metadata=_variable(
            "FLUX_FACE_TCMALLOC", _boolean, "preload TCMalloc into ComfyUI where it is installed (Linux)"
        ),
    )
    bucket_endpoint_url: str | None = field(
        default=None,
        metadata=_variable(
            "BUCKET_ENDPOINT_URL", _url, "S3-compatible storage; if set, pictures are uploaded and returned as links"
        ),
    )
    bucket_access_key_id: str | None = field(
        default=None,
        metadata=_variable("BUCKET_ACCESS_KEY_ID", str, "its access key"),
    )
    bucket_secret_access_key: str | None = field(
        default=None,
        metadata=_variable("BUCKET_SECRET_ACCESS_KEY", str, "its secret key"),
    )
    bucket_name: str | None = field(
        default=None,
        metadata=_variable(
            "BUCKET_NAME", str, "its bucket; if unset, month and year of the upload as in the RunPod SDK, e.g. 11-26"
        ),
    )
    bucket_region: str | None = field(
        default=None,
        metadata=_variable("BUCKET_REGION", str, "the bucket's region, where the storage has regions"),
    )

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read the settings.

        Raises:
            SettingsError: a value cannot be used.
        """
        values: dict[str, Any] = {}
        for setting in fields(cls):
            name = next((name for name in setting.metadata["names"] if env.get(name, "").strip()), None)
            if name is None:
                continue
            try:
                values[setting.name] = setting.metadata["parse"](env[name])
            except ValueError as error:
                raise SettingsError(f"{name}={env[name]!r}: {error}") from None
        settings = cls(**values)
        if settings.bucket_endpoint_url and not (settings.bucket_access_key_id and settings.bucket_secret_access_key):
            raise SettingsError("BUCKET_ENDPOINT_URL needs BUCKET_ACCESS_KEY_ID and BUCKET_SECRET_ACCESS_KEY")
        return settings

    @property
    def url(self) -> str:
        """ComfyUI's address without a trailing slash."""
        return self.comfyui_url or f"http://127.0.0.1:{self.port}"

    @property
    def check_interval_s(self) -> float:
        """Time between two readiness checks."""
        return self.api_available_interval_ms / 1000

    @property
    def availability_timeout_s(self) -> float:
        """How long a job waits for ComfyUI to become ready."""
        if self.api_available_max_retries is not None:
            return self.api_available_max_retries * self.check_interval_s
        return 500 * self.check_interval_s if self.comfyui_url else self.boot_timeout_s

    @property
    def job_timeout_s(self) -> float:
        """How long a job may take once it is submitted."""
        if self.polling_max_retries is not None:
            return self.polling_max_retries * self.polling_interval_ms / 1000
        return self.longest_job_s

    @property
    def jobs_at_a_time(self) -> int:
        """Jobs the worker holds at once. A worker that is about to stop must not hold a second one."""
        return 1 if self.refresh_worker else self.concurrency
