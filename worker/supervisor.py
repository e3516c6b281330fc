"""Keeps one ComfyUI ready: starts it, watches it, restarts it with back-off, says why."""

from __future__ import annotations

import asyncio
import enum
import logging
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .probe import Probe, probe
from .process import TOKENS_VARIABLE, ComfyProcess, StartError
from .settings import Settings

log = logging.getLogger(__name__)

BACK_OFF_FIRST_S = 1.0
BACK_OFF_MAX_S = 30.0
WATCH_INTERVAL_S = 2.0
# Where nothing but chance could help: a missing pack, a warm-up that failed.
HOPELESS_RESTARTS = 1


class State(enum.Enum):
    """What ComfyUI is doing, as far as the worker can know."""

    STARTING = "starting"
    READY = "ready"
    UNREADY = "unready"
    RESTARTING = "restarting"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Health:
    """ComfyUI's condition.

    Attributes:
        generation: how many ComfyUI processes have been started so far; a job that sees it change has lost its graph.
        cause: why it is not ready, or why the previous process ended; empty if nothing has gone wrong.
        boot_s: seconds from the start of this process to its readiness; None until then.
    """

    state: State
    generation: int = 0
    cause: str = ""
    boot_s: float | None = None
    pid: int | None = None


@dataclass(frozen=True)
class Life:
    """How one ComfyUI process fared.

    Attributes:
        was_ready: at least once.
        cause: why it ended, or had to.
        hopeless: another one would most likely fare the same.
    """

    was_ready: bool
    cause: str
    hopeless: bool = False


class NotReadyError(RuntimeError):
    """ComfyUI is not ready in time, or not any more; the message has the cause."""


class Supervisor:
    """Owns the ComfyUI process. One thread does the work; every method may be called from any thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # Where the operator has set tokens for others, the worker needs one of its own.
        self._token = secrets.token_hex(16) if os.environ.get(TOKENS_VARIABLE) else None
        self._lock = threading.Lock()
        self._health = Health(State.STARTING)
        self._waiters: set[Callable[[], None]] = set()
        self._wake = threading.Event()
        self._stopping = False
        # The routes' job table, of which nothing is worth more than the worker; the next one must not find it locked.
        self._data_dir = tempfile.TemporaryDirectory(prefix="flux-face-", ignore_cleanup_errors=True)
        self._restart_cause: str | None = None
        # A daemon, because the kernel's parent-death signal needs it alive exactly as long as the interpreter is.
        self._thread = threading.Thread(target=self._run, name="comfyui-supervisor", daemon=True)

    @property
    def token(self) -> str | None:
        """What the routes want to see; None if they ask for nothing."""
        return self._token

    def start(self) -> None:
        """Begin starting ComfyUI; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End ComfyUI, wait for its end and remove its job table. Harmless when repeated."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._data_dir.cleanup()
        self._change(state=State.STOPPED)

    def restart(self, generation: int, cause: str) -> None:
        """Replace the process of ``generation``, unless it has been replaced already."""
        with self._lock:
            if self._health.generation != generation:
                return
            self._restart_cause = cause
        self._wake.set()

    def doubt(self, generation: int, cause: str) -> None:
        """Look at the process of ``generation`` now: a job has lost it. Until that look, it does not count as ready."""
        with self._lock:
            doubtful = self._health.generation == generation and self._health.state is State.READY
        if doubtful:
            self._change(state=State.UNREADY, cause=cause)
            self._wake.set()

    def health(self) -> Health:
        """The condition now."""
        with self._lock:
            return self._health

    async def ready(self, timeout_s: float) -> Health:
        """Wait until ComfyUI is ready.

        Raises:
            NotReadyError: it is not within ``timeout_s``, or has been given up.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        changed = asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(changed.set)

        with self._lock:
            self._waiters.add(wake)
        try:
            while True:
                changed.clear()
                health = self.health()
                if health.state is State.READY:
                    return health
                if health.state in (State.FAILED, State.STOPPED):
                    raise NotReadyError(health.cause or "ComfyUI is stopped")
                remaining = deadline - loop.time()
                if remaining <= 0:
                    detail = f" ({health.cause})" if health.cause else ""
                    raise NotReadyError(f"ComfyUI is {health.state.value} and not ready after {timeout_s:g} s{detail}")
                try:
                    await asyncio.wait_for(changed.wait(), remaining)
                except asyncio.TimeoutError:
                    continue
        finally:
            with self._lock:
                self._waiters.discard(wake)

    def _change(self, **changes: object) -> None:
        with self._lock:
            self._health = Health(**{**self._health.__dict__, **changes})
            waiters = list(self._waiters)
        for wake in waiters:
            try:
                wake()
            except RuntimeError:  # the waiter's event loop has closed
                continue

    def _run(self) -> None:
        failures = 0
        while not self._stopping:
            life = self._run_once()
            if self._stopping:
                return
            failures = 0 if life.was_ready else failures + 1
            most = min(HOPELESS_RESTARTS, self._settings.max_restarts) if life.hopeless else self._settings.max_restarts
            if failures > most:
                log.error("%s. Giving up after %d attempts", life.cause, failures)
                self._change(state=State.FAILED, cause=life.cause, pid=None)
                return
            delay = min(BACK_OFF_FIRST_S * 2**failures, BACK_OFF_MAX_S) if failures else 0.0
            log.error("%s. Restarting in %.0f s", life.cause, delay)
            self._change(state=State.RESTARTING, cause=life.cause, pid=None)
            self._pause(delay)

    def _run_once(self) -> Life:
        """Start ComfyUI and watch it to its end."""
        with self._lock:
            self._restart_cause = None
            generation = self._health.generation + 1
        started = time.monotonic()
        self._change(state=State.STARTING, generation=generation, boot_s=None)
        try:
            process = ComfyProcess(self._settings, self._token, Path(self._data_dir.name), on_end=self._wake.set)
        except StartError as error:
            return Life(False, str(error), hopeless=True)
        self._change(pid=process.pid)
        log.info("ComfyUI is starting as process %d on port %d", process.pid, self._settings.port)
        try:
            return self._watch(process, started)
        finally:
            process.end()

    def _watch(self, process: ComfyProcess, started: float) -> Life:
        was_ready = False
        last_ready = started
        while True:
            cause = self._must_end(process)
            if cause:
                return Life(was_ready, cause)
            result = probe(self._settings.url)
            now = time.monotonic()
            if result.fatal:
                return Life(was_ready, result.detail, hopeless=True)
            if result.ready:
                last_ready = now
                if self.health().state is not State.READY:
                    boot_s = now - started if not was_ready else self.health().boot_s
                    log.info("ComfyUI is ready after %.1f s", now - started)
                    self._change(state=State.READY, boot_s=boot_s)
                was_ready = True
            else:
                cause = self._judge_silence(result, was_ready, now - last_ready)
                if cause and not process.exit_cause():
                    return Life(was_ready, cause)
            self._pause(WATCH_INTERVAL_S if result.ready else self._settings.check_interval_s)

    def _must_end(self, process: ComfyProcess) -> str | None:
        if self._stopping:
            return "The worker is stopping"
        with self._lock:
            return process.exit_cause() or self._restart_cause

    def _judge_silence(self, result: Probe, was_ready: bool, silent_s: float) -> str | None:
        """Why ComfyUI must be replaced, if it must."""
        if not was_ready:
            if silent_s > self._settings.boot_timeout_s:
                return f"ComfyUI was not ready {self._settings.boot_timeout_s:g} s after its start ({result.detail})"
            return None
        self._change(state=State.UNREADY, cause=result.detail)
        if result.broken:
            return f"ComfyUI is broken: {result.detail}"
        if result.silent and silent_s > self._settings.silence_timeout_s:
            return f"ComfyUI has been silent for {silent_s:.0f} s ({result.detail})"
        return None

    def _pause(self, seconds: float) -> None:
        self._wake.wait(seconds)
        self._wake.clear()
