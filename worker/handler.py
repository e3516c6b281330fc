"""The RunPod handler: a job in, a request to the routes, the answer out. What a job is, the routes know."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import Any, Protocol

from .progress import ProgressReporter
from .results import ResultTooLargeError, fit, limit_bytes
from .routes_client import FINAL_STATES, RoutesClient, RoutesGoneError, RoutesRefusedError
from .settings import Settings
from .storage import StorageError, upload_images
from .supervisor import Health, NotReadyError

log = logging.getLogger(__name__)

SUBMISSIONS = 2
FIRST_LOOK_S = 0.02
CANCEL_S = 10.0
# The routes' word for a ComfyUI whose prompt worker thread died under the job.
SERVER_BROKEN = "[server_broken]"

Output = dict[str, Any]


class ComfyUI(Protocol):
    """What the handler needs of whoever looks after ComfyUI."""

    @property
    def token(self) -> str | None:
        """Bearer token of the routes."""

    async def ready(self, timeout_s: float) -> Health:
        """Wait until ComfyUI is ready; raises NotReadyError."""

    def doubt(self, generation: int, cause: str) -> None:
        """Look whether the process of that generation is still there."""

    def restart(self, generation: int, cause: str) -> None:
        """Replace the process of that generation."""


class JobFailedError(RuntimeError):
    """The job ended without a result; the message is for the caller."""


class Handler:
    """Called by the SDK with one job at a time per task; as many tasks as the worker takes jobs.

    Returns RunPod's output, or ``{"error": text}`` with a code in brackets first. Never raises, but for a cancellation.
    """

    def __init__(self, settings: Settings, comfyui: ComfyUI) -> None:
        self._settings = settings
        self._comfyui = comfyui
        self._platform = "RUNPOD_WEBHOOK_GET_JOB" in os.environ

    async def __call__(self, job: dict[str, Any]) -> Output:
        started = time.monotonic()
        try:
            async with ProgressReporter(job, self._platform) as progress:
                output = await self._run(job, progress)
        except (JobFailedError, RoutesRefusedError, ResultTooLargeError, StorageError) as error:
            log.error("job %s failed: %s", job["id"], error)
            return {"error": str(error)}
        except NotReadyError as error:
            log.error("job %s failed: %s", job["id"], error)
            # Whatever is wrong with this machine, the platform's next attempt should find another.
            return {
                "error": f"[comfyui_unavailable] {error}. Send the job again; if it fails again, read the worker's log",
                "refresh_worker": True,
            }
        except asyncio.CancelledError:
            log.info("job %s was cancelled", job["id"])
            raise
        except Exception:
            log.exception("job %s failed", job["id"])
            return {"error": "[internal] the worker failed on this job. Its log has the details"}
        log.info("job %s completed in %.1f s", job["id"], time.monotonic() - started)
        return output

    async def _run(self, job: dict[str, Any], progress: ProgressReporter) -> Output:
        job_input = job.get("input")
        if not isinstance(job_input, dict):
            raise JobFailedError(
                '[field_type] input: must be an object. Send {"input": {"user_photo": ..., "prompt": ...}}'
            )
        output = await self._run_somewhere(job_input, progress)
        if self._settings.bucket_endpoint_url:
            await asyncio.to_thread(upload_images, output, job["id"], self._settings)
        limit = limit_bytes(job["id"], platform=self._platform)
        return output if limit is None else await asyncio.to_thread(fit, output, limit)

    async def _run_somewhere(self, job_input: dict[str, Any], progress: ProgressReporter) -> Output:
        """The job's output, from a second ComfyUI if the first one went away under it."""
        for submission in range(1, SUBMISSIONS + 1):
            progress.report({"stage": "waiting for ComfyUI"})
            health = await self._comfyui.ready(self._settings.availability_timeout_s)
            try:
                async with RoutesClient(self._settings.url, self._comfyui.token) as routes:
                    output = await self._follow(routes, job_input, health, progress)
            except RoutesGoneError as error:
                if submission == SUBMISSIONS:
                    raise JobFailedError(
                        f"[comfyui_lost] ComfyUI went away {SUBMISSIONS} times during this job ({error}). "
                        "Try fewer or smaller images: running out of memory is the usual reason"
                    ) from error
                log.warning("submitting the job once more: %s", error)
                self._comfyui.doubt(health.generation, str(error))
            else:
                if submission > 1:
                    output["submissions"] = submission
                return output
        raise AssertionError("unreachable")

    async def _follow(
        self, routes: RoutesClient, job_input: dict[str, Any], health: Health, progress: ProgressReporter
    ) -> Output:
        """Submit and wait."""
        submission = asyncio.create_task(routes.run({"input": job_input}))
        try:
            # Shielded, so that a job that is cancelled while it is being submitted is still known by its id.
            status = await self._wait(routes, await asyncio.shield(submission), progress)
        except (asyncio.CancelledError, RoutesGoneError, JobFailedError):
            await asyncio.shield(self._cancel(routes, submission, health))
            raise
        return _output(status)

    async def _wait(self, routes: RoutesClient, routes_id: str, progress: ProgressReporter) -> dict[str, Any]:
        """The job's final status."""
        longest_pause_s = self._settings.polling_interval_ms / 1000
        submitted = time.monotonic()
        while True:
            status = await routes.status(routes_id)
            if status["status"] in FINAL_STATES:
                return status
            # Time behind another job does not count.
            if status.get("executionTime", 0) > self._settings.job_timeout_s * 1000:
                raise JobFailedError(
                    f"[job_timeout] the job took longer than {self._settings.job_timeout_s:g} s and was cancelled. "
                    "Ask for fewer steps or images, or raise FLUX_FACE_JOB_TIMEOUT_S"
                )
            progress.report(_progress(status))
            # Seldom enough to cost nothing, often enough that a short job is not much longer for it.
            await asyncio.sleep(min(longest_pause_s, max(FIRST_LOOK_S, (time.monotonic() - submitted) / 20)))

    async def _cancel(self, routes: RoutesClient, submission: asyncio.Task[str], health: Health) -> None:
        """Cancel the graph; replace a ComfyUI that does not let go of it, which a hung GPU call looks like."""
        deadline = time.monotonic() + CANCEL_S
        try:
            routes_id = await submission
            await routes.cancel(routes_id)
            while (await routes.status(routes_id))["status"] not in FINAL_STATES:
                if time.monotonic() > deadline:
                    cause = f"ComfyUI did not stop a cancelled job within {CANCEL_S:g} s"
                    self._comfyui.restart(health.generation, cause)
                    return
                await asyncio.sleep(FIRST_LOOK_S)
        except (RoutesGoneError, RoutesRefusedError) as error:
            log.info("nothing left to cancel: %s", error)


def _output(status: dict[str, Any]) -> Output:
    if status["status"] == "COMPLETED":
        output = status["output"]
        if not isinstance(output, dict):
            raise JobFailedError("[internal] the routes completed the job without an output")
        return output
    error = status.get("error") or ""
    if error.startswith(SERVER_BROKEN):
        raise RoutesGoneError(error)
    raise JobFailedError(error or f"[job_{status['status'].lower()}] the job ended as {status['status']}")


def _progress(status: dict[str, Any]) -> dict[str, Any]:
    output = status.get("output")
    detail = output.get("progress") if isinstance(output, dict) else None
    return {"stage": "queued" if status["status"] == "IN_QUEUE" else "running", **(detail or {})}
