"""ComfyUI's progress bar and cancel button, for work that goes face by face."""

from __future__ import annotations

from collections.abc import Callable

import comfy.model_management
import comfy.utils


def progress(total: int) -> Callable[[], None]:
    """Moves the node's progress bar one step and stops where the user has cancelled."""
    bar = comfy.utils.ProgressBar(total)

    def step() -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update(1)

    return step
