"""The demo's report: what came back, image by image, without the pictures themselves."""

from __future__ import annotations

from typing import Any


def build_report(output: dict[str, Any], prompt: str, swapped: list[str], generated: list[str]) -> dict[str, Any]:
    """One entry per image, and what holds for the job.

    Args:
        output: the job's output, as the routes made it.
        prompt: what was asked for.
        swapped: file names of the finished images.
        generated: file names of the same before the swap.
    """
    verdicts, tries, swaps = output["qa"], output["retry"]["items"], output["swap"]["images"]
    images = [
        {
            "swapped": after,
            "generated": before,
            "seed": tried["seed"],
            "attempt": tried["attempt"],
            "attempts": len(tried["attempts"]),
            "verdict": verdict,
            "swap": swap,
        }
        for after, before, verdict, tried, swap in zip(swapped, generated, verdicts, tries, swaps, strict=True)
    ]
    return {
        "ok": True,
        "prompt": prompt,
        "profile": output["profile"],
        "engine": {"name": output["swap"]["engine"], "provider": output["swap"]["provider"]},
        "images": images,
        "retry": output["retry"],
        "timings": dict(output["timings"]),
    }


def missing_faces(report: dict[str, Any]) -> list[str]:
    """The finished images in which QA found no face."""
    return [image["swapped"] for image in report["images"] if image["verdict"]["measured"].get("faces", 0) < 1]
