"""One job from submission to its end, with every way in which the network lets it down."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from .api import Status, is_final
from .backoff import Backoff
from .errors import BusyError, ItemError, LostError, RefusedError, UnavailableError
from .fleet import Fleet, Member
from .items import Item

# Submissions of one attempt that got no usable answer, before the item is given up.
SEND_TRIES = 10
# What a submission that is on its way gets when the client is told to stop.
LAST_ANSWER_S = 15.0


@dataclass(frozen=True)
class Patience:
    """How long to wait for what.

    Attributes:
        poll_s: shortest time between two looks at a job.
        longest_poll_s: longest.
        backoff: after failed requests.
        unreachable_s: how long a target that has a job may not answer before the job counts as lost.
    """

    poll_s: float = 1.0
    longest_poll_s: float = 15.0
    backoff: Backoff = field(default_factory=Backoff)
    unreachable_s: float = 300.0

    def next_look_s(self, waited_s: float, in_flight: int) -> float:
        """Time to the next look at a job: a tenth of what it has taken, longer where many jobs are looked at.

        With 100 jobs a second looked at, RunPod's 200 statuses a second are never reached.
        """
        shortest = max(self.poll_s, in_flight / 100)
        return random.uniform(0.9, 1.1) * max(shortest, min(waited_s / 10, self.longest_poll_s))


class Sending:
    """What is told of a submission on its way, so that it can be recorded before it leaves."""

    def leaves_for(self, member: Member) -> None:
        """The request is about to be sent."""

    def not_accepted(self) -> None:
        """The target certainly has not got it."""

    def accepted(self, job_id: str) -> None:
        """The target has it."""


async def send(
    fleet: Fleet, item: Item, key: str, sending: Sending, patience: Patience, only: str | None = None
) -> tuple[Member, str]:
    """Submit an item; returns the member that took it, its slot held, and the job's id there.

    A submission whose answer was lost goes to the same target again, with the same key, and elsewhere only when that
    target does not answer for long. If it is cancelled on the way it first waits for the answer.

    Args:
        only: the target that may have it already.

    Raises:
        ItemError: it is too large, was refused, or no target gave a usable answer.
        TargetError: a target refuses all our requests.
    """
    size = item.body_bytes()
    _check_size(fleet, size)
    for failures in range(1, SEND_TRIES + 1):
        while True:
            member = await fleet.acquire(size, only)
            if only not in (None, member.name):
                fleet.say(f"{item.name} goes to {member.name} instead of {only}, which may run it too")
                only = None
            submission = asyncio.ensure_future(_submit(member, item, key, sending))
            try:
                job_id = await _outlast_cancellation(submission)
                fleet.answered(member, took_job=True)
                return member, job_id
            except BusyError as error:
                if only is None:
                    sending.not_accepted()
                fleet.release(member)
                fleet.busy(member, error.retry_after_s)
            except UnavailableError as error:
                fleet.release(member)
                fleet.failed(member, str(error), error.retry_after_s)
                trouble = error
                break
            except RefusedError as error:
                fleet.release(member)
                fleet.answered(member)
                raise ItemError("refused", f"{member.name} refused the job: {error}", "Correct the input") from error
            except BaseException:
                fleet.release(member)
                raise
        if trouble.maybe_accepted:
            only = member.name
        elif only is None:
            sending.not_accepted()
        await asyncio.sleep(patience.backoff.pause_s(failures))
    raise ItemError(
        "unavailable", f"{SEND_TRIES} submissions got no usable answer, at last: {trouble}", "Run again later"
    )


async def follow(fleet: Fleet, member: Member, job_id: str, patience: Patience, *, at_once: bool = False) -> Status:
    """Wait for a job's end; returns its last status.

    Args:
        at_once: look before the first pause.

    Raises:
        LostError: the target does not know it, or has not answered for long.
        ItemError: the status is too large to be read.
        TargetError: the target refuses all our requests.
    """
    clock = asyncio.get_running_loop().time
    started = answered = clock()
    failures = 0
    pause_s = 0.0 if at_once else patience.next_look_s(0, member.in_flight)
    while True:
        await asyncio.sleep(pause_s)
        try:
            status = await member.api.status(job_id)
        except BusyError as error:
            failures += 1
            answered = clock()
            pause_s = patience.backoff.pause_s(failures, error.retry_after_s)
        except UnavailableError as error:
            failures += 1
            fleet.failed(member, str(error), error.retry_after_s)
            if clock() - answered > patience.unreachable_s:
                raise LostError(str(error)) from error
            pause_s = patience.backoff.pause_s(failures, error.retry_after_s)
        except RefusedError as error:
            raise ItemError("status_refused", str(error), "Correct the input") from error
        else:
            failures = 0
            answered = clock()
            fleet.answered(member)
            if is_final(status):
                return status
            pause_s = patience.next_look_s(answered - started, member.in_flight)


async def _submit(member: Member, item: Item, key: str, sending: Sending) -> str:
    body = await asyncio.to_thread(item.body)
    if not member.takes(len(body)):  # the photo has grown since it was looked at
        raise _too_large(len(body), member.api.target.max_body_bytes or 0)
    sending.leaves_for(member)
    job_id = await member.api.run(body, key)
    sending.accepted(job_id)
    return job_id


async def _outlast_cancellation(submission: asyncio.Future[str]) -> str:
    """The submission's result; a cancellation comes through after it."""
    try:
        return await asyncio.shield(submission)
    except asyncio.CancelledError:
        await asyncio.wait([submission], timeout=LAST_ANSWER_S)
        if not submission.done():
            submission.cancel()
        elif not submission.cancelled():
            submission.exception()  # else it is logged as never retrieved
        raise


def _check_size(fleet: Fleet, size: int) -> None:
    limits = [member.api.target.max_body_bytes for member in fleet.members.values()]
    known = [limit for limit in limits if limit is not None]
    if len(known) == len(limits) and size > max(known):
        raise _too_large(size, max(known))


def _too_large(size: int, limit: int) -> ItemError:
    return ItemError(
        "payload_too_large",
        f"the request has {size:,} bytes and RunPod takes {limit:,}",
        "Send a smaller or more strongly compressed photo, or use --server",
    )
