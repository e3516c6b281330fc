"""What RunPod's Hub looks for; the image itself is started by docker/start.sh."""

from __future__ import annotations

import runpy
from pathlib import Path

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).resolve().parent.parent / "worker"), run_name="__main__")
