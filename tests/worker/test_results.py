"""Results that must fit through RunPod."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from flux_face.worker.results import (
    RUN_LIMIT_BYTES,
    RUNSYNC_LIMIT_BYTES,
    ResultTooLargeError,
    encoded_bytes,
    fit,
    limit_bytes,
)


def _noise(name: str, side: int, xmp: str | None = None) -> dict[str, str]:
    pixels = np.random.default_rng(1).integers(0, 256, (side, side, 3), dtype=np.uint8)
    info = PngImagePlugin.PngInfo()
    if xmp:
        info.add_itxt("XML:com.adobe.xmp", xmp)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG", pnginfo=info)
    return {"filename": name, "type": "base64", "data": base64.b64encode(encoded.getvalue()).decode()}


@pytest.fixture
def output() -> dict[str, Any]:
    return {"images": [_noise("a.png", 128, "<mark/>")], "generated": [_noise("b.png", 128)], "seeds": [1]}


def test_the_limit_depends_on_how_the_job_came() -> None:
    assert limit_bytes("sync-6e1-u1", platform=True) == RUNSYNC_LIMIT_BYTES
    assert limit_bytes("6e1-u1", platform=True) == RUN_LIMIT_BYTES
    assert limit_bytes("test-6e1", platform=False) is None


def test_a_result_that_fits_is_left_alone(output: dict[str, Any]) -> None:
    assert fit(output, encoded_bytes(output)) is output


def test_sizes_are_those_of_the_json(output: dict[str, Any]) -> None:
    output["prompt"] = "肖像"
    assert encoded_bytes(output) == len(json.dumps(output, ensure_ascii=False).encode("utf-8"))


def test_a_larger_one_is_encoded_anew_and_says_so(output: dict[str, Any]) -> None:
    limit = encoded_bytes(output) - 1
    smaller = fit(output, limit)
    assert encoded_bytes(smaller) <= limit
    assert smaller["reencoded"] == {"format": "webp", "quality": 95}
    assert [image["filename"] for image in (*smaller["images"], *smaller["generated"])] == ["a.webp", "b.webp"]
    assert smaller["seeds"] == [1]
    with Image.open(io.BytesIO(base64.b64decode(smaller["images"][0]["data"]))) as picture:
        assert (picture.format, picture.size, picture.info["xmp"]) == ("WEBP", (128, 128), b"<mark/>")


def test_quality_goes_down_only_as_far_as_needed(output: dict[str, Any]) -> None:
    sizes = {quality: encoded_bytes(fit(output, limit)) for quality, limit in _limits(output)}
    assert list(sizes) == [95, 90, 80, 70]
    assert sorted(sizes.values(), reverse=True) == list(sizes.values())


def test_one_that_cannot_fit_fails_with_both_sizes(output: dict[str, Any]) -> None:
    with pytest.raises(ResultTooLargeError, match=r"^\[result_too_large\] .* carries 1,000\."):
        fit(output, 1000)


def _limits(output: dict[str, Any]) -> list[tuple[int, int]]:
    """Each quality with a limit that only it and lower ones meet."""
    found: list[tuple[int, int]] = []
    limit = encoded_bytes(output) - 1
    while True:
        try:
            smaller = fit(output, limit)
        except ResultTooLargeError:
            return found
        found.append((smaller["reencoded"]["quality"], limit))
        limit = encoded_bytes(smaller) - 1
