"""Starting ComfyUI with the pack costs nothing that is not used."""

from __future__ import annotations

import json
import subprocess
import sys

from flux_face.devtools.pack import ROOT
from flux_face.tests.comfy_server import COMFYUI

LOAD_PACK = f"runpy.run_path({str(ROOT / 'devtools' / 'pack.py')!r})['load_pack']()"
LOAD_COMFYUI = (
    f"sys.path.append({str(COMFYUI)!r})\nfrom comfy.cli_args import args\nargs.cpu = True\nimport nodes, server"
)


def test_root_package_imports_nothing_but_the_standard_library() -> None:
    added = _modules_added("", by=LOAD_PACK)
    assert "flux_face" in added
    assert added <= sys.stdlib_module_names | {"flux_face"}


def test_extension_imports_no_optional_or_heavy_library() -> None:
    # torch and what else ComfyUI brings is there anyway; these load on first use.
    first_use_only = {"cv2", "gguf", "insightface", "onnx", "onnxruntime", "skimage"}
    added = _modules_added(LOAD_COMFYUI, by=f"{LOAD_PACK}\nimport flux_face.extension")
    assert "flux_face" in added
    assert added & first_use_only == set()


def _modules_added(before: str, *, by: str) -> set[str]:
    """Top-level names that the code ``by`` adds to ``sys.modules``, in a new process that has run ``before``."""
    code = f"""
import json, runpy, sys
{before}
present = set(sys.modules)
{by}
print("ADDED", json.dumps(sorted({{name.partition(".")[0] for name in set(sys.modules) - present}})))
"""
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    listing = next(line for line in output.splitlines() if line.startswith("ADDED "))
    return set(json.loads(listing.removeprefix("ADDED ")))
