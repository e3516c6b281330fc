"""The registry between routes and graph."""

from __future__ import annotations

import threading

import pytest
import torch

from flux_face.nodes.errors import UserInputError
from flux_face.nodes.job.handoff import JobHandoff, JobResult, parse_photo_reference, photo_reference


def test_a_job_from_photo_to_result() -> None:
    handoff = JobHandoff()
    handoff.open("a", {"user_photo": b"photo"})
    assert handoff.photo("a", "user_photo") == b"photo"
    assert handoff.take("a") == ()
    result = JobResult(torch.zeros(1, 2, 2, 3))
    handoff.deliver("a", result)
    handoff.deliver("a", result)
    assert [taken is result for taken in handoff.take("a")] == [True, True], "a graph may deliver more than once"
    assert handoff.take("a") == (), "a result is handed over once"


def test_closing_forgets_photo_and_result() -> None:
    handoff = JobHandoff()
    handoff.open("a", {"user_photo": b"photo"})
    handoff.deliver("a", JobResult(torch.zeros(1, 2, 2, 3)))
    handoff.close("a")
    assert handoff.take("a") == ()
    assert not handoff.has_photo("a", "user_photo")
    with pytest.raises(UserInputError, match="no longer in memory"):
        handoff.photo("a", "user_photo")
    with pytest.raises(UserInputError, match="no open job"):
        handoff.deliver("a", JobResult(torch.zeros(1, 2, 2, 3)))


def test_the_start_is_told_once() -> None:
    handoff = JobHandoff()
    starts: list[str] = []
    handoff.open("a", {}, on_start=lambda: starts.append("a"))
    handoff.open("b", {}, on_start=lambda: starts.append("b"))
    handoff.open("c", {})
    handoff.close("b")
    for job_id in ("a", "a", "b", "c", "never opened"):
        handoff.start(job_id)
    assert starts == ["a"]


def test_an_id_is_used_once() -> None:
    handoff = JobHandoff()
    handoff.open("a", {})
    with pytest.raises(ValueError, match="already open"):
        handoff.open("a", {})


def test_another_jobs_photo_is_out_of_reach() -> None:
    handoff = JobHandoff()
    handoff.open("a", {"user_photo": b"photo"})
    handoff.open("b", {})
    with pytest.raises(UserInputError):
        handoff.photo("b", "user_photo")


def test_many_threads() -> None:
    handoff = JobHandoff()
    lost: list[str] = []

    def run(name: str) -> None:
        for turn in range(200):
            job_id = f"{name}{turn}"
            handoff.open(job_id, {"user_photo": job_id.encode()})
            handoff.deliver(job_id, JobResult(torch.full((1, 1, 1, 3), float(turn))))
            (result,) = handoff.take(job_id)
            if handoff.photo(job_id, "user_photo") != job_id.encode() or result.images[0, 0, 0, 0] != turn:
                lost.append(job_id)
            handoff.close(job_id)

    threads = [threading.Thread(target=run, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lost == []


def test_references() -> None:
    assert parse_photo_reference(photo_reference("x-1", "user_photo")) == ("x-1", "user_photo")
    assert parse_photo_reference("example.png") is None
