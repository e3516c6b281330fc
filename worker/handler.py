"""The RunPod handler: a job in, a request to the routes, the answer out. What a job is, the routes know."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from typing import Any, Protocol

from .progress import ProgressReporter
from .results import ResultTooLargeError, fit, limit_bytes
from .routes_client import FINAL_STATES, RoutesClient, RoutesGoneError, RoutesRefusedError
from .settings import Settings
from .supervisor import Health, NotReadyError

log = logging.getLogger(__name__)

# How often a job may have a ComfyUI die under it; and how often it is submitted, for it may also die under another job
# while this one waits.
RUNS = 2
SUBMISSIONS = 4
CANCEL_LOOK_S = 0.02
CANCEL_S = 10.0
# The routes' words for a job that ComfyUI lost: its prompt worker thread died, or the process did.
LOST = ("[server_broken]", "[server_restarted]", "[result_gone]")

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


class GraphLostError(RoutesGoneError):
    """ComfyUI went away while it ran this job."""


class Handler:
    """Called by the SDK with one job at a time per task; as many tasks as the worker takes jobs.

    Returns RunPod's output, or ``{"error": text}`` with a code in brackets first. Never raises, but for a cancellation.

    Attributes:
        running: the tasks that are in it.
    """

    def __init__(self, settings: Settings, comfyui: ComfyUI) -> None:
        self.running: set[asyncio.Task[Any]] = set()
        self._settings = settings
        self._comfyui = comfyui
        self._platform = "RUNPOD_WEBHOOK_GET_JOB" in os.environ

    async def __call__(self, job: dict[str, Any]) -> Output:
        task = asyncio.current_task()
        assert task is not None, "awaited by the SDK"
        self.running.add(task)
        try:
            return await self._answer(job)
        finally:
            self.running.discard(task)

    async def _answer(self, job: dict[str, Any]) -> Output:
        started = time.monotonic()
        try:
            async with ProgressReporter(job, self._platform) as progress:
                output = await self._run(job, progress)
        except (JobFailedError, RoutesRefusedError, ResultTooLargeError) as error:
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
        policy = job["policy"] if isinstance(job.get("policy"), dict) else {}
        body = {"input": self._with_storage(job_input), "policy": {"lowPriority": policy.get("lowPriority") is True}}
        output = await self._run_somewhere(job["id"], body, self._limit_s(policy), progress)
        limit = limit_bytes(job["id"], platform=self._platform)
        return output if limit is None else await asyncio.to_thread(fit, output, limit)

    def _with_storage(self, job_input: dict[str, Any]) -> dict[str, Any]:
        """The job's input, with its pictures to be uploaded where there is a bucket and it says nothing else."""
        if self._settings.bucket_endpoint_url:
            job_input = {"images_as": "s3", **job_input}
        if self._platform and job_input.get("images_as") == "url":
            raise JobFailedError(
                "[images_as_unreachable] images_as: the addresses would be on this worker, where nobody can reach "
                "them. Use base64, s3 or none"
            )
        return job_input

    def _limit_s(self, policy: dict[str, Any]) -> float:
        """How long the graph may run. The policy's time to live is the platform's, which knows when it got the job."""
        asked_ms = policy.get("executionTimeout")
        longest = self._settings.job_timeout_s
        return min(longest, asked_ms / 1000) if isinstance(asked_ms, int) and asked_ms > 0 else longest

    async def _run_somewhere(
        self, job_id: str, body: dict[str, Any], limit_s: float, progress: ProgressReporter
    ) -> Output:
        """The job's output, from a second ComfyUI if the first one went away under it."""
        # RunPod sends a job that failed again under its id, and that is a new job of the routes.
        delivery = f"{job_id}-{secrets.token_hex(4)}"
        lost_runs = 0
        for submission in range(1, SUBMISSIONS + 1):
            progress.report({"stage": "waiting for ComfyUI"})
            health = await self._comfyui.ready(self._settings.availability_timeout_s)
            try:
                async with RoutesClient(self._settings.url, self._comfyui.token) as routes:
                    submitted = asyncio.create_task(routes.run(body, f"{delivery}-{submission}"))
                    output = await self._follow(routes, submitted, limit_s, health, progress)
            except RoutesGoneError as error:
                lost_runs += isinstance(error, GraphLostError)
                if lost_runs == RUNS or submission == SUBMISSIONS:
                    raise JobFailedError(
                        f"[comfyui_lost] ComfyUI went away {submission} times during this job ({error}). "
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
        self,
        routes: RoutesClient,
        submitted: asyncio.Task[str],
        limit_s: float,
        health: Health,
        progress: ProgressReporter,
    ) -> Output:
        """Wait for the job's output; what does not end by itself is cancelled."""
        try:
            # Shielded, so that a job that is cancelled while it is being submitted is still known by its id.
            return await self._wait(routes, await asyncio.shield(submitted), limit_s, progress)
        except (asyncio.CancelledError, RoutesGoneError, JobFailedError):
            await asyncio.shield(self._cancel(routes, submitted, health))
            raise

    async def _wait(self, routes: RoutesClient, routes_id: str, limit_s: float, progress: ProgressReporter) -> Output:
        """The job's output, once it has ended."""
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def look(snapshot: dict[str, Any]) -> None:
            progress.report(_progress(snapshot))
            if snapshot["status"] == "IN_PROGRESS" and not started.done():
                started.set_result(None)

        following = asyncio.create_task(routes.follow(routes_id, look, self._settings.polling_interval_ms / 1000))
        try:
            # Time behind another job does not count.
            awaited: set[asyncio.Future[Any]] = {following, started}
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({following}, timeout=limit_s)
            if not following.done():
                raise JobFailedError(
                    f"[job_timeout] the job took longer than {limit_s:g} s and was cancelled. Ask for fewer steps or "
                    "images, or for more time: policy.executionTimeout up to the worker's FLUX_FACE_JOB_TIMEOUT_S"
                )
            return _output(following.result())
        except RoutesGoneError as error:
            if started.done():
                raise GraphLostError(str(error)) from error
            raise
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _cancel(self, routes: RoutesClient, submitted: asyncio.Task[str], health: Health) -> None:
        """Cancel the graph; replace a ComfyUI that does not let go of it, which a hung GPU call looks like."""
        deadline = time.monotonic() + CANCEL_S
        try:
            routes_id = await submitted
            await routes.cancel(routes_id)
            while (await routes.status(routes_id))["status"] not in FINAL_STATES:
                if time.monotonic() > deadline:
                    cause = f"ComfyUI did not stop a cancelled job within {CANCEL_S:g} s"
                    self._comfyui.restart(health.generation, cause)
                    return
                await asyncio.sleep(CANCEL_LOOK_S)
        except (RoutesGoneError, RoutesRefusedError) as error:
            log.info("nothing left to cancel: %s", error)


def _output(status: dict[str, Any]) -> Output:
    error = status.get("error") or ""
    if error.startswith(LOST):
        raise RoutesGoneError(error)
    if status["status"] != "COMPLETED":
        raise JobFailedError(error or f"[job_{status['status'].lower()}] the job ended as {status['status']}")
    output = status["output"]
    if not isinstance(output, dict):
        raise JobFailedError("[internal] the routes completed the job without an output")
    return output


def _progress(snapshot: dict[str, Any]) -> dict[str, Any]:
    detail = {name: value for name, value in snapshot.items() if name not in ("id", "status", "position")}
    if snapshot["status"] == "IN_QUEUE":
        return {"stage": "queued", "position": snapshot.get("position", 0)}
    return {"stage": "running", **detail}
