"""Write the templates of the web page and the blueprints of its node library anew; run by ``dev.py templates``.

Node definitions are a running ComfyUI's, which this starts and ends.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from ...tests.comfy_server import COMFYUI, Comfy
from ..console import say
from ..pack import ROOT
from .blueprint import blueprint
from .sources import BLUEPRINTS, TEMPLATES, read_source
from .thumbnails import draw_thumbnails
from .workflow import workflow


def main() -> None:
    """Write ``workflows/*.json`` and ``subgraphs/*.json``."""
    parser = argparse.ArgumentParser(prog="dev.py templates", description=main.__doc__)
    parser.add_argument(
        "--thumbnails",
        nargs="*",
        metavar="NAME",
        choices=list(TEMPLATES),
        help="run these templates, or all, and write their pictures too",
    )
    options = parser.parse_args()
    say("Starting ComfyUI …")
    with tempfile.TemporaryDirectory() as base, start(Path(base)) as server:
        definitions = server.get("/object_info")
        for name, path in TEMPLATES.items():
            write(ROOT / "workflows" / f"{name}.json", workflow(read_source(path), definitions))
        for name, path in BLUEPRINTS.items():
            write(ROOT / "subgraphs" / f"{name}.json", blueprint(read_source(path), definitions))
        if options.thumbnails is not None:
            draw_thumbnails(server, options.thumbnails or list(TEMPLATES))


def start(base: Path) -> Comfy:
    """ComfyUI with the pack and the starter models, on an empty base directory."""
    return Comfy.start(base, ROOT, COMFYUI, ROOT / ".comfyui" / "base" / "models")


def write(path: Path, document: dict[str, Any]) -> None:
    """Write a file as they are committed."""
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    say(f"Wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
