"""A hub on loopback, and downloads from it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flux_face.catalogue.download import Options, Outcome, Progress, download
from flux_face.catalogue.manifest import Manifest
from flux_face.tests.catalogue.hub import Hub, Served

LICENCES = {
    "free": {"name": "Free", "link": "https://example.org/free", "commercial": "yes"},
    "study": {"name": "Study Only", "link": "https://example.org/study", "commercial": "no"},
}


class Shop:
    """A hub, a manifest made as a test goes, and a models directory.

    Attributes:
        hub: the servers.
        models_dir: where downloads go.
        progress: what was reported.
        env: what the downloader takes for its environment.
    """

    def __init__(self, hub: Hub, models_dir: Path) -> None:
        self.hub = hub
        self.models_dir = models_dir
        self.progress: list[tuple[str, int, int | None]] = []
        self.env = {"HF_ENDPOINT": hub.url()}
        self._models: list[dict[str, Any]] = []

    def on_hub(self, id: str, content: bytes, *, known: bool = True, **changes: Any) -> Served:  # noqa: A002
        """Adds a model of a repository. known: whether the manifest has size and hash. changes: of its row."""
        served = self.hub.files[f"someone/models/files/{id}.bin"] = Served(content)
        source = {"repository": "someone/models", "path": f"files/{id}.bin"}
        self._add(id, content, known, source, changes)
        return served

    def elsewhere(self, id: str, content: bytes, *, known: bool = True, **changes: Any) -> Served:  # noqa: A002
        """Adds a model of a release page."""
        served = self.hub.files[f"releases/{id}.bin"] = Served(content)
        self._add(id, content, known, {"url": f"{self.hub.url()}/releases/{id}.bin"}, changes)
        return served

    def _add(self, name: str, content: bytes, known: bool, source: dict[str, str], changes: dict[str, Any]) -> None:
        row = {
            "id": name,
            "folder": "vae",
            "name": f"{name}.bin",
            "source": source,
            "size": len(content) if known else None,
            "sha256": hashlib.sha256(content).hexdigest() if known else None,
            "verified": "agreed" if known else "no",
            "licence": "free",
            "gated": False,
        }
        self._models.append(row | changes)

    @property
    def manifest(self) -> Manifest:
        """All models so far."""
        ids = [row["id"] for row in self._models]
        document = {"version": 1, "default_set": "all", "sets": {"all": ids}, "licences": LICENCES}
        return Manifest.model_validate(document | {"models": self._models})

    def download(
        self, cancel: threading.Event | None = None, progress: Progress | None = None, **options: Any
    ) -> tuple[Outcome, ...]:
        """Downloads all models."""
        settings = {"reserve_bytes": 0, "first_wait": 0.01, "parallel": 2} | options
        return download(
            self.manifest.select(["all"]),
            self.models_dir,
            self.manifest,
            Options(**settings),
            progress=progress or (lambda *report: self.progress.append(report)),
            cancel=cancel,
            env=self.env,
        )

    def path(self, id: str) -> Path:  # noqa: A002
        """Where a model goes."""
        return self.models_dir / "vae" / f"{id}.bin"

    def names(self) -> set[str]:
        """All files below the models directory, besides the downloader's own two."""
        found = {path.relative_to(self.models_dir).as_posix() for path in self.models_dir.rglob("*") if path.is_file()}
        return found - {".flux-face-models.json", ".flux-face-models.lock"}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """An empty one."""
    with Hub.running() as hub:
        yield Shop(hub, tmp_path / "models")
