"""Makes a result fit: RunPod loses one over its limit, and says so only in the worker's log."""

from __future__ import annotations

import base64
import io
import json
import logging
from typing import Any

log = logging.getLogger(__name__)

# docs.runpod.io, "Send API requests": 10 MB for /run, 20 MB for /runsync; a little is left for the envelope.
RUN_LIMIT_BYTES = 10_000_000 - 100_000
RUNSYNC_LIMIT_BYTES = 20_000_000 - 100_000
SYNC_ID_PREFIX = "sync-"
QUALITIES = (95, 90, 80, 70)
_IMAGE_LISTS = ("images", "generated")


class ResultTooLargeError(RuntimeError):
    """The result exceeds RunPod's limit in every encoding."""


def limit_bytes(job_id: str, *, platform: bool) -> int | None:
    """The largest result that reaches the caller; None if there is no platform between."""
    if not platform:
        return None
    return RUNSYNC_LIMIT_BYTES if job_id.startswith(SYNC_ID_PREFIX) else RUN_LIMIT_BYTES


def encoded_bytes(output: dict[str, Any]) -> int:
    """Size of the output as the SDK will send it."""
    return len(json.dumps(output, ensure_ascii=False).encode())


def fit(output: dict[str, Any], limit: int) -> dict[str, Any]:
    """The output, its images re-encoded as WebP if it is over the limit, which ``output["reencoded"]`` then says.

    Blocks for as long as encoding takes.

    Raises:
        ResultTooLargeError: no quality makes it fit.
    """
    size = encoded_bytes(output)
    if size <= limit:
        return output
    for quality in QUALITIES:
        smaller = _reencode(output, quality)
        smaller_size = encoded_bytes(smaller)
        log.info("result: %d bytes, %d as WebP of quality %d; limit %d", size, smaller_size, quality, limit)
        if smaller_size <= limit:
            return smaller
    raise ResultTooLargeError(
        f"[result_too_large] the result has {size:,} bytes and RunPod carries {limit:,}. "
        "Ask for fewer or smaller images, leave out include_generated, or set BUCKET_ENDPOINT_URL to upload them"
    )


def _reencode(output: dict[str, Any], quality: int) -> dict[str, Any]:
    copy = {**output, "reencoded": {"format": "webp", "quality": quality}}
    for name in _IMAGE_LISTS:
        if output.get(name):
            copy[name] = [_as_webp(image, quality) for image in output[name]]
    return copy


def _as_webp(image: dict[str, Any], quality: int) -> dict[str, Any]:
    from PIL import Image

    if image.get("type") != "base64":
        return image
    with Image.open(io.BytesIO(base64.b64decode(image["data"]))) as picture:
        encoded = io.BytesIO()
        # The mark that says a machine made this picture. Pillow names it differently by format.
        xmp = picture.info.get("xmp") or picture.info.get("XML:com.adobe.xmp") or b""
        picture.convert("RGB").save(encoded, "WEBP", quality=quality, xmp=xmp)
    stem = str(image["filename"]).rpartition(".")[0] or str(image["filename"])
    return {**image, "filename": f"{stem}.webp", "data": base64.b64encode(encoded.getvalue()).decode("ascii")}
