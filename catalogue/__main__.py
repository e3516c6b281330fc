"""``python path/to/catalogue {list,download,check} ...``."""

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
    # Python put this directory first on the path; its modules belong to a package.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    entry = here / "__init__.py"
    spec = importlib.util.spec_from_file_location("catalogue", entry, submodule_search_locations=[str(here)])
    if spec is None:
        raise ImportError(f"{here} is not a package")
    sys.modules["catalogue"] = importlib.util.module_from_spec(spec)
    return importlib.import_module("catalogue.cli").main  # type: ignore[no-any-return]


if __name__ == "__main__":
    sys.exit(_entry()())
