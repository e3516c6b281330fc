"""What the user sees of a batch while it runs, on standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from .errors import UsageError

_TERMINAL_S, _LOG_S = 0.5, 30.0


class Progress:
    """A bar with done, failed and in flight; use as a context manager.

    Args:
        total: items of the batch.
        finished: of these, what an earlier run has finished.
        quiet: show only what is said.
    """

    def __init__(self, total: int, finished: int, *, quiet: bool) -> None:
        try:
            from tqdm import tqdm
        except ImportError as error:
            raise UsageError("the progress bar needs tqdm", "pip install tqdm") from error
        self._started = time.monotonic()
        self._images = 0
        # In a log every refresh is a line.
        refresh_s = _TERMINAL_S if sys.stderr.isatty() else _LOG_S
        self._bar: Any = tqdm(
            total=total, initial=finished, unit="item", dynamic_ncols=True, mininterval=refresh_s, disable=quiet
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def ended(self, images: int) -> None:
        """An item ended, with that many pictures."""
        self._images += images
        self._bar.update(1)

    def show(self, done: int, failed: int, in_flight: int) -> None:
        """The numbers beside the bar."""
        per_minute = self._images / max(time.monotonic() - self._started, 1.0) * 60
        self._bar.set_postfix_str(
            f"{done} done, {failed} failed, {in_flight} in flight, {per_minute:.1f} images/min", refresh=False
        )

    def say(self, line: str) -> None:
        """A message above the bar."""
        self._bar.write(line, file=sys.stderr)
