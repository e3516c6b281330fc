"""What the commands say while they work, and how they run other programs.

Everything goes to standard error: standard output belongs to a command's result.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

Command = Sequence[str | os.PathLike[str]]


class SetupError(Exception):
    """The command cannot go on; ``str()`` is one line for the user.

    Args:
        problem: what is wrong.
        remedy: what to do about it.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}. {remedy}")


def say(line: str) -> None:
    """Tell the user something."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def run(command: Command, *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> int:
    """Run a program in the foreground and return its exit code, as a shell would give it.

    A Ctrl-C reaches the program from the terminal; a SIGTERM is passed on, so that no orphan stays behind.

    Raises:
        KeyboardInterrupt: after the program has ended on it.
    """
    process = subprocess.Popen(command, cwd=cwd, env=env)

    def pass_on(_signal: int, _frame: FrameType | None) -> None:
        process.terminate()

    previous = signal.signal(signal.SIGTERM, pass_on)
    try:
        code = _wait(process)
    finally:
        signal.signal(signal.SIGTERM, previous)
    return code if code >= 0 else 128 - code


def run_installer(command: Command, *, cwd: Path | None = None) -> tuple[int, str]:
    """Run a program, showing what it prints as it comes; returns its exit code and what it printed.

    Raises:
        KeyboardInterrupt: after the program has ended on it.
    """
    process = subprocess.Popen(
        command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    printed: list[str] = []
    try:
        with process.stdout:
            for line in process.stdout:
                text = line.decode(errors="replace").rstrip()
                printed.append(text)
                say("      " + text)
    except KeyboardInterrupt:
        _wait(process)
        raise
    return _wait(process), "\n".join(printed)


def _wait(process: subprocess.Popen[bytes]) -> int:
    interrupted = False
    while True:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            interrupted = True
        else:
            break
    if interrupted:
        raise KeyboardInterrupt
    return code
