"""How often a caller may ask: a token bucket per name."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

_MAX_NAMES = 10_000
_ROUNDING_SECONDS = 1e-6  # so that whoever waits as long as told is let in


class RateLimiter:
    """Up to ``burst`` requests at once, ``per_minute`` in the long run, for each name. Used on the event loop only.

    A bucket is kept as the time at which it will be full again; full ones are forgotten. With more than 10,000 callers
    at a time, the one that has been quiet longest starts anew.

    Raises:
        ValueError: a rate or burst under which nobody could ever ask.
    """

    def __init__(self, per_minute: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        if per_minute <= 0 or burst < 1:
            raise ValueError(f"a limit of {per_minute} per minute with bursts of {burst} lets nobody in")
        self._interval = 60.0 / per_minute
        self._burst = burst
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, name: str) -> float:
        """0.0 and the request counts, or the seconds until one is allowed and it does not count."""
        now = self._clock()
        full_at = max(self._full_at.get(name, now), now) + self._interval
        wait = full_at - now - self._burst * self._interval
        if wait > _ROUNDING_SECONDS:
            return wait
        self._full_at[name] = full_at
        self._full_at.move_to_end(name)
        self._forget(now)
        return 0.0

    def __len__(self) -> int:
        """How many names are remembered."""
        return len(self._full_at)

    def _forget(self, now: float) -> None:
        while self._full_at:
            name, full_at = next(iter(self._full_at.items()))
            if full_at > now and len(self._full_at) <= _MAX_NAMES:
                return
            del self._full_at[name]
