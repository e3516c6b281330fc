#!/usr/bin/env python3
"""Flux Face's commands for its users and developers. Run it without arguments for the list.

Standard library only, and no newer syntax in this file, so that an old Python gets as far as the message below.
"""

import os
import runpy
import sys

MINIMUM = (3, 10)


def python_problem(version):  # type: (tuple[int, int]) -> str | None
    """What to tell the user of a Python that is too old; None where it is not."""
    if version >= MINIMUM:
        return None
    return "Flux Face needs Python %d.%d or newer; this is Python %d.%d. Run dev.py with a newer one." % (
        MINIMUM + version
    )


def main():  # type: () -> int
    """Run the command line; returns the exit code."""
    problem = python_problem(sys.version_info[:2])
    if problem:
        sys.stderr.write(problem + "\n")
        return 1
    root = os.path.dirname(os.path.abspath(__file__))
    runpy.run_path(os.path.join(root, "devtools", "pack.py"))["load_pack"]()
    from flux_face.devtools.cli import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
