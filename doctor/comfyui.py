"""ComfyUI's source tree."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .finding import Finding
from .subject import Subject

# As pyproject.toml's requires-comfyui.
OLDEST = (0, 30, 0)


def version(subject: Subject) -> Iterator[Finding]:
    """Whether it is there and new enough."""
    if subject.comfyui is None:
        yield Finding("comfyui", "warn", "not looked for: nobody said where it is", "Name its folder with --comfyui")
        return
    file = subject.comfyui / "comfyui_version.py"
    if not ((subject.comfyui / "main.py").is_file() and file.is_file()):
        yield Finding(
            "comfyui",
            "fail",
            f"there is no ComfyUI in {subject.comfyui}",
            "Set COMFYUI_PATH to the folder with its main.py, or name it with --comfyui",
        )
        return
    match = re.search(r'__version__ = "(\d+)\.(\d+)\.(\d+)', file.read_text(encoding="utf-8"))
    if match is None:
        yield Finding("comfyui", "warn", f"{file} names no version", "Use a release of ComfyUI")
        return
    found = ".".join(match.groups())
    if tuple(map(int, match.groups())) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        yield Finding("comfyui", "fail", f"ComfyUI {found} in {subject.comfyui}", f"Update it to {oldest} or newer")
    else:
        yield Finding("comfyui", "ok", f"ComfyUI {found} in {subject.comfyui}")
