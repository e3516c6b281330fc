"""What the pack adds to ComfyUI's start, beside what ComfyUI's own modules take.

Seconds of processor time for importing all of the pack that ComfyUI imports, in a process that has ComfyUI's modules
already, as when it loads custom nodes; the best of several processes, so that files are in memory and compiled. The
limit is what a user would not notice among a dozen packs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from ..pack import ROOT
from .report import Row, lower

LIMIT_S = 0.3
REPEATS = 5

_CODE = """
import json, runpy, sys, time
sys.path.append({comfyui!r})
from comfy.cli_args import args
args.cpu = True
times = [time.process_time()]
import nodes, server
times.append(time.process_time())
runpy.run_path({loader!r})["load_pack"]()
import flux_face.extension
times.append(time.process_time())
print("TIMES", json.dumps([times[1] - times[0], times[2] - times[1]]))
"""


def rows() -> list[Row]:
    """Seconds of the import; about half a minute on two cores."""
    measured = [_measure() for _ in range(REPEATS)]
    comfyui, pack = min(measured, key=lambda one: one[1])
    return [
        lower("import of the pack", pack, comfyui, "import of ComfyUI's nodes and server", "s"),
        lower("import of the pack", pack, LIMIT_S, "what is noticed", "s", limit=True),
    ]


def _measure() -> tuple[float, float]:
    """Seconds for ComfyUI's modules and for the pack's."""
    code = _CODE.format(comfyui=os.environ["COMFYUI_PATH"], loader=str(ROOT / "devtools" / "pack.py"))
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    line = next(line for line in printed.splitlines() if line.startswith("TIMES "))
    comfyui, pack = json.loads(line.removeprefix("TIMES "))
    return comfyui, pack
