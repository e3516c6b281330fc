"""What the doctor finds, and the table and the JSON it is told in."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["ok", "warn", "fail"]

_NAME_WIDTH = 18
_WIDTH = 110
# Paths and commands must stay copyable.
_KEPT: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what was looked at, in a word or two; the same on every machine.
        level: ``fail`` where jobs will not run, ``warn`` where they run worse than they could.
        what: how it is, with versions, paths and numbers. It never holds a secret.
        remedy: what to do about it; empty where there is nothing to do.
    """

    name: str
    level: Level
    what: str
    remedy: str = ""


def healthy(findings: Iterable[Finding]) -> bool:
    """Whether nothing failed."""
    return all(finding.level != "fail" for finding in findings)


def to_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """The body of ``GET /doctor``, and what ``--json`` prints."""
    return {"healthy": healthy(findings), "findings": [asdict(finding) for finding in findings]}


def to_table(findings: Sequence[Finding]) -> str:
    """A line per finding, what to do below it, and a summary as the last line."""
    lines: list[str] = []
    indent = " " * (6 + _NAME_WIDTH)
    for finding in findings:
        head = f"{finding.level.upper():4}  {finding.name:{_NAME_WIDTH - 1}} "
        lines += textwrap.wrap(finding.what, _WIDTH, initial_indent=head, subsequent_indent=indent, **_KEPT)
        if finding.remedy:
            lines += textwrap.wrap(
                finding.remedy, _WIDTH, initial_indent=f"{indent}-> ", subsequent_indent=f"{indent}   ", **_KEPT
            )
    counts = {level: sum(finding.level == level for finding in findings) for level in ("ok", "warn", "fail")}
    lines.append(f"{counts['ok']} ok, {counts['warn']} warnings, {counts['fail']} failures")
    return "\n".join(lines)
