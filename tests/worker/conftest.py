"""One worker of RunPod's serverless kind, with its ComfyUI, for all tests of this room."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from flux_face.tests.worker.process import Worker, get, make_base, trouble
from flux_face.tests.worker.standin import Platform, PlatformJob


@dataclass
class Production:
    """A worker and the platform it works for."""

    platform: Platform
    worker: Worker

    @property
    def comfy_url(self) -> str:
        """Its ComfyUI's address."""
        return f"http://127.0.0.1:{self.worker.comfy_port}"

    def run(self, seed: int = 0, timeout_s: float = 60.0, **more: object) -> dict[str, object]:
        """Run a job of the trouble profile to its result."""
        return self.platform.finish(self.platform.submit(trouble(seed, **more)), timeout_s)

    def wait_running(self, job: PlatformJob) -> None:
        """Wait until the job's graph runs."""
        self.platform.wait(
            lambda: any(update["stage"] == "running" for update, _ in job.progress), 60, f"progress of {job.input}"
        )

    def active_jobs(self) -> int:
        """Jobs that the routes have not finished."""
        jobs = get(f"{self.comfy_url}/flux-face/v1/health")["jobs"]
        return int(jobs["inProgress"]) + int(jobs["inQueue"])


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    """A worker in production mode, ready; one per file, for the last test of test_production.py ends it."""
    directory = tmp_path_factory.mktemp("production")
    with Platform() as platform:
        env = {
            **platform.environment(),
            "FLUX_FACE_BASE_DIRECTORY": str(make_base(directory / "base")),
            "FLUX_FACE_JOB_TIMEOUT_S": "15",
        }
        with Worker(directory, env=env) as worker:
            worker.wait_log("ComfyUI is ready", timeout_s=180)
            yield Production(platform, worker)


@pytest.fixture
def platform() -> Iterator[Platform]:
    """Another platform, for another worker."""
    with Platform() as platform:
        yield platform
