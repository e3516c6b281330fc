"""What the web page shows of a retry loop: every attempt at every image, while it runs and afterwards.

ComfyUI caches the ui that the retry node returns together with its expansion, before the loop has run, and answers
from it later (cached runs, history). So a loop has one document, which each attempt brings up to date in place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from ..skin.card import verdict_card
from ..thumbnails import Picture, save_thumbnails
from .state import Attempt, RetryState

UI_KEY = "flux_face_attempts"


@dataclass(frozen=True, eq=False)
class AttemptStrip:
    """The document of one loop.

    Attributes:
        run: the prompt's id.
        node: the retry node's id as the page knows it.
        preview: whether the attempts' images are shown, as thumbnails.
        document: what is shown, ready for JSON.
        pictures: the thumbnails so far, by item and number of attempt.
    """

    run: str
    node: str
    preview: bool
    document: dict[str, Any] = field(default_factory=dict)
    pictures: dict[tuple[int, int], Picture] = field(default_factory=dict)

    def add(self, items: tuple[int, ...], attempt: int, images: torch.Tensor) -> None:
        """Keep thumbnails of an attempt's images, ``[B,H,W,C]``, one per item."""
        if self.preview:
            saved = save_thumbnails(images)
            self.pictures.update({(item, attempt): picture for item, picture in zip(items, saved, strict=True)})

    def show(self, state: RetryState, running: bool) -> dict[str, list[dict[str, Any]]]:
        """The node's ui after an attempt.

        Args:
            state: with that attempt.
            running: whether another attempt follows.
        """
        self.document.update(
            run=self.run,
            node=self.node,
            attempt=state.attempt,
            max_attempts=state.max_attempts,
            running=running,
            items=[
                {
                    "kept": chosen,
                    "attempts": [
                        {**_card(attempt), "picture": self.pictures.get((item, attempt.number))} for attempt in attempts
                    ],
                }
                for item, (attempts, chosen) in enumerate(zip(state.attempts, state.chosen, strict=True))
            ],
        )
        return {UI_KEY: [self.document]}


def _card(attempt: Attempt) -> dict[str, Any]:
    # As text: JavaScript's numbers do not hold every seed.
    return {"seed": str(attempt.seed), **verdict_card(attempt.verdict)}
