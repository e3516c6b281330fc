"""From what a graph handed back to what a client gets: a report, and pictures as files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from ..nodes.job.handoff import JobResult
from .encode import Picture, encode_image
from .jobs import Job, Pictures
from .request import JobRequest
from .storage import Storage, Upload


def build_report(job: Job, request: JobRequest, results: Sequence[JobResult]) -> dict[str, Any]:
    """RunPod's ``output`` without pictures and timings."""
    report: dict[str, Any] = {"profile": job.profile}
    if request.seed is not None:
        report["seeds"] = _seeds(request.seed, results)
    verdicts = [verdict for result in results for verdict in result.verdicts or ()]
    if verdicts:
        report["qa"] = verdicts
    for name, text in (("retry", results[0].retry_report), ("swap", results[0].swap_report)):
        if text is not None:
            report[name] = json.loads(text)
    return report


def build_pictures(
    job_id: str, request: JobRequest, report: Mapping[str, Any], results: Sequence[JobResult]
) -> dict[str, tuple[Picture, ...]]:
    """The pictures encoded. Slow: call it off the event loop."""
    if request.images_as == "none":
        return {}
    images = [image for result in results for image in result.images]
    seeds: Sequence[int | None] = report.get("seeds") or [None] * len(images)
    verdicts: Sequence[dict[str, Any] | None] = report.get("qa") or [None] * len(images)

    def encode(found: Sequence[torch.Tensor], suffix: str) -> tuple[Picture, ...]:
        return tuple(
            encode_image(
                image,
                f"{job_id}{suffix}_{index}",
                request.output_format,
                request.quality,
                seeds[index],
                verdicts[index],
            )
            for index, image in enumerate(found)
        )

    pictures = {"images": encode(images, "")}
    if request.include_generated and results[0].generated is not None:
        pictures["generated"] = encode(list(results[0].generated), "_generated")
    return pictures


def upload_pictures(job_id: str, pictures: Pictures, storage: Storage) -> dict[str, tuple[Picture, ...]]:
    """The same pictures with links in place of their data. Slow: call it off the event loop.

    Raises:
        StorageError: the storage did not take them; it has none of them then.
    """
    flat = [picture for group in pictures.values() for picture in group]
    uploads = [Upload(f"{job_id}/{picture.filename}", picture.data, picture.content_type) for picture in flat]
    links = iter(storage.put_all(uploads))
    return {
        name: tuple(replace(picture, data=b"", link=next(links)) for picture in group)
        for name, group in pictures.items()
    }


def _seeds(first: int, results: Sequence[JobResult]) -> list[int]:
    """The seed that each picture came from: another one than the request's where it was sampled again."""
    if results[0].retry_report is None:
        return [first] * sum(len(result.images) for result in results)
    return [item["seed"] for item in json.loads(results[0].retry_report)["items"]]
