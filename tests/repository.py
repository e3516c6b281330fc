"""The files of this repository, for tests that look at what is published."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from flux_face.devtools.pack import ROOT


def repository_files() -> list[Path]:
    """Files that are committed or would be."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: there is no list of its files")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]
