"""Python and its packages: versions, and two packages that own the same module."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterator

from .finding import Finding
from .subject import Subject

_OLDEST = (3, 10)


def python(_subject: Subject) -> Iterator[Finding]:
    """The interpreter and what the pack itself requires."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < _OLDEST:
        yield Finding("python", "fail", f"Python {version}", "Use Python 3.10 or newer")
    else:
        yield Finding("python", "ok", f"Python {version}, {sys.executable}")
    missing = [name for name in ("pydantic", "pillow") if installed(name) is None]
    if missing:
        yield Finding(
            "requirements",
            "fail",
            f"not installed: {', '.join(missing)}",
            f"{sys.executable} -m pip install -r requirements.txt, in the pack's folder",
        )


def opencv(_subject: Subject) -> Iterator[Finding]:
    """OpenCV, of which four packages exist that overwrite each other's files."""
    owners = owners_of("cv2")
    if len(owners) > 1:
        keep = next((owner for owner in owners if owner.startswith("opencv-python-headless")), owners[0])
        yield Finding(
            "opencv",
            "warn",
            f"{' and '.join(owners)} own the same files: which version runs depends on the order of installation",
            f"pip uninstall {' '.join(map(_bare, owners))}, then pip install {_bare(keep)}",
        )
    elif owners:
        yield Finding("opencv", "ok", owners[0])
    else:
        yield Finding("opencv", "ok", "not installed; the pack brings its own cascades")


def insightface(_subject: Subject) -> Iterator[Finding]:
    """insightface, which only its newer model packs need."""
    version = installed("insightface")
    if version is None:
        yield Finding("insightface", "ok", "not installed; only the packs raccoon_s and raccoon_l need it")
        return
    yield Finding("insightface", "ok", f"insightface {version}")


def installed(name: str) -> str | None:
    """A package's version; None where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def owners_of(module: str) -> list[str]:
    """The packages that installed a top-level module, as ``name version``."""
    names = importlib.metadata.packages_distributions().get(module, [])
    return [f"{_normal(name)} {importlib.metadata.version(name)}" for name in sorted(set(names))]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _bare(owner: str) -> str:
    return owner.partition(" ")[0]
