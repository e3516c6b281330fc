"""The state file by itself."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from flux_face.worker.client.errors import UsageError
from flux_face.worker.client.items import Item
from flux_face.worker.client.state import FILE_NAME, BatchState, State


def items(*names: str) -> list[Item]:
    return [Item(name, {}, {}) for name in names]


def test_every_step_is_there_after_reopening(tmp_path: Path) -> None:
    with BatchState(tmp_path) as state:
        assert state.add(items("a", "b", "c", "d")) == 0
        state.sending(1, "server:x")
        state.sending(2, "server:x")
        state.accepted(2, "job")
        state.sending(3, "server:y")
        state.not_sent(3)
        state.done(4, {"files": ["f"]})
    with BatchState(tmp_path) as state:
        assert state.add(items("a", "b", "c", "d")) == 4
        records = list(state.records())
        assert [record.state for record in records] == [State.SENDING, State.RUNNING, State.WAITING, State.DONE]
        assert [record.target for record in records] == ["server:x", "server:x", None, None]
        assert records[1].job_id == "job"
        assert records[3].result == {"files": ["f"]}
        assert state.targets_in_use() == {"server:x"}
        assert state.numbers(State.RUNNING) == [2]
        assert state.counts()[State.CANCELLED] == 0
        assert state.counts()[State.DONE] == 1


def test_a_key_stays_with_its_attempt(tmp_path: Path) -> None:
    with BatchState(tmp_path) as state:
        state.add(items("a", "b"))
        first = state.key(state.get(1))
        assert state.key(state.get(2)) != first
        state.sending(1, "server:x")
        state.accepted(1, "job")
        assert state.key(state.get(1)) == first
    with BatchState(tmp_path) as state:
        assert state.key(state.get(1)) == first
        state.again(1, lost=True)
        assert state.key(state.get(1)) != first
        record = state.get(1)
        assert (record.attempt, record.losses, record.failures, record.job_id) == (2, 1, 0, None)
    (tmp_path / "other").mkdir()
    with BatchState(tmp_path / "other") as other:
        other.add(items("a"))
        assert other.key(other.get(1)) != first


def test_forgetting_a_target_makes_new_attempts(tmp_path: Path) -> None:
    with BatchState(tmp_path) as state:
        state.add(items("a", "b", "c"))
        for number, target in enumerate(["gone", "gone", "here"], start=1):
            state.sending(number, target)
        state.accepted(1, "job")
        assert state.forget_targets({"gone"}) == 2
        assert [(record.state, record.attempt) for record in state.records()] == [
            (State.WAITING, 2),
            (State.WAITING, 2),
            (State.SENDING, 1),
        ]


def test_what_failed_can_be_reopened(tmp_path: Path) -> None:
    with BatchState(tmp_path) as state:
        state.add(items("a", "b", "c"))
        state.failed(1, "no")
        state.failed(2, "stopped", State.CANCELLED)
        state.done(3, {})
        assert state.reopen_failed() == 2
        assert [record.state for record in state.records()] == [State.WAITING, State.WAITING, State.DONE]


def test_another_file_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"something of the user's" * 100)
    with pytest.raises(UsageError, match="not a batch's state"), BatchState(tmp_path):
        pass
    assert (tmp_path / FILE_NAME).read_bytes() == b"something of the user's" * 100


def test_a_file_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / FILE_NAME)
    database.execute("PRAGMA user_version = 2")
    database.close()
    with pytest.raises(UsageError, match="another version"), BatchState(tmp_path):
        pass
