"""Whether a running node is in the user's graph or a copy that the retry loop has made."""

from __future__ import annotations

from comfy_execution.utils import get_executing_context

from .plan import attempt_of


def shows_itself() -> bool:
    """False for a copy: what it showed, ComfyUI would send and keep as what the retry node shows."""
    context = get_executing_context()
    return context is None or attempt_of(context.node_id) == 1
