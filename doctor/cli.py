"""The command line: a table on standard error, or JSON on standard output; exit code 1 where something fails."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .diagnosis import diagnose
from .finding import healthy, to_json, to_table
from .subject import Subject


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit code."""
    options = _parser().parse_args(arguments)
    findings = diagnose(
        Subject(
            comfyui=options.comfyui,
            models_dirs=tuple(options.models_dir),
            model_types=tuple(options.model_type),
            gpu=options.gpu,
            writable=tuple(options.writable),
            ports=tuple(options.port),
            host=options.host,
        )
    )
    if options.json:
        sys.stdout.write(json.dumps(to_json(findings), indent=2) + "\n")
    else:
        sys.stderr.write(to_table(findings) + "\n")
    return 0 if healthy(findings) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="doctor", description="Says whether this machine can run Flux Face, and what to do where it cannot."
    )
    given = os.environ.get("COMFYUI_PATH")
    parser.add_argument("--comfyui", type=Path, default=given, help="ComfyUI's source tree (COMFYUI_PATH)")
    parser.add_argument(
        "--models-dir", type=Path, action="append", default=[], metavar="DIR", help="a models folder; may be repeated"
    )
    parser.add_argument(
        "--model-type",
        action="append",
        default=[],
        metavar="NAME",
        help="a set of models, a model, or starter, that must be there; may be repeated",
    )
    parser.add_argument("--gpu", action="store_true", help="a GPU that does not work is a failure")
    parser.add_argument(
        "--writable", type=Path, action="append", default=[], metavar="DIR", help="must take files; may be repeated"
    )
    parser.add_argument("--port", type=int, action="append", default=[], help="must be free; may be repeated")
    parser.add_argument("--host", default="127.0.0.1", help="the address of the ports (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="JSON on standard output instead of the table")
    return parser
