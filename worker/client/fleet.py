"""All targets together: which of them gets the next job, and which had better be left alone for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .api import TargetApi
from .backoff import Backoff

# Failures in a row after which a target is rested.
RESTED_AFTER = 3
# Failures in a row after which jobs that it may have are sent elsewhere.
FREED_AFTER = 6


@dataclass(eq=False)
class Member:
    """A target and how it does. Times are of the fleet's clock.

    Attributes:
        in_flight: jobs of ours there, the one that is being sent included.
        failures: requests in a row without a usable answer.
        refusals: submissions in a row that it was too busy for.
        idle_until: when it may be sent the next job.
        on_trial: a job is being sent to see whether it works again.
    """

    api: TargetApi
    in_flight: int = 0
    failures: int = 0
    refusals: int = 0
    idle_until: float = 0.0
    on_trial: bool = False

    @property
    def name(self) -> str:
        """The target's."""
        return self.api.target.name

    def takes(self, body_bytes: int) -> bool:
        """Whether a body of that size is within its limit."""
        limit = self.api.target.max_body_bytes
        return limit is None or body_bytes <= limit


class Fleet:
    """Used on the event loop only.

    Args:
        apis: of the targets, open.
        in_flight: most jobs at a time per target.
        say: tells the user.
        rest: how long a target is left alone after repeated failures, and after each 429.
        clock: seconds.
    """

    def __init__(
        self,
        apis: Sequence[TargetApi],
        in_flight: int,
        say: Callable[[str], None],
        rest: Backoff,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.members = {api.target.name: Member(api) for api in apis}
        self._in_flight = in_flight
        self._rest = rest
        self.say = say
        self._clock = clock
        self._changed = asyncio.Event()
        self.last_answer = clock()

    @property
    def slots(self) -> int:
        """Most jobs at a time in all."""
        return self._in_flight * len(self.members)

    def best(self, body_bytes: int, only: str | None = None) -> Member | None:
        """The target with the fewest jobs of ours in flight that may get another one, or None.

        Args:
            body_bytes: size of the request.
            only: consider this target alone, as long as there is hope that it answers.
        """
        now = self._clock()
        if only is not None and self.members[only].failures >= FREED_AFTER:
            only = None
        able = [
            member
            for member in self.members.values()
            if only in (None, member.name)
            and member.in_flight < self._in_flight
            and member.idle_until <= now
            and not member.on_trial
            and member.takes(body_bytes)
        ]
        return min(able, key=lambda member: member.in_flight, default=None)

    async def acquire(self, body_bytes: int, only: str | None = None) -> Member:
        """Wait for a target that may get another job and count one there; `release` it."""
        while True:
            changed = self._changed
            member = self.best(body_bytes, only)
            if member is not None:
                member.in_flight += 1
                # After a rest, one job goes ahead to see.
                member.on_trial = member.failures >= RESTED_AFTER
                return member
            await self._wait(changed)

    async def hold(self, name: str) -> Member:
        """Count a job that is there already, once there is a slot for it; `release` it."""
        member = self.members[name]
        while member.in_flight >= self._in_flight:
            await self._wait(self._changed)
        member.in_flight += 1
        return member

    def release(self, member: Member) -> None:
        """The job has ended there or never got there."""
        member.in_flight -= 1
        member.on_trial = False
        self._notify()

    def answered(self, member: Member, *, took_job: bool = False) -> None:
        """It gave a usable answer."""
        if member.failures >= RESTED_AFTER:
            self.say(f"{member.name} answers again")
        member.failures = 0
        if took_job:
            member.refusals = 0
        self.last_answer = self._clock()
        if member.on_trial:
            member.on_trial = False
            self._notify()

    def failed(self, member: Member, why: str, asked_s: float | None = None) -> None:
        """It gave no usable answer; after several in a row it is rested."""
        member.failures += 1
        member.on_trial = False
        if member.failures >= RESTED_AFTER:
            pause_s = self._rest.pause_s(member.failures - RESTED_AFTER + 1, asked_s)
            if member.failures == RESTED_AFTER:
                self.say(f"{why}. It gets no new jobs for a while")
            member.idle_until = max(member.idle_until, self._clock() + pause_s)
        if member.failures == FREED_AFTER:
            self._notify()

    def busy(self, member: Member, asked_s: float | None) -> None:
        """It takes no more for the moment, which is an answer too."""
        member.refusals += 1
        member.failures = 0
        member.on_trial = False
        self.last_answer = self._clock()
        pause_s = asked_s if asked_s is not None else self._rest.pause_s(member.refusals)
        member.idle_until = max(member.idle_until, self._clock() + pause_s)

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _wait(self, changed: asyncio.Event) -> None:
        """Until something has changed, or a rest is over."""
        now = self._clock()
        ends = [member.idle_until for member in self.members.values() if member.idle_until > now]
        timeout_s = min(ends) - now if ends else None
        try:
            await asyncio.wait_for(changed.wait(), timeout_s)
        except asyncio.TimeoutError:
            return
