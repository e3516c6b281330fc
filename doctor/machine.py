"""Disk, folders, ports and TCMalloc."""

from __future__ import annotations

import ctypes.util
import errno
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .finding import Finding
from .subject import Subject

# Less, and the HTTP API calls itself not ready (FLUX_FACE_MIN_FREE_DISK_BYTES).
LEAST_BYTES = 200_000_000
SCARCE_BYTES = 2_000_000_000
# https://docs.runpod.io: its SDK ends a worker whose root disk has less (RUNPOD_MIN_DISK_PERCENT).
_RUNPOD_PERCENT = 10.0


def folders(subject: Subject) -> Iterator[Finding]:
    """Whether the directories take files, and how much."""
    for directory in dict.fromkeys(subject.writable):
        yield _folder(directory)
    if "RUNPOD_POD_ID" in os.environ:
        yield from _runpod_disk()


def _folder(directory: Path) -> Finding:
    name = f"folder {directory.name}"
    directory = next((path for path in (directory, *directory.absolute().parents) if path.is_dir()), directory)
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(bytes(4096))
        free = shutil.disk_usage(directory).free
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return Finding(name, "fail", f"the disk of {directory} is full", "Free some space")
        return Finding(
            name,
            "fail",
            f"{directory} cannot be written: {error.strerror}",
            f"Give it to the user who runs ComfyUI{_me()}, or mount another folder there",
        )
    gigabytes = f"{directory}: {free / 1e9:.1f} GB free"
    if free < LEAST_BYTES:
        return Finding(name, "fail", f"the disk is nearly full. {gigabytes}", "Free some space: 2 GB are comfortable")
    if free < SCARCE_BYTES:
        return Finding(name, "warn", gigabytes, "Free some space: 2 GB are comfortable")
    return Finding(name, "ok", gigabytes)


def _runpod_disk() -> Iterator[Finding]:
    least = float(os.environ.get("RUNPOD_MIN_DISK_PERCENT") or _RUNPOD_PERCENT)
    usage = shutil.disk_usage("/")
    percent = 100 * usage.free / usage.total
    if percent < least:
        yield Finding(
            "container disk",
            "fail",
            f"{percent:.0f} % of it is free; RunPod's SDK ends a worker below {least:g} %",
            "Raise the template's containerDiskInGb, or put the models on a network volume",
        )
    else:
        yield Finding("container disk", "ok", f"{percent:.0f} % of it is free")


def ports(subject: Subject) -> Iterator[Finding]:
    """Whether they can be listened on."""
    for port in subject.ports:
        with socket.socket() as probe:
            # Else a port that was served a minute ago counts as taken. On Windows the option means the contrary.
            if os.name != "nt":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((subject.host, port))
            except OSError as error:
                yield Finding(
                    f"port {port}",
                    "fail",
                    f"{subject.host}:{port} cannot be listened on: {error.strerror}",
                    "End what listens there, or choose another port",
                )
                continue
        yield Finding(f"port {port}", "ok", f"{subject.host}:{port} is free")


def tcmalloc(_subject: Subject) -> Iterator[Finding]:
    """TCMalloc, which keeps the memory of a long-running ComfyUI from growing; Linux only."""
    if sys.platform != "linux":
        return
    if "tcmalloc" in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace"):
        yield Finding("tcmalloc", "ok", "loaded into this process")
        return
    library = ctypes.util.find_library("tcmalloc_minimal") or ctypes.util.find_library("tcmalloc")
    if library:
        yield Finding("tcmalloc", "ok", f"{library} is installed; the worker loads it into ComfyUI")
    else:
        yield Finding(
            "tcmalloc",
            "warn",
            "not installed: a ComfyUI that runs for days may hold more memory than it needs",
            "On Debian and Ubuntu: apt-get install libtcmalloc-minimal4",
        )


def _me() -> str:
    return f" (uid {os.getuid()})" if hasattr(os, "getuid") else ""
