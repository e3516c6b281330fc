"""What skin-tone QA says about an image."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Reason:
    """Why an image was rejected.

    Attributes:
        code: stable name of the check, e.g. ``cast``.
        message: the same for people, e.g. ``cast: hue 142 degrees, skin is 40 to 100``.
        measured: the value that was out of bounds; None where there was nothing to measure.
        low, high: its bounds; None where unbounded.
        quantity: stable name of what was measured, e.g. ``lightness``: a code may stand for several. Empty where
            there was nothing to measure.
    """

    code: str
    message: str
    measured: float | None = None
    low: float | None = None
    high: float | None = None
    quantity: str = ""

    def to_json(self) -> dict[str, Any]:
        """As the HTTP API has it: code and message say what was measured."""
        return {name: value for name, value in asdict(self).items() if name != "quantity"}


@dataclass(frozen=True)
class Verdict:
    """What skin-tone QA says about one image.

    Attributes:
        passed: True where no check failed.
        score: 0..1; at least 0.5 inside all limits, 1 well inside. The least favourable check counts.
        reasons: what failed, empty where passed.
        measured: value per check name, for the report.
    """

    passed: bool
    score: float
    reasons: tuple[Reason, ...] = ()
    measured: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "score": round(self.score, 4),
            "reasons": [reason.to_json() for reason in self.reasons],
            "measured": {name: round(value, 4) for name, value in self.measured.items()},
        }
