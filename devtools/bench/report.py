"""What a benchmark reports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One measurement, ours beside a reference taken in the same run.

    Attributes:
        case: what was measured, e.g. ``"Q4_K to bfloat16"``.
        ours: our value.
        reference: the reference's value.
        reference_name: what the reference is, e.g. ``"gguf-py float32"``.
        unit: of both values, e.g. ``"elements/s"``.
        ratio: how many times better ours is, so that above 1 is ahead; see ``higher`` and ``lower``.
        limit: whether the reference is a bound that cannot be passed, not a rival.
    """

    case: str
    ours: float
    reference: float
    reference_name: str
    unit: str
    ratio: float
    limit: bool = False


def higher(case: str, ours: float, reference: float, reference_name: str, unit: str, *, limit: bool = False) -> Row:
    """A row of values of which more is better, such as a speed."""
    return Row(case, ours, reference, reference_name, unit, ours / reference, limit)


def lower(case: str, ours: float, reference: float, reference_name: str, unit: str, *, limit: bool = False) -> Row:
    """A row of values of which less is better, such as a time."""
    return Row(case, ours, reference, reference_name, unit, reference / ours, limit)


def write_json(rows: Sequence[Row], path: Path) -> None:
    """Write ``{"rows": [...]}``, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".part")
    scratch.write_text(json.dumps({"rows": [asdict(row) for row in rows]}, indent=2) + "\n", encoding="utf-8")
    scratch.replace(path)


def as_table(rows: Sequence[Row]) -> str:
    """The rows as aligned text."""
    cells = [("case", "ours", "reference", "unit", "ratio", "of")]
    for row in rows:
        name = f"{row.reference_name} (limit)" if row.limit else row.reference_name
        cells.append((row.case, f"{row.ours:.4g}", f"{row.reference:.4g}", row.unit, f"{row.ratio:.3g}", name))
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)
