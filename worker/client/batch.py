"""A batch: every item to one result, across interruptions, with bounded numbers of jobs in flight."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .api import Status
from .errors import BusyError, ItemError, LostError, RefusedError, TargetError, UnavailableError, UsageError
from .fleet import Fleet, Member
from .items import Item
from .jobs import Patience, Sending, follow, send
from .progress import Progress
from .results import ResultStore, file_stem
from .state import UNFINISHED, BatchState, Record, State

# Errors of our routes and worker that another try may not meet; others name an input, which stays as it is.
_WORTH_AGAIN = frozenset(
    {
        "cancelled", "comfyui_lost", "comfyui_unavailable", "download_failed", "internal", "job_timeout", "no_pictures",
        "node_failed", "out_of_memory", "photo_gone", "qa_failed", "result_gone", "result_shape", "server_broken",
        "server_restarted", "timed_out", "upload_failed",
    }
)  # fmt: skip
_CODE = re.compile(r"\[([a-z0-9_]+)\] ")
_SHOW_S = 0.5
# Failures that are told at once.
_TELL = 5


@dataclass(frozen=True)
class Rules:
    """How often what is tried again.

    Attributes:
        retries: further jobs after one that failed.
        resubmissions: further jobs after one that the target lost.
        give_up_s: how long no target at all may answer before the batch stops.
    """

    retries: int = 1
    resubmissions: int = 2
    give_up_s: float = 600.0


class GaveUpError(RuntimeError):
    """No target has answered for long; the batch can be resumed."""


class Batch:
    """Runs the unfinished items of a state file.

    Args:
        items: all items of the batch, in any order.
    """

    def __init__(
        self,
        items: Iterable[Item],
        state: BatchState,
        fleet: Fleet,
        store: ResultStore,
        progress: Progress,
        patience: Patience,
        rules: Rules,
    ) -> None:
        self._items = {item.name: item for item in items}
        self._state = state
        self._fleet = fleet
        self._store = store
        self._progress = progress
        self._patience = patience
        self._rules = rules
        self._counts = state.counts()
        self._todo: deque[int] = deque()
        self._told = 0
        missing = state.targets_in_use() - set(fleet.members)
        if missing:
            raise UsageError(
                f"jobs of this batch are still on {', '.join(sorted(missing))}",
                "Give that target too, or --forget-missing to send them again elsewhere",
            )

    async def run(self, stop: asyncio.Event) -> bool:
        """Work until every item has ended (True) or ``stop`` is set (False): then jobs that were sent go on remotely.

        Raises:
            GaveUpError: see there.
            TargetError: a target refuses all our requests.
        """
        # What may be running already comes first, so that its results are fetched before they expire.
        self._todo.extend(number for state in UNFINISHED for number in self._state.numbers(state))
        slots = min(self._fleet.slots, len(self._todo))
        tasks = [asyncio.create_task(self._work()) for _ in range(slots)]
        watchers = [asyncio.create_task(self._watch()), asyncio.create_task(stop.wait())]
        work: asyncio.Future[Any] = asyncio.gather(*tasks)
        try:
            await asyncio.wait([work, *watchers], return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
                return True
            if watchers[0].done():
                watchers[0].result()
            return False
        finally:
            for task in (*tasks, *watchers):
                task.cancel()
            await asyncio.gather(*tasks, *watchers, work, return_exceptions=True)
            self._show()

    async def cancel_remote(self) -> tuple[int, int]:
        """Cancel the jobs that were sent and have not ended; returns how many were, and how many could not be."""
        cancelled = failed = 0
        for number in self._state.numbers(State.RUNNING):
            record = self._state.get(number)
            assert record.target is not None
            assert record.job_id is not None
            try:
                state = await self._fleet.members[record.target].api.cancel(record.job_id)
            except LostError:
                self._state.again(number)
            except (BusyError, RefusedError, UnavailableError, TargetError) as error:
                failed += 1
                self._progress.say(f"{record.name}: not cancelled: {error}")
            else:
                if state in ("COMPLETED", "FAILED", "TIMED_OUT"):
                    continue  # its result is fetched when the batch is resumed
                cancelled += 1
                self._state.again(number)
        return cancelled, failed

    async def _watch(self) -> None:
        """Show the numbers, and give up where nobody answers."""
        while True:
            self._show()
            silence_s = time.monotonic() - self._fleet.last_answer
            if silence_s > self._rules.give_up_s:
                raise GaveUpError(f"No target has answered for {silence_s:.0f} s")
            await asyncio.sleep(_SHOW_S)

    def _show(self) -> None:
        in_flight = sum(member.in_flight for member in self._fleet.members.values())
        self._progress.show(self._counts[State.DONE], self._failed_count(), in_flight)

    def _failed_count(self) -> int:
        return self._counts[State.FAILED] + self._counts[State.CANCELLED]

    def _fail(self, number: int, why: Exception, ending: State = State.FAILED) -> State:
        self._state.failed(number, str(why), ending)
        self._told += 1
        if self._told <= _TELL:
            self._progress.say(f"{self._state.get(number).name}: {why}")
        if self._told == _TELL:
            self._progress.say("What else fails is in the report")
        return ending

    async def _work(self) -> None:
        while self._todo:
            number = self._todo.popleft()
            images = 0
            try:
                images = await self._finish(number)
                ending = State.DONE
            except (ItemError, _JobFailedError) as error:
                ending = self._fail(number, error)
            except _CancelledRemotelyError as error:
                ending = self._fail(number, error, State.CANCELLED)
            self._counts[ending] += 1
            self._progress.ended(images)

    async def _finish(self, number: int) -> int:
        """One item to its result; returns the number of its pictures.

        Raises:
            ItemError, _JobFailedError, _CancelledRemotelyError: why it has none.
            TargetError: a target refuses all our requests.
        """
        while True:
            record = self._state.get(number)
            try:
                status, member = await self._run_job(record)
                return await self._take_result(number, status, member)
            except LostError as error:
                if record.losses >= self._rules.resubmissions:
                    raise ItemError(
                        "job_lost", f"its job was lost {record.losses + 1} times, at last: {error}", "Run again later"
                    ) from error
                self._progress.say(f"{record.name} is sent again: {error}")
                self._state.again(number, lost=True)
            except _JobFailedError as error:
                code = _CODE.match(str(error))
                hopeless = code is not None and code[1] not in _WORTH_AGAIN
                if hopeless or record.failures >= self._rules.retries:
                    raise
                self._state.again(number, failed=str(error))
                await asyncio.sleep(self._patience.backoff.pause_s(record.failures + 1))

    async def _run_job(self, record: Record) -> tuple[Status, Member]:
        """A job's final status; its slot is free again."""
        if record.state is State.RUNNING:
            assert record.target is not None
            assert record.job_id is not None
            member, job_id = await self._fleet.hold(record.target), record.job_id
        else:
            # A target that a submission was begun for may have it, and knows it by its key.
            only = record.target if record.state is State.SENDING else None
            item = self._items[record.name]
            steps = _Steps(self._state, record.number)
            member, job_id = await send(self._fleet, item, self._state.key(record), steps, self._patience, only)
        try:
            at_once = record.state is State.RUNNING
            return await follow(self._fleet, member, job_id, self._patience, at_once=at_once), member
        finally:
            self._fleet.release(member)

    async def _take_result(self, number: int, status: Status, member: Member) -> int:
        name = status["status"]
        if name == "CANCELLED":
            raise _CancelledRemotelyError(f"[cancelled] somebody cancelled its job on {member.name}")
        if name != "COMPLETED":
            error = status.get("error")
            raise _JobFailedError(str(error)[:1000] if error else f"the job ended as {name}")
        record = self._state.get(number)
        wanted = self._items[record.name].fields.get("images_as") != "none"
        try:
            stem = file_stem(number, record.name)
            result = await self._store.save(status.get("output"), stem, member.api.target, wanted=wanted)
        except ItemError as error:
            # A server of ours completes a job whose pictures it no longer has with an error that says so.
            raise _JobFailedError(str(status.get("error") or error)) from error
        result["delay_seconds"] = _seconds(status.get("delayTime"))
        result["execution_seconds"] = _seconds(status.get("executionTime"))
        self._state.done(number, result)
        return len(result["files"])


class _JobFailedError(RuntimeError):
    """The job ended without a usable result; the text is the target's."""


class _CancelledRemotelyError(RuntimeError):
    """Somebody else cancelled the job."""


class _Steps(Sending):
    """Records a submission's steps."""

    def __init__(self, state: BatchState, number: int) -> None:
        self._state = state
        self._number = number

    def leaves_for(self, member: Member) -> None:
        self._state.sending(self._number, member.name)

    def not_accepted(self) -> None:
        self._state.not_sent(self._number)

    def accepted(self, job_id: str) -> None:
        self._state.accepted(self._number, job_id)


def summary(counts: dict[State, int]) -> str:
    """One line for the end."""
    left = sum(counts[state] for state in UNFINISHED)
    parts = [f"{counts[State.DONE]} done", f"{counts[State.FAILED]} failed"]
    if counts[State.CANCELLED]:
        parts.append(f"{counts[State.CANCELLED]} cancelled elsewhere")
    if left:
        parts.append(f"{left} left")
    return ", ".join(parts)


def _seconds(milliseconds: object) -> float | None:
    return round(milliseconds / 1000, 3) if isinstance(milliseconds, (int, float)) else None
