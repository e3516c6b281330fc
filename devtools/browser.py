"""The browser that the tests of the web page drive: the system's Chromium."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from .console import say

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
MISSING = "No Chromium. Install it (Debian, Ubuntu: apt-get install chromium) or set CHROMIUM to its program."


def find_chromium(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The program named by CHROMIUM, else one on PATH, else where macOS has it."""
    if environment.get("CHROMIUM"):
        given = Path(environment["CHROMIUM"])
        return given if given.is_file() else None
    for name in NAMES:
        found = shutil.which(name, path=environment.get("PATH"))
        if found:
            return Path(found)
    for name in ("Google Chrome", "Chromium"):
        program = Path(f"/Applications/{name}.app/Contents/MacOS/{name}")
        if program.is_file():
            return program
    return None


def in_ci(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a continuous-integration system runs us, where nothing may be skipped for want of a program."""
    return environment.get("CI", "").lower() in ("true", "1")


def ensure_chromium() -> None:
    """Install Chromium where CI lets us; tell a person who lacks it what to do."""
    if find_chromium() is not None:
        return
    if in_ci() and shutil.which("apt-get"):
        say("Installing Chromium for the tests of the web page …")
        _apt_get("update")
        _apt_get("install", "--yes", "--no-install-recommends", "chromium")
    if find_chromium() is None:
        consequence = "The tests of the web page will fail." if in_ci() else "The tests of the web page are skipped."
        say(f"{MISSING} {consequence}")


def _apt_get(*arguments: str) -> None:
    subprocess.run(
        ["apt-get", "-qq", *arguments],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
