"""The documentation as a site, built by mkdocs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..console import Command, run
from ..workspace import Workspace


def build(workspace: Workspace, target: Path, environment: Mapping[str, str]) -> int:
    """Build the site; a link that leads nowhere fails it.

    Args:
        workspace: with packages and ComfyUI, whose node definitions are read.
        target: the site's folder, which is emptied first.
        environment: with COMFYUI_PATH.
    """
    command: Command = [workspace.python, "-m", "mkdocs", "build", "--strict", "--clean", "--site-dir", target]
    # The theme prints an advertisement otherwise.
    return run(command, cwd=workspace.root, env={**environment, "NO_MKDOCS_2_WARNING": "1"})
