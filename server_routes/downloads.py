"""Downloading models for an admin: one download at a time, in a thread, its progress there to be asked for."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..catalogue.download import Options, download
from ..catalogue.errors import Cancelled, DownloadError, ModelError
from ..catalogue.manifest import Manifest, Model
from ..catalogue.presence import look
from ..catalogue.sources import HUB, address_of
from ..nodes.errors import UserInputError

log = logging.getLogger(__name__)

State = Literal["idle", "running", "completed", "failed", "cancelled"]
_MANY = 200


class DownloadBody(BaseModel):
    """The body of ``POST /models/download``."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    models: list[str] = Field(min_length=1, max_length=_MANY, description="Ids of models, or names of sets.")
    accept_licences: list[str] = Field(
        default=[], max_length=_MANY, description="Keys of the licences that you have read and accept."
    )
    replace: bool = Field(default=False, description="Overwrite files that are there and not the right ones.")


@dataclass
class _Status:
    """Of the latest download. Read and written under the lock of its owner."""

    state: State = "idle"
    models: tuple[str, ...] = ()
    files: dict[str, dict[str, int | None]] = field(default_factory=dict)
    errors: tuple[dict[str, str], ...] = ()


class Downloads:
    """Safe to call from any thread.

    Args:
        manifest: what there is to download.
        models_dir: where ComfyUI keeps models.
        folders: name of a model folder -> its directories.
        changed: called, from any thread, whenever the status has.
    """

    def __init__(
        self,
        manifest: Manifest,
        models_dir: Path,
        folders: Mapping[str, Sequence[Path]],
        changed: Callable[[], None],
    ) -> None:
        self._manifest = manifest
        self._models_dir = models_dir
        self._folders = folders
        self._changed = changed
        self._endpoint = (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
        self._lock = threading.Lock()
        self._cancel = threading.Event()
        self._status = _Status()

    def listing(self) -> dict[str, Any]:
        """Every model with its terms and whether it is here. Looks through the model folders: call it off the loop."""
        states: dict[str, list[str]] = {}
        for row in look(self._manifest.models, self._folders):
            states.setdefault(row.model, []).append(row.state)
        return {
            "sets": {name: list(models) for name, models in self._manifest.sets.items()},
            "models": [self._row(model, states[model.id]) for model in self._manifest.models],
        }

    def status(self) -> dict[str, Any]:
        """The latest download."""
        with self._lock:
            status = self._status
            return {
                "state": status.state,
                "models": list(status.models),
                "files": [{"file": name, **progress} for name, progress in status.files.items()],
                "errors": list(status.errors),
            }

    def start(self, names: Sequence[str], accept_licences: Sequence[str], *, replace: bool) -> dict[str, Any]:
        """Begin a download and return its status.

        Args:
            names: ids of models and names of sets.
            accept_licences: keys of the licences that the caller accepts.
            replace: whether files that are there and wrong may be overwritten.

        Raises:
            UserInputError: ``model_unknown``; ``download_running``.
        """
        try:
            models = self._manifest.select(names)
        except ModelError as error:
            raise UserInputError(
                "model_unknown", "models", f"{error.subject}: {error.problem}", error.remedy
            ) from error
        with self._lock:
            if self._status.state == "running":
                raise UserInputError(
                    "download_running", "models", "a download is running", "Wait for its end, or cancel it"
                )
            self._cancel = threading.Event()
            self._status = _Status("running", tuple(model.id for model in models))
        options = Options(accept_licences=frozenset(accept_licences), replace=replace)
        threading.Thread(
            target=self._run, args=(models, options, self._cancel), name="flux-face-download", daemon=True
        ).start()
        return self.status()

    def cancel(self) -> dict[str, Any]:
        """Stop the download, which keeps what has come; return its status as it is now."""
        self._cancel.set()
        return self.status()

    def _run(self, models: Sequence[Model], options: Options, cancel: threading.Event) -> None:
        errors: tuple[dict[str, str], ...] = ()
        state: State = "completed"
        try:
            download(models, self._models_dir, self._manifest, options, progress=self._note, cancel=cancel)
        except Cancelled:
            state = "cancelled"
        except DownloadError as error:
            state, errors = "failed", tuple(map(self._told, error.errors))
            log.error("Flux Face: models could not be downloaded: %s", error)
        except Exception:
            state = "failed"
            errors = ({"code": "internal", "model": "", "problem": "it failed", "remedy": "See the server's log"},)
            log.exception("Flux Face: models could not be downloaded")
        with self._lock:
            self._status.state, self._status.errors = state, errors
        self._changed()

    def _note(self, file: str, received: int, total: int | None) -> None:
        with self._lock:
            self._status.files[file] = {"received": received, "total": total}
        self._changed()

    def _told(self, error: ModelError) -> dict[str, str]:
        """An error without this machine's paths."""
        problem, subject = (text.replace(str(self._models_dir), "models") for text in (error.problem, error.subject))
        return {"code": error.code, "model": subject, "problem": problem, "remedy": error.remedy}

    def _row(self, model: Model, states: Sequence[str]) -> dict[str, Any]:
        licence = self._manifest.licence_of(model)
        missing = next((state for state in states if state != "found"), "found")
        return {
            "id": model.id,
            "state": missing,
            "files": [{"folder": file.folder, "name": file.name, "size": file.size} for file in model.files],
            "download_bytes": model.size,
            "address": address_of(model.source, self._endpoint),
            "licence": {
                "key": model.licence, "name": licence.name, "link": licence.link, "commercial": licence.commercial
            },
            "must_be_accepted": self._manifest.needs_consent(model),
            "gated": model.gated,
        }  # fmt: skip
