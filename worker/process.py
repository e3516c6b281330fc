"""ComfyUI as a child process: its arguments, its environment, its log, its end."""

from __future__ import annotations

import ctypes.util
import logging
import math
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from .settings import Settings

log = logging.getLogger(__name__)

TOKENS_VARIABLE = "FLUX_FACE_API_TOKENS"
LAUNCHER = Path(__file__).resolve().parent / "launcher.py"
LOG_TAIL_LINES = 400
TERMINATE_S = 5.0
# The worker's own: ComfyUI and its custom nodes neither need nor should see them. And no durable jobs: after a restart
# the worker itself submits its jobs once more.
_WITHHELD = (
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "RUNPOD_AI_API_KEY",
    "RUNPOD_API_KEY",
    "FLUX_FACE_COMFYUI_TOKEN",
    "FLUX_FACE_DURABLE_KEY",
)
_WITHHELD_PREFIXES = ("RUNPOD_WEBHOOK_",)
# Limits of the routes for a server of which the worker is the client: unless the operator sets them, it is never told
# to wait, and what it has fetched is not kept for long.
_UNLIMITED = "1000000"
ROUTE_LIMITS = {
    "FLUX_FACE_JOBS_PER_MINUTE": _UNLIMITED,
    "FLUX_FACE_REQUESTS_PER_MINUTE": _UNLIMITED,
    "FLUX_FACE_MAX_RESULTS": "32",
    "FLUX_FACE_MAX_RECORDS": "1000",
}
# The worker ends a job that takes too long, and replaces a ComfyUI that does not let go of it; the routes come after.
JOB_SECONDS_MARGIN = 60
_EXCEPTION_LINE = re.compile(r"^[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit)\b.*")


class StartError(RuntimeError):
    """ComfyUI could not be started at all; the message says why and what to do."""


def command(settings: Settings) -> list[str]:
    """The command line that runs ComfyUI.

    Raises:
        StartError: there is no ComfyUI where the settings say.
    """
    main = settings.comfyui_path / "main.py"
    if not main.is_file():
        raise StartError(f"No ComfyUI in {settings.comfyui_path}. Set FLUX_FACE_COMFYUI_PATH to its directory")
    arguments = [settings.comfyui_python or sys.executable, str(LAUNCHER), str(os.getpid()), str(main.resolve())]
    arguments += ["--listen", "0.0.0.0" if settings.serve_api_locally else "127.0.0.1"]  # noqa: S104  (asked for)
    arguments += ["--port", str(settings.port), "--disable-auto-launch", "--disable-metadata"]
    # Nothing in a worker's database outlives the worker, and a file would be locked by a second ComfyUI.
    arguments += ["--database-url", "sqlite:///:memory:"]
    if settings.base_directory:
        arguments += ["--base-directory", str(settings.base_directory)]
    return [*arguments, *settings.comfyui_args]


def environment(settings: Settings, inherited: Mapping[str, str], token: str | None, data_dir: Path) -> dict[str, str]:
    """ComfyUI's environment: the worker's without its secrets and without what would change Python's path.

    Args:
        settings: for the limits.
        inherited: the worker's.
        token: the worker's own for the routes, if they want one.
        data_dir: where the routes keep their job table.
    """
    env = {
        name: value
        for name, value in inherited.items()
        if name not in _WITHHELD and not name.startswith(_WITHHELD_PREFIXES)
    }
    if token:
        env[TOKENS_VARIABLE] = f"{env[TOKENS_VARIABLE]},flux-face-worker:{token}"
    job_seconds = math.ceil(settings.job_timeout_s) + JOB_SECONDS_MARGIN
    for name, value in {**ROUTE_LIMITS, "FLUX_FACE_JOB_SECONDS": str(job_seconds)}.items():
        env.setdefault(name, value)
    env["FLUX_FACE_DATA_DIR"] = str(data_dir)
    env["PYTHONUNBUFFERED"] = "1"
    env["PYTHONIOENCODING"] = "utf-8"
    if settings.tcmalloc and sys.platform == "linux" and "LD_PRELOAD" not in env:
        library = ctypes.util.find_library("tcmalloc_minimal") or ctypes.util.find_library("tcmalloc")
        if library:
            env["LD_PRELOAD"] = library
            log.info("ComfyUI runs with %s", library)
    return env


class ComfyProcess:
    """One running ComfyUI whose output goes to the worker's standard error.

    Args:
        settings: how to start it.
        token: the worker's own for the routes, if they want one.
        data_dir: for the routes' job table.
        on_end: called from another thread as soon as its output ends, which is when it does.

    Raises:
        StartError: it could not be started.
    """

    def __init__(self, settings: Settings, token: str | None, data_dir: Path, on_end: Callable[[], None]) -> None:
        self._oom_kills = _oom_kills()
        self._tail: deque[str] = deque(maxlen=LOG_TAIL_LINES)
        arguments = command(settings)
        try:
            self._process = subprocess.Popen(
                arguments,
                cwd=settings.base_directory or settings.comfyui_path,
                env=environment(settings, os.environ, token, data_dir),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                # A Ctrl-C in the terminal is the worker's to act on.
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        except OSError as error:
            raise StartError(f"ComfyUI cannot be started with {arguments[0]}: {error}") from error
        self._pump = threading.Thread(target=self._copy_log, args=(on_end,), name="comfyui-log", daemon=True)
        self._pump.start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def exit_cause(self) -> str | None:
        """Why it ended, in words; None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        self._pump.join(timeout=1)
        return _describe_exit(code, killed_for_memory=_oom_kills() > self._oom_kills, tail=self.log_tail())

    def log_tail(self) -> list[str]:
        """The last lines it printed."""
        return list(self._tail)

    def end(self) -> None:
        """Ask it to end, then make it end; returns when it has."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=TERMINATE_S)
            except subprocess.TimeoutExpired:
                log.warning("ComfyUI did not end within %.0f s of being asked to; killing it", TERMINATE_S)
                self._process.kill()
                self._process.wait()
        self._kill_group()
        self._pump.join(timeout=1)

    def _kill_group(self) -> None:
        """End what ComfyUI itself may have started. Its session is its own, so the group is too."""
        if sys.platform != "win32":
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):  # macOS says the latter for a group that is gone
                return

    def _copy_log(self, on_end: Callable[[], None]) -> None:
        stream = self._process.stdout
        assert stream is not None
        stderr = 2
        with stream:
            for line in stream:
                self._tail.append(line.decode("utf-8", "replace").rstrip())
                try:
                    # Not through sys.stderr: the SDK forks its heartbeat, and a fork must not copy a held lock.
                    os.write(stderr, line)
                except OSError:  # the reader of our own log is gone; ComfyUI must not block on a full pipe
                    continue
        on_end()


def _describe_exit(code: int, *, killed_for_memory: bool, tail: list[str]) -> str:
    reason = f"ComfyUI ended with exit code {code}"
    if code < 0:
        try:
            reason = f"ComfyUI was ended by {signal.Signals(-code).name}"
        except ValueError:
            reason = f"ComfyUI was ended by signal {-code}"
    if killed_for_memory:
        return f"{reason}: the system ran out of memory"
    exception = next((line for line in reversed(tail) if _EXCEPTION_LINE.match(line)), None)
    return f"{reason}: {exception}" if exception and code > 0 else reason


def _oom_kills() -> int:
    """Processes of this control group that the kernel killed for want of memory; 0 where it does not say."""
    try:
        for line in Path("/sys/fs/cgroup/memory.events").read_text(encoding="ascii").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    except (OSError, ValueError):
        return 0
    return 0
