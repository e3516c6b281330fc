"""All checks, in the order in which one builds on the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain

from . import comfyui, graphics, machine, models, packages, runtimes
from .finding import Finding
from .subject import Subject

Check = Callable[[Subject], Iterable[Finding]]

CHECKS: tuple[Check, ...] = (
    packages.python,
    comfyui.version,
    graphics.torch_and_gpu,
    runtimes.onnxruntime,
    packages.opencv,
    packages.insightface,
    machine.folders,
    models.models,
    machine.ports,
    machine.tcmalloc,
)


def diagnose(subject: Subject) -> list[Finding]:
    """Look at everything; takes seconds, as it imports torch and starts a session of onnxruntime."""
    return list(chain.from_iterable(_look(check, subject) for check in CHECKS))


def _look(check: Check, subject: Subject) -> list[Finding]:
    try:
        return list(check(subject))
    # Whatever a broken package raises when it is imported is the very thing that is looked for.
    except Exception as error:
        name = check.__name__.replace("_", " ")
        return [Finding(name, "fail", f"looking at it failed: {type(error).__name__}: {error}", "Mend or reinstall it")]
