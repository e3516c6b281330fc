"""Where a job's photo enters the graph and its pictures leave it: a registry in memory, keyed by job id.

The route opens a job with its photos; ``FluxFaceJobOutput`` tells that the graph begins, ``FluxFaceLoadPhoto`` reads
the photos and ``FluxFaceJobOutput`` delivers, all in ComfyUI's worker thread; the route takes the result and closes the
job. Nothing is written to disk.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import UserInputError

JOB_PREFIX = "job:"


@dataclass(frozen=True, eq=False)
class JobResult:
    """What a graph hands back.

    Attributes:
        images: float32 ``[B, H, W, 3]``, 0..1.
        generated: the same batch before the swap, or None.
        verdicts: one JSON-ready mapping per image, or None where the graph has no QA.
        retry_report: JSON text of the retry node, or None.
        swap_report: JSON text of the swap node, or None.
    """

    images: torch.Tensor
    generated: torch.Tensor | None = None
    verdicts: tuple[dict[str, Any], ...] | None = None
    retry_report: str | None = None
    swap_report: str | None = None


class JobHandoff:
    """Photos in, results out; safe to call from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._photos: dict[str, dict[str, bytes]] = {}
        self._results: dict[str, list[JobResult]] = {}
        self._on_start: dict[str, Callable[[], None]] = {}

    def open(self, job_id: str, photos: Mapping[str, bytes], on_start: Callable[[], None] | None = None) -> None:
        """Begin a job with its encoded photos by name.

        Args:
            job_id: names it.
            photos: encoded, by name.
            on_start: called once, in ComfyUI's worker thread, before the first node of the job's graph runs.

        Raises:
            ValueError: the job is already open.
        """
        with self._lock:
            if job_id in self._photos:
                raise ValueError(f"job {job_id} is already open")
            self._photos[job_id] = dict(photos)
            if on_start is not None:
                self._on_start[job_id] = on_start

    def start(self, job_id: str) -> None:
        """The job's graph is about to run; no effect the second time."""
        with self._lock:
            on_start = self._on_start.pop(job_id, None)
        if on_start is not None:
            on_start()

    def has_photo(self, job_id: str, name: str) -> bool:
        """Whether the job is open and has a photo of that name."""
        with self._lock:
            return name in self._photos.get(job_id, {})

    def photo(self, job_id: str, name: str) -> bytes:
        """The encoded photo.

        Raises:
            UserInputError: ``photo_gone`` if the job is closed or never had this photo.
        """
        with self._lock:
            data = self._photos.get(job_id, {}).get(name)
        if data is None:
            raise UserInputError(
                "photo_gone", name, "the photo of this job is no longer in memory", "Send the job again with its photo"
            )
        return data

    def deliver(self, job_id: str, result: JobResult) -> None:
        """Store a result of the job; a graph may have several nodes that deliver.

        Raises:
            UserInputError: ``job_unknown`` if nobody waits for it.
        """
        with self._lock:
            if job_id in self._photos:
                self._results.setdefault(job_id, []).append(result)
                return
        raise UserInputError(
            "job_unknown", "job_id", f"no open job has the id {job_id!r}", "Leave job_id empty outside the HTTP API"
        )

    def take(self, job_id: str) -> tuple[JobResult, ...]:
        """Remove and return the results in the order they came; empty if the graph delivered nothing."""
        with self._lock:
            return tuple(self._results.pop(job_id, ()))

    def close(self, job_id: str) -> None:
        """Forget the job's photos and results."""
        with self._lock:
            self._photos.pop(job_id, None)
            self._results.pop(job_id, None)
            self._on_start.pop(job_id, None)


HANDOFF = JobHandoff()


def photo_reference(job_id: str, name: str) -> str:
    """The value of LoadPhoto's ``photo`` input that means this job's photo."""
    return f"{JOB_PREFIX}{job_id}/{name}"


def parse_photo_reference(value: str) -> tuple[str, str] | None:
    """Job id and photo name, or None if the value is a file name."""
    if not value.startswith(JOB_PREFIX):
        return None
    job_id, _, name = value.removeprefix(JOB_PREFIX).partition("/")
    return job_id, name
