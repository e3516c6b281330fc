"""submit, status, cancel, batch: what the command line asks for, done with the other modules."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from . import targets
from .api import Status, TargetApi
from .backoff import Backoff
from .batch import Batch, GaveUpError, Rules, summary
from .errors import BusyError, LostError, TargetError, UnavailableError, UsageError
from .fleet import Fleet
from .items import Item, items_of_csv, items_of_folder, make_item, parse_settings
from .jobs import Patience, Sending, follow, send
from .progress import Progress
from .report import write_report
from .results import ResultStore, file_stem, remove_parts
from .state import BatchState, State

_TRIES = 5


def submit(options: argparse.Namespace) -> int:
    """Send one job; with ``--wait``, write its pictures."""
    fields = _fields(options)
    if options.photo is not None:
        fields["user_photo"] = str(options.photo)
    item = make_item("job", fields, Path(), _policy(options))
    return asyncio.run(_submit(options, item))


async def _submit(options: argparse.Namespace, item: Item) -> int:
    patience = _patience(options)
    async with _fleet(options, 1) as fleet:
        member, job_id = await send(fleet, item, uuid.uuid4().hex, Sending(), patience)
        answer = {"id": job_id, "target": member.name}
        if not options.wait:
            _print(answer)
            return 0
        _say(f"{job_id} is on {member.name}")
        status = await follow(fleet, member, job_id, patience)
        async with ResultStore(options.out) as store:
            return await _print_status(answer, status, store, member.api.target)


def status(options: argparse.Namespace) -> int:
    """Print a job's state; with ``--out``, write its pictures."""

    async def ask() -> int:
        async with _fleet(options, 1) as fleet:
            name, found = await _first_that_knows(fleet, options.id, lambda api: api.status(options.id), options.poll)
            answer = {"id": options.id, "target": name}
            target = fleet.members[name].api.target
            if options.out is None:
                return await _print_status(answer, found, None, target)
            async with ResultStore(options.out) as store:
                return await _print_status(answer, found, store, target)

    return asyncio.run(ask())


def cancel(options: argparse.Namespace) -> int:
    """Cancel a job and print the state it then has."""

    async def ask() -> int:
        async with _fleet(options, 1) as fleet:
            name, state = await _first_that_knows(fleet, options.id, lambda api: api.cancel(options.id), options.poll)
            _print({"id": options.id, "target": name, "status": state})
        return 0

    return asyncio.run(ask())


def batch(options: argparse.Namespace) -> int:
    """Run or resume a batch."""
    fields, policy = _fields(options), _policy(options)
    if options.source.is_dir():
        items = items_of_folder(options.source, fields, policy)
    elif options.source.is_file():
        items = items_of_csv(options.source, fields, policy)
    else:
        raise UsageError(f"{options.source} is not there", "Give a folder of photos or a CSV file")
    options.out.mkdir(parents=True, exist_ok=True)
    with BatchState(options.out) as state:
        remove_parts(options.out)
        known = state.add(items)
        if options.retry_failed:
            state.reopen_failed()
        counts = state.counts()
        if known:
            _say(f"Resuming: {summary(counts)}")
        finished = counts[State.DONE] + counts[State.FAILED] + counts[State.CANCELLED]
        with Progress(len(items), finished, quiet=options.quiet) as progress:
            code = asyncio.run(_batch(options, items, state, progress))
        write_report(state, options.out)
        counts = state.counts()
        _say(f"{summary(counts)}; report in {options.out / 'report.csv'}")
        if code >= 128:
            _say(f"To resume: {shlex.join(['python', sys.argv[0], *options.arguments])}")
        return code or int(counts[State.FAILED] + counts[State.CANCELLED] > 0)


async def _batch(options: argparse.Namespace, items: list[Item], state: BatchState, progress: Progress) -> int:
    """The exit code, failed items apart."""
    rules = Rules(options.retries, options.resubmissions, options.give_up_after)
    async with _fleet(options, options.in_flight, progress.say) as fleet, ResultStore(options.out) as store:
        if options.forget_missing:
            state.forget_targets(state.targets_in_use() - set(fleet.members))
        runner = Batch(items, state, fleet, store, progress, _patience(options), rules)
        with _stop_signals() as stop:
            try:
                if await runner.run(stop.event):
                    return 0
            except (GaveUpError, TargetError) as error:
                progress.say(f"{error}. The batch stops and can be resumed")
                return 1
        running = len(state.numbers(State.RUNNING))
        if options.cancel_on_interrupt:
            cancelled, failed = await runner.cancel_remote()
            progress.say(f"Interrupted: {running} jobs sent, {cancelled} cancelled, {failed} could not be")
        else:
            progress.say(f"Interrupted: {running} jobs go on where they are; their results are fetched on resuming")
        return 128 + stop.number


class _Stop:
    """An event that a signal sets, and that signal."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.number: int = signal.SIGINT


@contextmanager
def _stop_signals() -> Iterator[_Stop]:
    """The first Ctrl-C or SIGTERM asks to stop; the next one is as without us."""
    loop = asyncio.get_running_loop()
    stop = _Stop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        stop.number = number
        restore()
        loop.call_soon_threadsafe(stop.event.set)

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        restore()


@asynccontextmanager
async def _fleet(
    options: argparse.Namespace, in_flight: int, say: Callable[[str], None] | None = None
) -> AsyncIterator[Fleet]:
    chosen = [
        *(targets.endpoint(endpoint_id, os.environ) for endpoint_id in options.endpoint),
        *(targets.server(url, os.environ) for url in options.server),
    ]
    if not chosen:
        raise UsageError("there is no target", "Give --endpoint ID or --server URL, each as often as you like")
    unique = {target.name: target for target in chosen}
    async with AsyncExitStack() as stack:
        apis = [await stack.enter_async_context(TargetApi(target)) for target in unique.values()]
        rest = Backoff(first_s=4 * min(1.0, options.poll), longest_s=120.0)
        yield Fleet(apis, in_flight, say or _say, rest)


async def _first_that_knows(
    fleet: Fleet, job_id: str, ask: Callable[[TargetApi], Awaitable[Any]], poll_s: float
) -> tuple[str, Any]:
    """The name and answer of the first target that knows the job.

    Raises:
        LostError: none does.
        TargetError: one cannot be asked.
    """
    for member in fleet.members.values():
        try:
            return member.name, await _insist(lambda: ask(member.api), poll_s)  # noqa: B023  (awaited at once)
        except LostError:
            continue
    raise LostError(f"No target knows the job {job_id}; results expire, on RunPod after 30 minutes")


async def _insist(ask: Callable[[], Awaitable[Any]], poll_s: float) -> Any:
    """The answer, asked for again where there is none for the moment."""
    backoff = Backoff(first_s=min(1.0, poll_s), longest_s=10.0)
    for attempt in range(1, _TRIES + 1):
        try:
            return await ask()
        except (BusyError, UnavailableError) as error:
            if attempt == _TRIES:
                raise TargetError(f"{error} (asked {_TRIES} times). Try again later") from error
            await asyncio.sleep(backoff.pause_s(attempt, error.retry_after_s))
    raise AssertionError("unreachable")


async def _print_status(
    answer: dict[str, Any], status: Status, store: ResultStore | None, target: targets.Target
) -> int:
    """Print a job's status without its pictures' data; the exit code says whether it may still become a result."""
    answer["status"] = status["status"]
    completed = status["status"] == "COMPLETED"
    if completed and store is not None:
        answer.update(await store.save(status.get("output"), file_stem(1, str(answer["id"])), target))
    else:
        rest = {key: value for key, value in status.items() if key not in answer}
        answer.update(_without_data(rest))
    _print(answer)
    return int(status["status"] in ("FAILED", "CANCELLED", "TIMED_OUT"))


def _without_data(value: Any) -> Any:
    if isinstance(value, dict):
        inline = value.get("type") == "base64" and isinstance(value.get("data"), str)
        return {
            key: f"{len(item)} characters" if inline and key == "data" else _without_data(item)
            for key, item in value.items()
        }
    return [_without_data(item) for item in value] if isinstance(value, list) else value


def _fields(options: argparse.Namespace) -> dict[str, Any]:
    fields = parse_settings(options.set)
    if options.prompt is not None:
        fields["prompt"] = options.prompt
    return fields


def _policy(options: argparse.Namespace) -> dict[str, Any]:
    policy: dict[str, Any] = {}
    if options.execution_timeout is not None:
        policy["executionTimeout"] = round(options.execution_timeout * 1000)
    if options.ttl is not None:
        policy["ttl"] = round(options.ttl * 1000)
    if options.low_priority:
        policy["lowPriority"] = True
    return policy


def _patience(options: argparse.Namespace) -> Patience:
    # A user who wants to be told sooner wants to wait less after a failure too.
    return Patience(poll_s=options.poll, backoff=Backoff(first_s=min(1.0, options.poll)))


def _print(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer, indent=2) + "\n")


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
