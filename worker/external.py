"""A ComfyUI that somebody else started and looks after (FLUX_FACE_COMFYUI_URL)."""

from __future__ import annotations

import asyncio
import logging
import time

from .probe import probe
from .settings import Settings
from .supervisor import Health, NotReadyError, State

log = logging.getLogger(__name__)


class ExternalComfyUI:
    """Waits for it and cannot restart it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def token(self) -> str | None:
        """What the routes want to see."""
        return self._settings.comfyui_token

    async def ready(self, timeout_s: float) -> Health:
        """Wait until it is ready.

        Raises:
            NotReadyError: it is not within ``timeout_s``.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            result = await asyncio.to_thread(probe, self._settings.url)
            if result.ready:
                return Health(State.READY)
            if result.fatal or time.monotonic() > deadline:
                raise NotReadyError(f"ComfyUI at {self._settings.url} is not ready ({result.detail})")
            await asyncio.sleep(self._settings.check_interval_s)

    def doubt(self, generation: int, cause: str) -> None:
        """`ready` looks each time."""

    def restart(self, generation: int, cause: str) -> None:
        """Only its owner can."""
        log.error("ComfyUI at %s should be restarted by its owner: %s", self._settings.url, cause)
