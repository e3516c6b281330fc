"""report.json and report.csv: what became of every item."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .results import write_whole
from .state import BatchState, Record

COLUMNS = (
    "item", "state", "seconds", "delay_seconds", "execution_seconds", "seeds", "qa_passed", "qa_reasons", "attempts",
    "files", "target", "job_id", "error",
)  # fmt: skip


def write_report(state: BatchState, folder: Path) -> None:
    """Write both files, each whole or not at all."""
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(COLUMNS)
    lines = []
    for row in _rows(state):
        writer.writerow([_cell(row[column]) for column in COLUMNS])
        lines.append(json.dumps(row))
    write_whole(folder / "report.csv", table.getvalue().encode())
    write_whole(folder / "report.json", ("[\n" + ",\n".join(lines) + "\n]\n").encode())


def _rows(state: BatchState) -> Iterator[dict[str, Any]]:
    for record in state.records():
        result = record.result or {}
        verdicts = [verdict for verdict in result.get("qa", ()) if isinstance(verdict, dict)]
        yield {
            "item": record.name,
            "state": record.state.value,
            "seconds": _seconds(record),
            "delay_seconds": result.get("delay_seconds"),
            "execution_seconds": result.get("execution_seconds"),
            "seeds": result.get("seeds", []),
            "qa_passed": [bool(verdict.get("passed")) for verdict in verdicts],
            "qa_reasons": [_codes(verdict) for verdict in verdicts],
            "attempts": record.attempt,
            "files": result.get("files", []),
            "target": record.target,
            "job_id": record.job_id,
            "error": record.error,
        }


def _seconds(record: Record) -> float | None:
    """From the first submission to the end, pauses of the client included."""
    return round(record.ended - record.sent, 1) if record.sent is not None and record.ended is not None else None


def _codes(verdict: dict[str, Any]) -> list[str]:
    reasons = verdict.get("reasons")
    return [
        str(reason.get("code")) for reason in (reasons if isinstance(reasons, list) else []) if isinstance(reason, dict)
    ]


def _cell(value: object) -> object:
    """A CSV cell: lists as JSON, and no text that a spreadsheet would take for a formula."""
    if value is None or value == []:
        return ""
    if isinstance(value, list):
        return json.dumps(value)
    text = str(value)
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
