"""The page of a benchmark in docs/benchmarks, made from its rows."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType

import torch

from .report import Row

_FOLDER = Path(__file__).resolve().parents[2] / "docs" / "benchmarks"


def write_page(name: str, benchmark: ModuleType, rows: Sequence[Row]) -> None:
    """Write ``NAME.md`` and the pictures of the benchmark's ``plots(rows)``, ``{stem: SVG}``, if it has any."""
    _FOLDER.mkdir(parents=True, exist_ok=True)
    plots: dict[str, str] = benchmark.plots(rows) if hasattr(benchmark, "plots") else {}
    for stem, picture in plots.items():
        (_FOLDER / f"{name}-{stem}.svg").write_text(picture, encoding="utf-8", newline="\n")
    shown = "".join(f"![{stem.replace('-', ' ')}]({name}-{stem}.svg)\n\n" for stem in plots)
    text = (
        f"# Benchmark: {name}\n\n{(benchmark.__doc__ or '').strip()}\n\n"
        f"Made by `python3 dev.py bench {name} --docs` on {datetime.now(timezone.utc):%Y-%m-%d}, on {_machine()}. "
        "A ratio above 1 says how many times better ours is; a reference that is a limit cannot be passed.\n\n"
        f"{shown}{as_markdown(rows)}\n"
    )
    (_FOLDER / f"{name}.md").write_text(text, encoding="utf-8", newline="\n")


def as_markdown(rows: Sequence[Row]) -> str:
    """The rows as a table in Markdown."""
    lines = ["| case | ours | reference | unit | ratio | reference is |", "| --- | ---: | ---: | --- | ---: | --- |"]
    for row in rows:
        name = f"{row.reference_name} (limit)" if row.limit else row.reference_name
        lines.append(f"| {row.case} | {row.ours:.4g} | {row.reference:.4g} | {row.unit} | {row.ratio:.3g} | {name} |")
    return "\n".join(lines)


def _machine() -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{os.cpu_count()} cores of {platform.machine()} ({torch.backends.cpu.get_cpu_capability()}), {device}, "
        f"torch {torch.__version__}"
    )
