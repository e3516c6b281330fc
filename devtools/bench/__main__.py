"""``dev.py bench NAME``: runs the module of that name beside this file."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path

from ._page import write_page
from .report import Row, as_table, write_json

# A benchmark is a module with ``rows() -> list[Row]`` and, if it has pictures, ``plots(rows) -> {stem: SVG}``.
NAMES = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py") if path.stem != "report")


def main() -> None:
    """Measure, print the table, and write the JSON file that was asked for."""
    parser = argparse.ArgumentParser(prog="dev.py bench")
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--docs", action="store_true")
    options = parser.parse_args()
    # For benchmarks of what runs inside ComfyUI. Last, so that nothing of it shadows an installed package.
    sys.path.append(os.environ["COMFYUI_PATH"])
    benchmark = importlib.import_module(f".{options.name}", __package__)
    rows: list[Row] = benchmark.rows()
    sys.stdout.write(as_table(rows) + "\n")
    if options.json:
        write_json(rows, options.json)
    if options.docs:
        write_page(options.name, benchmark, rows)


if __name__ == "__main__":
    main()
