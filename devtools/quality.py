"""Lint and type checks."""

from __future__ import annotations

from pathlib import Path

from .comfyui import link_directory
from .console import run, say
from .pack import PACKAGE
from .workspace import Workspace


def lint(workspace: Workspace) -> int:
    """Run ruff and mypy over the pack; returns 0 where both are content."""
    # The pack's root is its package, under whatever name the checkout has; mypy is shown it under the tests' name.
    directory = workspace.state / "lint"
    directory.mkdir(parents=True, exist_ok=True)
    link_directory(directory / PACKAGE, workspace.root)
    checks: dict[str, tuple[Path, list[str]]] = {
        "ruff check": (workspace.root, ["ruff", "check", "."]),
        "ruff format": (workspace.root, ["ruff", "format", "--check", "."]),
        "mypy": (directory, ["mypy", "--config-file", str(workspace.root / "pyproject.toml"), PACKAGE]),
    }
    failed = []
    for name, (cwd, command) in checks.items():
        say(f"{name}:")
        if run([workspace.python, "-m", *command], cwd=cwd):
            failed.append(name)
    if failed:
        say(f"Failed: {', '.join(failed)}")
    return 1 if failed else 0
