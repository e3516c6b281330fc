"""A thousand jobs through one worker in production mode: what they leave behind, and how they end when much goes wrong.

In order: the soak, then the chaos, and the last test kills the worker. 16 jobs at a time, for the SDK asks for more at
most once a second.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from flux_face.tests.worker.conftest import Production
from flux_face.tests.worker.process import FAIL, NOISE, SLOW, Worker, make_base, trouble, wait_gone
from flux_face.tests.worker.standin import Faults, Platform, PlatformJob

SEED = 20_261_124
JOBS = 500
TIME_S = 240.0

# Whatever is not given back after a job of the soak is at least one copy of its picture, 200 kB as a file: 400 of them
# are 80 MB. Allocators and caches vary by less than half of it.
SETTLED_AFTER = 100
SIDE = 256
RSS_BOUND = 40_000_000
# A row of the job table is about 1 kB, its write-ahead log at most 4 MB; with pictures in it, it would be 100 MB.
DATA_BOUND = 8_000_000

CANCELLED, KILLS, FAULTS = 50, 3, 0.05


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    """A worker that takes 16 jobs at a time."""
    directory = tmp_path_factory.mktemp("endurance")
    with Platform() as platform:
        env = {
            **platform.environment(),
            "FLUX_FACE_BASE_DIRECTORY": str(make_base(directory / "base")),
            "FLUX_FACE_CONCURRENCY": "16",
        }
        with Worker(directory, env=env) as worker:
            worker.wait_log("ComfyUI is ready", timeout_s=180)
            yield Production(platform, worker)


def test_500_jobs_leave_disk_and_memory_flat(production: Production) -> None:
    platform, worker = production.platform, production.worker
    comfyui = psutil.Process(worker.comfy_pids()[-1])
    data_dir = Path(comfyui.environ()["FLUX_FACE_DATA_DIR"])
    processes = (comfyui, psutil.Process(worker.process.pid))

    def run(seeds: range) -> None:
        jobs = [platform.submit(trouble(NOISE + seed, width=SIDE, height=SIDE)) for seed in seeds]
        platform.wait(lambda: all(job.results for job in jobs), TIME_S, "results of the soak")
        assert all("error" not in job.result for job in jobs)

    run(range(SETTLED_AFTER))
    before = [process.memory_info().rss for process in processes]
    run(range(SETTLED_AFTER, JOBS))
    grown = [process.memory_info().rss - rss for process, rss in zip(processes, before, strict=True)]
    assert max(grown) < RSS_BOUND, grown
    base = worker.log_file.parent / "base"
    assert [path for name in ("input", "output", "temp") for path in (base / name).rglob("*") if path.is_file()] == []
    assert 0 < sum(path.stat().st_size for path in data_dir.rglob("*")) < DATA_BOUND


def test_500_jobs_of_chaos_end_once_each_and_rightly(production: Production) -> None:
    platform, worker, chance = production.platform, production.worker, random.Random(SEED)
    platform.faults = Faults(SEED, FAULTS)
    inputs: list[tuple[str, dict[str, object]]] = []
    for number in range(JOBS):
        kind = chance.choices(("quick", "slow", "mistake", "failure"), (70, 15, 10, 5))[0]
        code, amount = {"slow": (SLOW, chance.randint(1, 6)), "failure": (FAIL, 0)}.get(kind, (0, number))
        inputs.append((kind, trouble(code + amount, **({"step": 1} if kind == "mistake" else {}))))
    jobs = [(kind, platform.submit(job_input)) for kind, job_input in inputs]
    stopped: set[str] = set()
    kills = 0
    deadline = time.monotonic() + TIME_S

    def over(job: PlatformJob) -> bool:
        return bool(job.results) or job.id in stopped

    while not all(over(job) for _, job in jobs):
        assert time.monotonic() < deadline, [job for _, job in jobs if not over(job)]
        ended = sum(over(job) for _, job in jobs)
        if len(stopped) < CANCELLED * ended // JOBS:
            # Most of them wait for the worker still; every second one is taken from those that it has.
            open_jobs = [job for _, job in jobs if not over(job)]
            held = [job for job in open_jobs if job.taken]
            job = chance.choice(held if held and len(stopped) % 2 else open_jobs)
            stopped.add(job.id)
            platform.stop(job)
        if kills < KILLS and ended > JOBS * (kills + 1) // (KILLS + 1):
            kills += 1
            worker.wait_log("ComfyUI is ready", count=kills)
            worker.kill_comfyui()
            worker.wait_log("ComfyUI was ended by SIGKILL", count=kills)
        time.sleep(0.01)
    platform.wait(lambda: production.active_jobs() == 0, 30, "end of the cancelled graphs")

    for kind, job in jobs:
        if job.id not in stopped or job.results:
            _check(kind, job)
        assert not any(late for _, late in job.progress)
    assert kills == KILLS
    assert platform.faults.count > JOBS * FAULTS
    assert any("submissions" in job.result.get("output", {}) for _, job in jobs if job.results)


def _check(kind: str, job: PlatformJob) -> None:
    """Its only result is what its input asks for."""
    result: dict[str, Any] = job.result
    if kind == "mistake":
        assert result["error"].startswith("[field_unknown] step: ")
    elif kind == "failure":
        assert result["error"].startswith("[node_failed] ")
    else:
        assert "error" not in result, result
        assert result["output"]["seeds"] == [job.input["seed"]]
        assert len(result["output"]["images"]) == 1


def test_a_killed_worker_leaves_no_process(production: Production) -> None:
    production.platform.faults = None
    job = production.platform.submit(trouble(SLOW + 600))
    production.wait_running(job)
    worker = psutil.Process(production.worker.process.pid)
    children = worker.children(recursive=True)
    assert len(children) >= 2  # ComfyUI, and the SDK's heartbeat
    os.kill(worker.pid, signal.SIGKILL)
    production.worker.process.wait(10)
    for child in children:
        wait_gone(child.pid)
