"""The pack as the private package ``flux_face``, for tests and tools outside ComfyUI.

The repository's root is the pack's package. It must not be put on ``sys.path``, where its ``nodes`` would shadow
ComfyUI's; it is registered by path instead. Run as a script, this file runs one of the pack's modules::

    python devtools/pack.py starter.prepare --models-dir DIR
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "flux_face"


def load_pack() -> ModuleType:
    """Import the pack as ``flux_face``; after this, ``import flux_face.nodes.errors`` works."""
    if PACKAGE in sys.modules:
        return sys.modules[PACKAGE]
    spec = importlib.util.spec_from_file_location(PACKAGE, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    if spec is None or spec.loader is None:
        raise ImportError(f"{ROOT / '__init__.py'} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = module
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Run the module named by the first argument as ``__main__``, with the remaining arguments."""
    # Python puts the script's own folder first, but its files are no top-level modules.
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT / "devtools"]
    sys.argv = sys.argv[1:]
    load_pack()
    runpy.run_module(f"{PACKAGE}.{sys.argv[0]}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
