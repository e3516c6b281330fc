"""The job table on disk: SQLite, one row a job, so that none is forgotten when the process ends.

Without a vault a row holds no more than what a listing needs: no photo, no prompt, no picture. With one, the request,
its photos and, until they expire, the resulting pictures lie beside it, sealed; the request and photos until the job
ends.

All methods run in the one thread that ``StoreThread`` owns. A crash of the process loses nothing that was written; a
power failure may lose the last moments (``synchronous = NORMAL``).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from .encode import Picture
from .jobs import FINAL_STATES, Job, State
from .vault import Vault, VaultError

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_VERSION = 1
_SCHEMA = """
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    caller TEXT NOT NULL,
    profile TEXT NOT NULL,
    state TEXT NOT NULL,
    priority INTEGER NOT NULL,
    images_as TEXT NOT NULL,
    created REAL NOT NULL,
    started REAL,
    finished REAL,
    runs INTEGER NOT NULL,
    report TEXT,
    error TEXT,
    idempotency_key TEXT,
    digest TEXT NOT NULL,
    webhook TEXT,
    webhook_tries INTEGER NOT NULL DEFAULT 0,
    webhook_due REAL,
    request BLOB
);
CREATE UNIQUE INDEX jobs_by_key ON jobs (caller, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_by_time ON jobs (created);
CREATE INDEX jobs_by_state ON jobs (state);
CREATE INDEX jobs_by_webhook ON jobs (webhook_due) WHERE webhook_due IS NOT NULL;
CREATE TABLE files (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('photo', 'picture')),
    place INTEGER NOT NULL,
    name TEXT NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (job_id, kind, place)
);
"""
_COLUMNS = (
    "id, caller, profile, state, priority, images_as, created, started, finished, runs, report, error,"
    " idempotency_key, digest, webhook"
)
_ENDED = tuple(state.value for state in FINAL_STATES)
_ENDED_SQL = ", ".join("?" * len(_ENDED))


class StoreError(RuntimeError):
    """The job table cannot be used; the message says why and what to do."""


class JobStore:
    """The table's rows as jobs.

    Args:
        path: the database's file; its folder is made.
        vault: seals what makes jobs durable; None to keep that off the disk.

    Raises:
        StoreError: another process uses it, it is of a newer version, or no database.
    """

    def __init__(self, path: Path, vault: Vault | None) -> None:
        self._vault = vault
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Nobody else's to read, and SQLite gives its further files the mode of the first.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(path, isolation_level=None, timeout=2.0)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"the job table {path} cannot be opened ({error})") from error
        try:
            self._prepare(path)
        except BaseException:
            self._db.close()
            raise

    def _prepare(self, path: Path) -> None:
        try:
            # Held until the process ends: a second ComfyUI would take this one's running jobs for lost ones.
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("PRAGMA secure_delete = ON")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._db.execute("BEGIN EXCLUSIVE")
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in _SCHEMA.split(";\n"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {_VERSION}")
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise StoreError(
                f"the job table {path} is in use by another ComfyUI, or cannot be written ({error}). "
                "Give each its own FLUX_FACE_DATA_DIR"
            ) from error
        except sqlite3.DatabaseError as error:
            raise StoreError(f"{path} is not a job table ({error}). Move it away") from error
        if version not in (0, _VERSION):
            raise StoreError(
                f"the job table {path} is of a newer Flux Face (version {version}). Install that, or set "
                "FLUX_FACE_DATA_DIR to another folder"
            )

    def close(self) -> None:
        """End the connection."""
        self._db.close()

    def insert(self, job: Job) -> None:
        """Put a waiting job on record; with a vault, its request and photos too."""
        with _transaction(self._db):
            self._db.execute(
                "INSERT INTO jobs (id, caller, profile, state, priority, images_as, created, runs, idempotency_key,"
                " digest, webhook, request) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    job.id,
                    job.caller,
                    job.profile,
                    job.state.value,
                    job.priority,
                    job.images_as,
                    job.created,
                    job.runs,
                    job.idempotency_key,
                    job.digest,
                    job.webhook,
                    self._sealed_request(job),
                ),
            )
            self._insert_photos(job)

    def reopen(self, job: Job) -> None:
        """Let a job that had ended wait again."""
        with _transaction(self._db):
            self._db.execute("DELETE FROM files WHERE job_id = ?", (job.id,))
            self._db.execute(
                "UPDATE jobs SET state = ?, created = ?, started = NULL, finished = NULL, report = NULL, error = NULL,"
                " runs = 0, webhook_tries = 0, webhook_due = NULL, request = ? WHERE id = ?",
                (job.state.value, job.created, self._sealed_request(job), job.id),
            )
            self._insert_photos(job)

    def requeue(self, job: Job) -> None:
        """A job that the last process left unfinished waits again."""
        self._db.execute("UPDATE jobs SET state = ?, started = NULL WHERE id = ?", (job.state.value, job.id))

    def started(self, job_id: str, started: float, runs: int) -> None:
        """Its graph runs."""
        self._db.execute(
            "UPDATE jobs SET state = ?, started = ?, runs = ? WHERE id = ?",
            (State.IN_PROGRESS.value, started, runs, job_id),
        )

    def end(self, job: Job, state: State, finished: float) -> None:
        """Put the end on record, drop request and photos, and make its webhook due."""
        with _transaction(self._db):
            self._db.execute(
                "UPDATE jobs SET state = ?, started = ?, finished = ?, runs = ?, report = ?, error = ?, request = NULL,"
                " webhook_due = CASE WHEN webhook IS NULL THEN NULL ELSE ? END WHERE id = ?",
                (
                    state.value,
                    job.started,
                    finished,
                    job.runs,
                    None if job.report is None else json.dumps(job.report),
                    job.error,
                    finished,
                    job.id,
                ),
            )
            self._db.execute("DELETE FROM files WHERE job_id = ? AND kind = 'photo'", (job.id,))
            if self._vault is not None and job.pictures is not None:
                self._insert_pictures(self._vault, job)

    def find(self, job_id: str) -> Job | None:
        """The job as it is on record, with its pictures where they are kept."""
        row = self._db.execute(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (job_id,)).fetchone()  # noqa: S608
        if row is None:
            return None
        job = _job(row)
        if job.state is State.COMPLETED:
            job.pictures = self._pictures(job_id)
        return job

    def find_key(self, caller: str, key: str) -> Job | None:
        """The job that this caller submitted under that key."""
        row = self._db.execute("SELECT id FROM jobs WHERE caller = ? AND idempotency_key = ?", (caller, key)).fetchone()
        return None if row is None else self.find(row[0])

    def listing(self, caller: str | None, states: Sequence[State], limit: int, offset: int) -> list[Job]:
        """Jobs without their pictures, the newest first.

        Args:
            caller: whose; None for everybody's.
            states: only these; empty for all.
            limit: at most so many.
            offset: how many to leave out first.
        """
        conditions, values = ["1 = 1"], list[str | int]()
        if caller is not None:
            conditions.append("caller = ?")
            values.append(caller)
        if states:
            conditions.append(f"state IN ({', '.join('?' * len(states))})")
            values += [state.value for state in states]
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM jobs WHERE {' AND '.join(conditions)}"  # noqa: S608  (placeholders only)
            " ORDER BY created DESC, id LIMIT ? OFFSET ?",
            (*values, limit, offset),
        )
        return [_job(row) for row in rows]

    def unfinished(self) -> list[Job]:
        """Jobs that the last process left waiting or running, the ones that ran first."""
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM jobs WHERE state NOT IN ({_ENDED_SQL})"  # noqa: S608
            " ORDER BY state = ? DESC, priority DESC, created",
            (*_ENDED, State.IN_PROGRESS.value),
        )
        return [_job(row) for row in rows]

    def request(self, job_id: str) -> bytes | None:
        """An unfinished job's request as JSON; None where it was in memory only.

        Raises:
            VaultError: it was sealed with another key.
        """
        (sealed,) = self._db.execute("SELECT request FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return None if sealed is None else self._require_vault().open(sealed, f"{job_id}/request")

    def photos(self, job_id: str) -> dict[str, bytes]:
        """The photos of an unfinished job by request field.

        Raises:
            VaultError: they were sealed with another key.
        """
        rows = self._db.execute("SELECT name, data FROM files WHERE job_id = ? AND kind = 'photo'", (job_id,))
        return {name: self._require_vault().open(data, f"{job_id}/photo/{name}") for name, data in rows}

    def due_webhooks(self, when: float, limit: int) -> list[tuple[Job, int]]:
        """Jobs whose webhook is due, with the number of tries so far."""
        rows = self._db.execute(
            f"SELECT {_COLUMNS}, webhook_tries FROM jobs WHERE webhook_due <= ?"  # noqa: S608
            " ORDER BY webhook_due LIMIT ?",
            (when, limit),
        ).fetchall()
        return [(_job(row[:-1]), row[-1]) for row in rows]

    def webhook_tried(self, job_id: str, tries: int, due: float | None) -> None:
        """Note a try, and when the next one is due: None for never."""
        self._db.execute("UPDATE jobs SET webhook_tries = ?, webhook_due = ? WHERE id = ?", (tries, due, job_id))

    def drop_pictures(self, job_ids: Collection[str]) -> None:
        """Forget the pictures of these jobs."""
        self._db.executemany("DELETE FROM files WHERE job_id = ? AND kind = 'picture'", ((name,) for name in job_ids))

    def drop_old(self, finished_before: float, most: int, pictures_before: float) -> None:
        """Forget finished jobs that are too old or too many, and pictures that are too old."""
        ended = f"state IN ({_ENDED_SQL})"
        with _transaction(self._db):
            self._db.execute(f"DELETE FROM jobs WHERE {ended} AND finished < ?", (*_ENDED, finished_before))  # noqa: S608
            self._db.execute(
                f"DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE {ended}"  # noqa: S608
                " ORDER BY finished DESC LIMIT -1 OFFSET ?)",
                (*_ENDED, most),
            )
            self._db.execute(
                "DELETE FROM files WHERE kind = 'picture' AND job_id IN (SELECT id FROM jobs WHERE finished < ?)",
                (pictures_before,),
            )

    def _sealed_request(self, job: Job) -> bytes | None:
        if self._vault is None or job.request is None:
            return None
        return self._vault.seal(json.dumps(job.request.to_json()).encode(), f"{job.id}/request")

    def _insert_photos(self, job: Job) -> None:
        if self._vault is None or job.request is None:
            return
        for place, (name, data) in enumerate(job.request.photos.items()):
            sealed = self._vault.seal(data, f"{job.id}/photo/{name}")
            self._db.execute("INSERT INTO files VALUES (?, 'photo', ?, ?, ?)", (job.id, place, name, sealed))

    def _insert_pictures(self, vault: Vault, job: Job) -> None:
        pictures = [(group, picture) for group, found in (job.pictures or {}).items() for picture in found]
        for place, (group, picture) in enumerate(pictures):
            name = json.dumps([group, picture.filename, picture.content_type, picture.link])
            sealed = vault.seal(picture.data, f"{job.id}/picture/{name}")
            self._db.execute("INSERT INTO files VALUES (?, 'picture', ?, ?, ?)", (job.id, place, name, sealed))

    def _pictures(self, job_id: str) -> dict[str, tuple[Picture, ...]] | None:
        rows = self._db.execute(
            "SELECT name, data FROM files WHERE job_id = ? AND kind = 'picture' ORDER BY place", (job_id,)
        ).fetchall()
        if not rows or self._vault is None:
            return None
        pictures: dict[str, tuple[Picture, ...]] = {}
        for name, sealed in rows:
            group, filename, content_type, link = json.loads(name)
            try:
                data = self._vault.open(sealed, f"{job_id}/picture/{name}")
            except VaultError:
                return None
            pictures[group] = (*pictures.get(group, ()), Picture(filename, content_type, data, link))
        return pictures

    def _require_vault(self) -> Vault:
        if self._vault is None:
            raise VaultError("the value was sealed, and there is no key")
        return self._vault


class StoreThread:
    """The job table's one thread: calls run in the order they were made.

    Args:
        path: see `JobStore`.
        vault: see `JobStore`.

    Raises:
        StoreError: see `JobStore`.
    """

    def __init__(self, path: Path, vault: Vault | None) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="flux-face-store")
        try:
            self._store = self._thread.submit(JobStore, path, vault).result()
        except BaseException:
            self._thread.shutdown()
            raise

    async def call(self, method: Callable[Concatenate[JobStore, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a method of the table."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: method(self._store, *args, **kwargs))

    def send(self, method: Callable[Concatenate[JobStore, P], None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Run a method of the table and do not wait for it; a failure is logged."""
        self._thread.submit(lambda: method(self._store, *args, **kwargs)).add_done_callback(_log_failure)

    def wait(self, method: Callable[Concatenate[JobStore, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a method of the table for a thread that may wait."""
        return self._thread.submit(lambda: method(self._store, *args, **kwargs)).result()

    def close(self) -> None:
        """End the thread after the calls that were made."""
        self._thread.submit(self._store.close).result()
        self._thread.shutdown()


def _log_failure(done: Future[None]) -> None:
    error = done.exception()
    if error is not None:
        log.error("Flux Face: the job table could not be written: %s", error)


class _transaction:  # noqa: N801  (reads as the statement it is)
    """All or nothing."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._db.execute("COMMIT" if kind is None else "ROLLBACK")


def _job(row: Sequence[object]) -> Job:
    values = dict(zip(_COLUMNS.replace(" ", "").split(","), row, strict=True))
    report = values.pop("report")
    job = Job(**{**values, "request": None, "state": State(values["state"])})  # type: ignore[arg-type]
    job.report = None if report is None else json.loads(str(report))
    job.ended = job.state.is_final
    if job.ended:
        job.done.set()
    return job
