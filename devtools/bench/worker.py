"""The RunPod worker against the original's three processes: what a job costs beside its graph, and the start.

Both run under the real RunPod SDK in production mode, against a stand-in for RunPod's endpoints, on one ComfyUI and one
graph (text to picture with the starter model, then the classic face swap), job by job in turns. The original is made
anew from its specification: availability checks every 50 ms, a look into the history every 250 ms, the swap by a second
HTTP service, pictures as base64. Its swap is this pack's own.

Overhead is the time from when a worker gets a job to when its result arrives, less the time that graph and swap take by
themselves. The SDK begins a job up to 100 ms after it got it; rows "above an empty handler" leave that out, measured
with a handler that does nothing.
"""

from __future__ import annotations

import base64
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ...tests.worker.process import COMFYUI, ROOT, Worker, free_port, make_base
from ...tests.worker.standin import Platform
from .report import Row, lower

PROFILE = "bench"
STEPS = (2, 3, 4, 5, 6)
# Of each kind, by the number of pictures in a job.
JOBS = {1: 30, 4: 10}
FIRST_JOBS = 10
START_S = 300.0
JOB_S = 120.0
PROMPT = "portrait of a smiling woman with brown hair, light skin, blue background"
# Not of the original's graph: the swap is a service there.
_OURS_ONLY = ("photo", "engine", "swap", "output")
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass
class Contestant:
    """Something that takes jobs of a platform.

    Attributes:
        platform: gives it jobs.
        boot_s: from its start until everything of it is ready.
        comfy_port: where its ComfyUI listens.
    """

    platform: Platform
    boot_s: float
    comfy_port: int
    _chance: random.Random = field(default_factory=lambda: random.Random(1))

    def run(self, pictures: int, seed: int) -> tuple[float, float]:
        """One job: milliseconds from taking it to its result, and those that graph and swap took by themselves."""
        photo = base64.b64encode((ROOT / "server_routes" / "warm_up.jpg").read_bytes()).decode("ascii")
        # A prompt of its own, as real jobs have: ComfyUI keeps the last one's encoding.
        job_input = {"user_photo": photo, "prompt": f"{PROMPT}, number {seed}", "batch_size": pictures, "seed": seed}
        # Of several lengths: a poller's wait depends on where a job's end falls between two looks.
        job_input["num_steps"] = STEPS[seed % len(STEPS)]
        # By chance, as jobs come: the SDK looks for them every 100 ms.
        time.sleep(self._chance.uniform(0.1, 0.2))
        job = self.platform.submit(job_input)
        output = self.platform.finish(job, JOB_S)["output"]
        compute_ms = sum(output["timings"]["nodes_ms"].values()) if "timings" in output else output["compute_ms"]
        return 1000 * (job.ended_at - job.taken_at), compute_ms

    def first_to_later(self) -> float:
        """The first job's time, in times of the jobs of the second half of ten, all of one length."""
        times = [self.run(1, seed * len(STEPS))[0] for seed in range(FIRST_JOBS)]
        return times[0] / statistics.median(times[FIRST_JOBS // 2 :])


class Bench:
    """Starts the contestants.

    Args:
        folder: an empty one, for all they write.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started = 0
        graph = json.loads((ROOT / "workflows" / "api" / "starter.json").read_text(encoding="utf-8"))
        graph["schedule"]["inputs"]["steps"] = STEPS[0]
        for name in ("qa", "retry", "save"):
            del graph[name]
        graph["output"]["inputs"] = {"images": ["swap", 0], "job_id": ""}
        (folder / "profiles").mkdir()
        (folder / "profiles" / f"{PROFILE}.json").write_text(json.dumps(graph), encoding="utf-8")
        save = {"class_type": "SaveImage", "inputs": {"images": ["decode", 0], "filename_prefix": "original"}}
        plain = {name: node for name, node in graph.items() if name not in _OURS_ONLY}
        (folder / "workflow.json").write_text(json.dumps({**plain, "save": save}), encoding="utf-8")
        models = json.dumps(str(ROOT / ".comfyui" / "base" / "models"))  # a JSON string is a YAML string
        (folder / "models.yaml").write_text(
            f"starter:\n  base_path: {models}\n  diffusion_models: unet\n  text_encoders: clip\n  vae: vae\n",
            encoding="utf-8",
        )
        self._base = make_base(folder / "base")

    @contextmanager
    def ours(self, env: Mapping[str, str]) -> Iterator[Contestant]:
        """This pack's worker."""
        with Platform() as platform:
            variables = {
                **platform.environment(),
                "FLUX_FACE_BASE_DIRECTORY": str(self._base),
                "FLUX_FACE_COMFYUI_ARGS": f"--cpu --extra-model-paths-config {self._folder / 'models.yaml'}",
                "FLUX_FACE_PROFILES_DIR": str(self._folder / "profiles"),
                "FLUX_FACE_DEFAULT_PROFILE": PROFILE,
                **env,
            }
            started = time.perf_counter()
            with Worker(self._new_folder(), env=variables) as worker:
                platform.wait(lambda: platform.asked_at is not None, START_S, "start of the worker")
                assert platform.asked_at is not None
                yield Contestant(platform, platform.asked_at - started, worker.comfy_port)

    @contextmanager
    def original(self) -> Iterator[Contestant]:
        """The original: ComfyUI, the swap's service, the handler."""
        comfy_port = free_port()
        command = [str(COMFYUI / "main.py"), "--cpu", "--listen", "127.0.0.1", "--port", str(comfy_port)]
        command += ["--disable-auto-launch", "--database-url", "sqlite:///:memory:"]
        command += ["--base-directory", str(self._base)]
        command += ["--extra-model-paths-config", str(self._folder / "models.yaml")]
        started = time.perf_counter()
        with self._process(command, {}), self.handler(comfy_port) as handler:
            while not _answers(comfy_port):
                time.sleep(0.05)
                if time.perf_counter() - started > START_S:
                    raise TimeoutError("the original's ComfyUI did not start")
            assert handler.platform.asked_at is not None
            handler.boot_s = max(time.perf_counter(), handler.platform.asked_at) - started
            yield handler

    @contextmanager
    def handler(self, comfy_port: int, *, empty: bool = False) -> Iterator[Contestant]:
        """The original's handler and swap service beside a ComfyUI; or a handler that does nothing, alone."""
        with ExitStack() as stack:
            platform = stack.enter_context(Platform())
            swap_port = free_port()
            env = {
                **platform.environment(),
                "RUNPOD_LOG_LEVEL": "INFO",
                "ORIGINAL_COMFYUI": f"http://127.0.0.1:{comfy_port}",
                "ORIGINAL_OUTPUT": str(self._base / "output"),
                "ORIGINAL_SWAP": f"http://127.0.0.1:{swap_port}/api/runpod",
                "ORIGINAL_WORKFLOW": str(self._folder / "workflow.json"),
                "ORIGINAL_EMPTY": "1" if empty else "",
            }
            started = time.perf_counter()
            if not empty:
                module = [str(ROOT / "devtools" / "pack.py"), "devtools.bench._original_swap", str(swap_port)]
                stack.enter_context(self._process(module, {}))
            stack.enter_context(self._process([str(Path(__file__).with_name("_original_handler.py"))], env))
            platform.wait(
                lambda: platform.asked_at is not None and (empty or _answers(swap_port)),
                START_S,
                "start of the handler",
            )
            yield Contestant(platform, time.perf_counter() - started, comfy_port)

    @contextmanager
    def _process(self, arguments: list[str], env: Mapping[str, str]) -> Iterator[None]:
        with (self._new_folder() / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                yield
            finally:
                process.kill()
                process.wait()

    def _new_folder(self) -> Path:
        self._started += 1
        folder = self._folder / str(self._started)
        folder.mkdir()
        return folder


def rows() -> list[Row]:
    """About five minutes on two cores."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        bench = Bench(Path(name))
        with bench.ours({}) as cold:
            cold_first = cold.first_to_later()
        with bench.original() as original:
            original_first = original.first_to_later()
        warm = stack.enter_context(bench.ours({"FLUX_FACE_WARM_UP": PROFILE}))
        warm_first = warm.first_to_later()
        handler = stack.enter_context(bench.handler(warm.comfy_port))
        empty = stack.enter_context(bench.handler(warm.comfy_port, empty=True))
        result = [row for pictures in JOBS for row in overheads(pictures, warm, handler, empty)]
    processes = "the original's three processes"
    case = f"first job, in times of the {FIRST_JOBS // 2 + 1}th to {FIRST_JOBS}th"
    return [
        *result,
        lower("start to ready", cold.boot_s, original.boot_s, processes, "s"),
        lower("start to ready, with a warm-up", warm.boot_s, original.boot_s, processes, "s"),
        lower(case, cold_first, original_first, processes, "x"),
        lower(f"{case}, with a warm-up", warm_first, original_first, processes, "x"),
    ]


def overheads(pictures: int, ours: Contestant, original: Contestant, empty: Contestant) -> list[Row]:
    """Means over jobs in turns."""
    contestants = {"ours": ours, "original": original, "empty": empty}
    measured: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(JOBS[pictures]):
        for place, (name, contestant) in enumerate(contestants.items()):
            # No two with one seed: ComfyUI, which they share, would draw the second picture from its cache.
            total_ms, compute_ms = contestant.run(pictures, 1000 * (place + 1) + turn)
            measured[name].append(total_ms - compute_ms)
    mean = {name: statistics.mean(times) for name, times in measured.items()}
    case = f"overhead of a job of {pictures} picture{'s' if pictures > 1 else ''} of 256x256"
    reference = "the original's polling handler"
    return [
        lower(
            f"{case}, above an empty handler",
            mean["ours"] - mean["empty"],
            mean["original"] - mean["empty"],
            reference,
            "ms",
        ),
        lower(f"{case}, the SDK's included", mean["ours"], mean["original"], reference, "ms"),
    ]


def _answers(port: int) -> bool:
    try:
        with _OPENER.open(f"http://127.0.0.1:{port}/openapi.json", timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
