"""How long to wait before something is tried again."""

from __future__ import annotations

import datetime
import email.utils
import random
from dataclasses import dataclass

# A target cannot make the client sleep for longer.
LONGEST_RETRY_AFTER_S = 300.0


@dataclass(frozen=True)
class Backoff:
    """Exponential, with jitter, so that many that failed together do not come back together.

    Attributes:
        first_s: ceiling of the first pause.
        longest_s: ceiling of any pause.
    """

    first_s: float = 1.0
    longest_s: float = 60.0

    def pause_s(self, failures: int, asked_s: float | None = None) -> float:
        """The pause after that many failures in a row (from 1), at least what the target asked for.

        A ceiling doubles with each failure; the pause is drawn from its upper half.
        """
        ceiling = min(self.longest_s, self.first_s * 2.0 ** min(failures - 1, 32))
        return max(random.uniform(ceiling / 2, ceiling), asked_s or 0.0)


def parse_retry_after(text: str | None, now: datetime.datetime) -> float | None:
    """Seconds that a Retry-After header asks for, 0 to 300; None where it is missing or no sense can be made of it."""
    if text is None:
        return None
    text = text.strip()
    if text.isdecimal() and text.isascii():
        return min(float(text), LONGEST_RETRY_AFTER_S)
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.timezone.utc)
    return min(max((moment - now).total_seconds(), 0.0), LONGEST_RETRY_AFTER_S)
