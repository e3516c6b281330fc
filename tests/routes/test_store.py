"""The job table on disk, and the vault that keeps its contents private."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sqlite3
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from flux_face.server_routes.clock import now
from flux_face.server_routes.encode import Picture
from flux_face.server_routes.jobs import Job, State
from flux_face.server_routes.request import JobRequest
from flux_face.server_routes.store import JobStore, StoreError, StoreThread
from flux_face.server_routes.vault import Vault, VaultError
from flux_face.workflows.profiles import BUILT_IN_DIR, load_profiles

PROFILES = load_profiles([BUILT_IN_DIR])
PHOTO = b"\xff\xd8\xff" + os.urandom(200)
PICTURE = os.urandom(100)
PROMPT = "a portrait nobody may read"


def key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


def request() -> JobRequest:
    return JobRequest(
        profile=PROFILES["starter"],
        values={"prompt": PROMPT, "num_steps": 4},
        photos={"user_photo": PHOTO},
        seed=7,
        output_format="png",
        quality=90,
        images_as="base64",
        include_generated=False,
        preview=False,
        execution_seconds=60.0,
        ttl_seconds=600.0,
        priority=0,
        webhook=None,
    )


def job(**changes: object) -> Job:
    return Job(**{"caller": "alice", "profile": "starter", "request": request(), **changes})  # type: ignore[arg-type]


def ended(store: JobStore, one: Job, state: State = State.COMPLETED, when: float | None = None) -> None:
    one.report = {"profile": "starter", "qa": [{"passed": True}]}
    one.pictures = {"images": (Picture("a.png", "image/png", PICTURE),)} if state is State.COMPLETED else None
    store.end(one, state, now() if when is None else when)


def on_disk(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.parent.iterdir())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs" / "jobs.sqlite3"


@pytest.mark.parametrize("durable", [False, True])
def test_a_job_comes_back_from_disk(path: Path, durable: bool) -> None:
    vault = Vault(key()) if durable else None
    store = JobStore(path, vault)
    one = job(webhook="https://example.com/", idempotency_key="k", digest="d", priority=3)
    store.insert(one)
    store.started(one.id, 123.0, 1)
    store.close()

    store = JobStore(path, vault)
    found = store.find(one.id)
    assert found is not None
    assert (found.caller, found.priority, found.webhook, found.runs) == ("alice", 3, "https://example.com/", 1)
    assert found.state is State.IN_PROGRESS
    (left,) = store.unfinished()
    assert left.id == one.id
    kept = store.request(one.id)
    if vault is None:
        assert kept is None
    else:
        assert kept is not None
        again = JobRequest.from_json(json.loads(kept), store.photos(one.id), PROFILES)
        assert again == request()
    by_key = store.find_key("alice", "k")
    assert by_key is not None
    assert by_key.id == one.id
    assert store.find_key("bob", "k") is None
    store.close()


@pytest.mark.parametrize("durable", [False, True])
def test_nothing_private_is_readable_on_disk(path: Path, durable: bool) -> None:
    store = JobStore(path, Vault(key()) if durable else None)
    one = job()
    store.insert(one)
    ended(store, one)
    content = on_disk(path)
    assert PHOTO not in content
    assert PROMPT.encode() not in content
    assert PICTURE not in content
    assert one.id.encode() in content, "the test looks in the right place"
    if sys.platform != "win32":
        files = list(path.parent.iterdir())
        assert len(files) == 2, "the table and its journal"
        assert [file.stat().st_mode & 0o077 for file in files] == [0, 0]
    store.close()


def test_photos_go_when_the_job_ends_and_pictures_when_they_expire(path: Path) -> None:
    store = JobStore(path, Vault(key()))
    one = job()
    store.insert(one)
    assert store.photos(one.id) == {"user_photo": PHOTO}
    ended(store, one)
    assert store.photos(one.id) == {}
    found = store.find(one.id)
    assert found is not None
    assert found.pictures == {"images": (Picture("a.png", "image/png", PICTURE),)}
    store.drop_pictures([one.id])
    found = store.find(one.id)
    assert found is not None
    assert found.pictures is None
    assert found.state is State.COMPLETED
    assert found.to_json()["error"].startswith("[result_gone]")
    store.close()


def test_another_key_opens_nothing(path: Path) -> None:
    store = JobStore(path, Vault(key()))
    waiting, done = job(), job()
    store.insert(waiting)
    store.insert(done)
    ended(store, done)
    store.close()
    store = JobStore(path, Vault(key()))
    (left,) = store.unfinished()
    assert left.id == waiting.id
    with pytest.raises(VaultError):
        store.request(waiting.id)
    with pytest.raises(VaultError):
        store.photos(waiting.id)
    found = store.find(done.id)
    assert found is not None
    assert found.pictures is None
    store.close()


def test_sealed_values_cannot_change_places(path: Path) -> None:
    vault = Vault(key())
    store = JobStore(path, vault)
    one, two = job(), job()
    store.insert(one)
    store.insert(two)
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE files SET job_id = 'x' WHERE job_id = ?", (one.id,))
        db.execute("UPDATE files SET job_id = ? WHERE job_id = ?", (one.id, two.id))
    db.close()
    store = JobStore(path, vault)
    with pytest.raises(VaultError, match="another key, or is damaged"):
        store.photos(one.id)
    store.close()


def test_unfinished_jobs_come_in_the_order_they_are_to_run(path: Path) -> None:
    store = JobStore(path, None)
    jobs = {name: job(priority=priority) for name, priority in (("old", 0), ("new", 0), ("high", 5), ("ran", 0))}
    for place, one in enumerate(jobs.values()):
        one.created = 1000.0 + place
        store.insert(one)
    store.started(jobs["ran"].id, 1.0, 1)
    order = [left.id for left in store.unfinished()]
    assert order == [jobs[name].id for name in ("ran", "high", "old", "new")]
    store.close()


def test_the_oldest_records_go_first(path: Path) -> None:
    store = JobStore(path, Vault(key()))
    jobs = [job() for _ in range(6)]
    for place, one in enumerate(jobs):
        store.insert(one)
        if place:
            ended(store, one, when=1000.0 + place)
    store.drop_old(finished_before=1002.0, most=3, pictures_before=1005.0)
    left = [store.find(one.id) for one in jobs]
    assert [found is not None for found in left] == [True, False, False, True, True, True]
    assert [found.pictures is not None for found in left[3:] if found] == [False, False, True]
    store.close()


def test_webhooks_are_due_until_told_otherwise(path: Path) -> None:
    store = JobStore(path, None)
    one, silent = job(webhook="https://example.com/"), job()
    for each in (one, silent):
        store.insert(each)
        ended(store, each, when=1000.0)
    assert [(due.id, tries) for due, tries in store.due_webhooks(1000.0, 10)] == [(one.id, 0)]
    store.webhook_tried(one.id, 1, 1005.0)
    assert store.due_webhooks(1004.0, 10) == []
    assert [tries for _, tries in store.due_webhooks(1005.0, 10)] == [1]
    store.webhook_tried(one.id, 2, None)
    assert store.due_webhooks(9e9, 10) == []
    store.close()


def test_a_job_that_ended_can_wait_again(path: Path) -> None:
    store = JobStore(path, Vault(key()))
    one = job(runs=1)
    store.insert(one)
    ended(store, one, State.FAILED)
    store.reopen(job(id=one.id))
    (left,) = store.unfinished()
    assert left.runs == 0, "that it ran before is no crash"
    assert left.state is State.IN_QUEUE
    assert left.report is None
    assert store.request(one.id) is not None
    assert store.photos(one.id) == {"user_photo": PHOTO}
    store.close()


def test_one_key_is_one_job_of_a_caller(path: Path) -> None:
    store = JobStore(path, None)
    store.insert(job(idempotency_key="k"))
    store.insert(job(idempotency_key="k", caller="bob"))
    with pytest.raises(sqlite3.IntegrityError):
        store.insert(job(idempotency_key="k"))
    store.close()


def test_a_second_process_is_told_so(path: Path) -> None:
    store = JobStore(path, None)
    with pytest.raises(StoreError, match="in use by another ComfyUI"):
        JobStore(path, None)
    store.insert(job())
    store.close()


def test_what_is_no_job_table(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match="Move it away"):
        JobStore(path, None)
    assert path.read_bytes().startswith(b"no database")


def test_a_newer_table(path: Path) -> None:
    JobStore(path, None).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match="newer Flux Face"):
        JobStore(path, None)


def test_calls_run_in_the_order_they_were_made(path: Path) -> None:
    async def run() -> State:
        thread = StoreThread(path, None)
        one = job()
        thread.send(JobStore.insert, one)
        thread.send(JobStore.started, one.id, 5.0, 1)
        found = await thread.call(JobStore.find, one.id)
        thread.close()
        assert found is not None
        return found.state

    assert asyncio.run(run()) is State.IN_PROGRESS


def test_vault() -> None:
    vault = Vault(key())
    sealed = vault.seal(b"data", "a")
    assert sealed != vault.seal(b"data", "a"), "never the same twice"
    assert vault.open(sealed, "a") == b"data"
    for other, context, value in ((vault, "b", sealed), (Vault(key()), "a", sealed), (vault, "a", sealed[:-1])):
        with pytest.raises(VaultError):
            other.open(value, context)


@pytest.mark.parametrize(
    "bad", ["", "not base64!", base64.b64encode(b"short").decode(), base64.b64encode(bytes(33)).decode()]
)
def test_bad_keys_are_not_shown(bad: str) -> None:
    with pytest.raises(VaultError) as caught:
        Vault(bad)
    assert not bad or bad not in str(caught.value)


def test_a_request_comes_back_whole() -> None:
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "a"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
    }
    raw = replace(request(), workflow=graph, values={}, photos={"images.a": PHOTO}, seed=None)
    again = JobRequest.from_json(raw.to_json(), raw.photos, PROFILES)
    assert again.profile.output_nodes == ("2",)
    assert again.photos == raw.photos
