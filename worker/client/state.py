"""The state file of a batch: which item is which job where. SQLite, one transaction per step.

What is recorded before a request is sent survives the client's end at any moment; a loss of power may take the last
steps with it. Its lock keeps a second client away from the same batch.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any

from .errors import UsageError
from .items import Item

FILE_NAME = "batch.sqlite"
_VERSION = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS batch (id TEXT NOT NULL, created REAL NOT NULL);
CREATE TABLE IF NOT EXISTS items (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    digest TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting',
    attempt INTEGER NOT NULL DEFAULT 1,
    losses INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    target TEXT,
    job_id TEXT,
    sent REAL,
    ended REAL,
    error TEXT,
    result TEXT
);
CREATE INDEX IF NOT EXISTS by_state ON items (state);
"""


class State(str, Enum):
    """Where an item stands."""

    WAITING = "waiting"
    SENDING = "sending"
    """A submission was begun; whether the target has it is not known."""
    RUNNING = "running"
    """A target has it under a job id."""
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


UNFINISHED = (State.RUNNING, State.SENDING, State.WAITING)


@dataclass(frozen=True)
class Record:
    """One item's row.

    Attributes:
        number: from 1, in the order of the items; stays the same when items are added.
        attempt: from 1; a new one is a new job on purpose.
        losses: jobs of this item that a target lost.
        failures: jobs of this item that failed.
        target: where it was sent last, or None.
        job_id: its job there, or None.
        sent: when it was first sent, in seconds of the epoch, or None.
        ended: when it ended, likewise.
        error: why it did not work, at last.
        result: what the report says of its result.
    """

    number: int
    name: str
    digest: str
    state: State
    attempt: int
    losses: int
    failures: int
    target: str | None
    job_id: str | None
    sent: float | None
    ended: float | None
    error: str | None
    result: dict[str, Any] | None


class BatchState:
    """The open state file; use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE_NAME

    def __enter__(self) -> BatchState:
        """Open or make the file.

        Raises:
            UsageError: another client has it open, or it is not ours.
        """
        self._db = sqlite3.connect(self._file, timeout=1.0, isolation_level=None)
        try:
            # Exclusive: a second client is refused, and the write-ahead log needs no shared memory, which network
            # file systems lack.
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _VERSION):
                raise UsageError(f"{self._file} is of another version of this program", "Choose another --out folder")
            self._db.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {_VERSION}; COMMIT;")
            if self._db.execute("SELECT id FROM batch").fetchone() is None:
                self._db.execute("INSERT INTO batch VALUES (?, ?)", (uuid.uuid4().hex, time.time()))
        except sqlite3.OperationalError as error:
            self._db.close()
            raise UsageError(
                f"{self._file} cannot be used ({error})", "Is another client working on this batch? Wait for its end"
            ) from error
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise UsageError(f"{self._file} is not a batch's state ({error})", "Choose another --out folder") from error
        except UsageError:
            self._db.close()
            raise
        self._batch_id: str = self._db.execute("SELECT id FROM batch").fetchone()[0]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def add(self, items: Sequence[Item]) -> int:
        """Enter the items that are not there yet; returns how many were.

        Raises:
            UsageError: an item of this batch is gone or has changed.
        """
        known = dict(self._db.execute("SELECT name, digest FROM items"))
        given = {item.name: item.digest for item in items}
        for name, digest in known.items():
            if given.get(name) != digest:
                problem = "has changed" if name in given else "is no longer there"
                raise UsageError(
                    f"{self._file} is of another batch: its item {name} {problem}",
                    "Run the command as it was before, or choose another --out folder",
                )
        self._db.execute("BEGIN")
        self._db.executemany(
            "INSERT INTO items (name, digest) VALUES (?, ?)",
            ((name, digest) for name, digest in given.items() if name not in known),
        )
        self._db.execute("COMMIT")
        return len(known)

    def key(self, record: Record) -> str:
        """The idempotency key of an item's present attempt: the same however often it is sent."""
        return hashlib.sha256(f"{self._batch_id}\n{record.name}\n{record.attempt}".encode()).hexdigest()

    def get(self, number: int) -> Record:
        """An item."""
        return next(self._select("WHERE number = ?", number))

    def records(self) -> Iterator[Record]:
        """All items, in order, one at a time."""
        return self._select("ORDER BY number")

    def numbers(self, state: State) -> list[int]:
        """The items in a state, in order."""
        return [
            row[0] for row in self._db.execute("SELECT number FROM items WHERE state = ? ORDER BY number", (state,))
        ]

    def counts(self) -> dict[State, int]:
        """Items by state."""
        counts = dict.fromkeys(State, 0)
        counts.update(
            (State(state), count)
            for state, count in self._db.execute("SELECT state, COUNT(*) FROM items GROUP BY state")
        )
        return counts

    def targets_in_use(self) -> set[str]:
        """The targets that have, or may have, unfinished jobs."""
        return {
            row[0]
            for row in self._db.execute(
                "SELECT DISTINCT target FROM items WHERE state IN (?, ?)", (State.RUNNING, State.SENDING)
            )
        }

    def sending(self, number: int, target: str) -> None:
        """A submission is about to leave for the target."""
        self._update(
            "state = ?, target = ?, job_id = NULL, sent = COALESCE(sent, ?)", number, State.SENDING, target, time.time()
        )

    def not_sent(self, number: int) -> None:
        """The target certainly has not got it."""
        self._update("state = ?, target = NULL", number, State.WAITING)

    def accepted(self, number: int, job_id: str) -> None:
        """The target has it."""
        self._update("state = ?, job_id = ?", number, State.RUNNING, job_id)

    def again(self, number: int, *, lost: bool = False, failed: str | None = None) -> None:
        """Its job has come to nothing: the next one is a new attempt.

        Args:
            lost: the target lost it.
            failed: why it failed.
        """
        self._update(
            "state = ?, attempt = attempt + 1, losses = losses + ?, failures = failures + ?, "
            "target = NULL, job_id = NULL, error = ?",
            number,
            State.WAITING,
            int(lost),
            int(failed is not None),
            failed,
        )

    def done(self, number: int, result: dict[str, Any]) -> None:
        """Its result is on disk."""
        self._update(
            "state = ?, ended = ?, error = NULL, result = ?", number, State.DONE, time.time(), json.dumps(result)
        )

    def failed(self, number: int, error: str, state: State = State.FAILED) -> None:
        """It will not be tried again in this run."""
        self._update("state = ?, ended = ?, error = ?", number, state, time.time(), error)

    def reopen_failed(self) -> int:
        """Give what failed or was cancelled another round of attempts; returns how many."""
        return self._db.execute(
            "UPDATE items SET state = ?, attempt = attempt + 1, losses = 0, failures = 0, "
            "target = NULL, job_id = NULL, sent = NULL, ended = NULL WHERE state IN (?, ?)",
            (State.WAITING, State.FAILED, State.CANCELLED),
        ).rowcount

    def forget_targets(self, names: set[str]) -> int:
        """Take the unfinished jobs of these targets for lost; returns how many."""
        return sum(
            self._db.execute(
                "UPDATE items SET state = ?, attempt = attempt + 1, target = NULL, job_id = NULL "
                "WHERE target = ? AND state IN (?, ?)",
                (State.WAITING, name, State.RUNNING, State.SENDING),
            ).rowcount
            for name in names
        )

    def _update(self, assignments: str, number: int, *values: object) -> None:
        self._db.execute(f"UPDATE items SET {assignments} WHERE number = ?", (*values, number))  # noqa: S608  (ours)

    def _select(self, rest: str, *values: object) -> Iterator[Record]:
        columns = ", ".join(Record.__dataclass_fields__)
        for row in self._db.execute(f"SELECT {columns} FROM items {rest}", values):  # noqa: S608  (constants)
            record = dict(zip(Record.__dataclass_fields__, row, strict=True))
            record["state"] = State(record["state"])
            record["result"] = json.loads(record["result"]) if record["result"] else None
            yield Record(**record)
