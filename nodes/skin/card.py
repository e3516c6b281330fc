"""What the web page shows of an inspection: verdict, reasons and colours, ready for JSON."""

from __future__ import annotations

from typing import Any

import torch

from .colour import lab_to_srgb
from .measure import SkinMeasurement
from .monk import MONK_HEX
from .qa import Inspection
from .verdict import Verdict


def verdict_card(verdict: Verdict) -> dict[str, Any]:
    """Verdict, score and reasons; the page has its own words for codes and quantities."""
    return {
        "passed": verdict.passed,
        "score": round(verdict.score, 4),
        "reasons": [
            {
                "code": reason.code,
                "quantity": reason.quantity,
                "measured": _rounded(reason.measured),
                "low": _rounded(reason.low),
                "high": _rounded(reason.high),
            }
            for reason in verdict.reasons
        ],
    }


def inspection_card(inspection: Inspection) -> dict[str, Any]:
    """The verdict on one image, and the colours of each of its faces."""
    return {**verdict_card(inspection.verdict), "faces": [skin_card(skin) for skin in inspection.measurements]}


def skin_card(skin: SkinMeasurement) -> dict[str, Any]:
    """The colours of one face as ``#rrggbb``: as they are in the picture, and of the nearest step of the Monk scale."""
    return {
        "face": _hex(skin.rgb),
        "neck": None if skin.neck is None else _hex(lab_to_srgb(torch.tensor(skin.neck)).tolist()),
        "white": None if skin.white is None else _hex(skin.white),
        "monk": f"#{MONK_HEX[skin.monk_step - 1]}",
        "monk_step": skin.monk_step,
        "ita": round(skin.ita, 1),
    }


def _hex(rgb: tuple[float, ...] | list[float]) -> str:
    return "#" + "".join(f"{round(255.0 * min(1.0, max(0.0, value))):02x}" for value in rgb)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
