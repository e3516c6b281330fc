"""Starts the worker: ComfyUI first, the SDK beside it, then jobs until told to stop."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import signal
import sys
from functools import partial
from types import FrameType
from typing import Any

from .delivery import deliver_persistently
from .external import ExternalComfyUI
from .handler import Handler
from .launcher import follow_parent
from .settings import Settings, SettingsError
from .shutdown import GracefulShutdown
from .supervisor import NotReadyError, Supervisor

log = logging.getLogger(__name__)


def main() -> int:
    """Run until the SDK returns or the process is told to stop; the exit code."""
    logging.basicConfig(level=logging.INFO, format="[flux-face] %(message)s", stream=sys.stderr)
    try:
        settings = Settings.from_env(os.environ)
    except SettingsError as error:
        log.error("%s", error)
        return 2
    # Its default, DEBUG, writes every result to the log.
    os.environ.setdefault("RUNPOD_LOG_LEVEL", "INFO")
    if settings.serve_api_locally and "--rp_serve_api" not in sys.argv:
        sys.argv += ["--rp_serve_api", "--rp_api_host", "0.0.0.0"]  # noqa: S104  (what the variable asks for)
    if sys.platform == "linux":
        # The SDK's heartbeat is a fork, and would report a worker that was killed as alive for ever.
        os.register_at_fork(after_in_child=partial(follow_parent, os.getpid()))
    if settings.comfyui_url:
        return _serve(settings, ExternalComfyUI(settings))
    supervisor = Supervisor(settings)
    atexit.register(supervisor.stop)
    # The SDK's servers replace these while they run; uvicorn raises the signal again when it is done.
    signal.signal(signal.SIGTERM, _exit)
    supervisor.start()
    try:
        return _serve(settings, supervisor)
    finally:
        supervisor.stop()


def _exit(number: int, frame: FrameType | None) -> None:
    del frame
    sys.exit(128 + number)


def _serve(settings: Settings, comfyui: Supervisor | ExternalComfyUI) -> int:
    # Takes seconds, in which ComfyUI is booting.
    import runpod

    async def comfyui_ready() -> None:
        """RunPod calls this before the first job is taken, and ends a worker whose check fails."""
        try:
            await comfyui.ready(settings.boot_timeout_s)
        except NotReadyError:
            if isinstance(comfyui, Supervisor):
                comfyui.stop()
            raise

    handler = Handler(settings, comfyui)
    shutdown = GracefulShutdown(settings.shutdown_grace_s, handler.running)

    def jobs_at_a_time(current: int) -> int:
        """The SDK asks before it takes jobs."""
        del current
        shutdown.arm()
        return settings.jobs_at_a_time

    try:
        deliver_persistently()
    except AttributeError as error:
        log.warning("this runpod SDK lacks %s: a result is lost where a connection breaks as it is sent", error)
    runpod.serverless.register_fitness_check(comfyui_ready)
    config: dict[str, Any] = {
        "handler": handler,
        "concurrency_modifier": jobs_at_a_time,
        "refresh_worker": settings.refresh_worker,
    }
    try:
        runpod.serverless.start(config)
    except asyncio.CancelledError:
        log.info("stopped")
    return 0
