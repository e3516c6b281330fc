"""Run ComfyUI so that it never outlives the worker: ``python launcher.py PARENT_PID MAIN_PY [ARGUMENT ...]``.

The supervisor stops ComfyUI itself; this is for a worker that was killed and could not.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path

PARENT_CHECK_S = 1.0


def _end() -> None:
    os._exit(1)


def _follow_parent_linux(parent: int) -> None:
    """The kernel kills this process when the thread that started it ends (prctl(2), PR_SET_PDEATHSIG)."""
    pr_set_pdeathsig = 1
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # it ended before the call
        _end()


def _follow_parent_posix(parent: int) -> None:
    """A process whose parent has ended is given another one."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_S)
        _end()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _follow_parent_windows(parent: int) -> None:
    """Wait on the parent's process handle."""
    synchronize, infinite = 0x00100000, 0xFFFFFFFF
    kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined,unused-ignore]
    kernel32.OpenProcess.restype = ctypes.c_void_p
    kernel32.WaitForSingleObject.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
    handle = kernel32.OpenProcess(synchronize, False, parent)
    if not handle:
        _end()

    def watch() -> None:
        kernel32.WaitForSingleObject(handle, infinite)
        _end()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def follow_parent(parent: int) -> None:
    """Make this process end when process ``parent``, which started it, has ended."""
    if sys.platform == "linux":
        _follow_parent_linux(parent)
    elif sys.platform == "win32":
        _follow_parent_windows(parent)
    else:
        _follow_parent_posix(parent)


def main() -> None:
    """Run the script as Python would: as ``__main__``, its directory first on the path."""
    follow_parent(int(sys.argv[1]))
    sys.argv = sys.argv[2:]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
