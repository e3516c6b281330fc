"""``python path/to/doctor [--models-dir DIR ...]``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path


def _entry() -> Callable[[], int]:
    """`cli.main`, whichever way Python was told to run this directory."""
    if __package__:
        return importlib.import_module(".cli", __package__).main  # type: ignore[no-any-return]
    here = Path(__file__).resolve().parent
    # Python put this directory first on the path; its modules belong to the pack, which is registered by path.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    pack = here.parent
    spec = importlib.util.spec_from_file_location("pack", pack / "__init__.py", submodule_search_locations=[str(pack)])
    if spec is None:
        raise ImportError(f"{pack} is not a package")
    sys.modules["pack"] = importlib.util.module_from_spec(spec)
    return importlib.import_module("pack.doctor.cli").main  # type: ignore[no-any-return]


if __name__ == "__main__":
    sys.exit(_entry()())
