"""Targets, the choice between them, their limits, and how long to wait for them; without waiting."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from flux_face.worker.client import targets
from flux_face.worker.client.api import Pace, TargetApi, proxy_for
from flux_face.worker.client.backoff import Backoff, parse_retry_after
from flux_face.worker.client.errors import UsageError
from flux_face.worker.client.fleet import FREED_AFTER, RESTED_AFTER, Fleet
from flux_face.worker.client.jobs import Patience

ENV = {"RUNPOD_API_KEY": "key-of-runpod", "FLUX_FACE_TOKEN": "token-of-ours"}
NOW = datetime.datetime(2026, 11, 25, 12, 0, tzinfo=datetime.timezone.utc)


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer instead of waiting for it."""

    skipped = 0.0

    def time(self) -> float:
        return self.skipped

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.skipped = max(self.skipped, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def skip_time(test: Callable[[SkippingLoop], Coroutine[Any, Any, None]]) -> None:
    """Run a test whose waiting takes no time."""
    loop = SkippingLoop()
    try:
        loop.run_until_complete(test(loop))
    finally:
        loop.close()


def make_fleet(loop: SkippingLoop, count: int = 2, in_flight: int = 2) -> tuple[Fleet, list[str]]:
    told: list[str] = []
    apis = [TargetApi(targets.server(f"http://127.0.0.1:{port}", ENV)) for port in range(1, count + 1)]
    return Fleet(apis, in_flight, told.append, Backoff(4, 120), loop.time), told


def test_an_endpoint() -> None:
    target = targets.endpoint("abc-123", ENV)
    assert (target.name, target.url) == ("endpoint:abc-123", "https://api.runpod.ai/v2/abc-123")
    assert target.token == "key-of-runpod"
    assert target.max_body_bytes == 10_000_000
    assert "key-of-runpod" not in repr(target)
    moved = targets.endpoint("abc", {**ENV, "RUNPOD_ENDPOINT_BASE_URL": "http://127.0.0.1:9/v2/"})
    assert moved.url == "http://127.0.0.1:9/v2/abc"


def test_a_server() -> None:
    target = targets.server("http://box:8188/", ENV)
    assert (target.name, target.url) == ("server:http://box:8188", "http://box:8188/flux-face/v1")
    assert target.token == "token-of-ours"
    assert target.max_body_bytes is None
    assert targets.server("https://box", {}).token is None


@pytest.mark.parametrize("endpoint_id", ["", "a/b", "a b", "https://api.runpod.ai/v2/a", "..%2f", "a?b"])
def test_an_endpoint_that_is_none(endpoint_id: str) -> None:
    with pytest.raises(UsageError, match="not an endpoint's id"):
        targets.endpoint(endpoint_id, ENV)


def test_an_endpoint_needs_a_key() -> None:
    with pytest.raises(UsageError, match="RUNPOD_API_KEY is not set"):
        targets.endpoint("abc", {"RUNPOD_API_KEY": " "})


@pytest.mark.parametrize(
    "url", ["", "box:8188", "ftp://box", "http://", "http://box:x", "http://box?a=1", "http://b#c"]
)
def test_a_server_that_is_none(url: str) -> None:
    with pytest.raises(UsageError, match="not an address"):
        targets.server(url, ENV)


def test_a_secret_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError, match="FLUX_FACE_TOKEN") as caught:
        targets.server("http://me:secret@box:8188", ENV)
    assert "secret" not in str(caught.value)


def test_a_proxy_is_for_others_than_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "inside.example")
    assert proxy_for("http://127.0.0.1:8188") is None
    assert proxy_for("http://localhost:8188/x") is None
    assert proxy_for("http://inside.example") is None
    assert proxy_for("http://box:8188") == "http://proxy:3128"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 0 ", 0.0),
        ("999999", 300.0),
        ("-5", None),
        ("soon", None),
        ("٣", None),
        ("Wed, 25 Nov 2026 12:00:30 GMT", 30.0),
        ("Wed, 25 Nov 2026 11:00:00 GMT", 0.0),
        ("Wed, 25 Nov 2026 12:00:30 -0000", 30.0),
    ],
)
def test_retry_after(text: str | None, seconds: float | None) -> None:
    assert parse_retry_after(text, NOW) == seconds


def test_pauses_double_up_to_a_limit_and_vary() -> None:
    backoff = Backoff(first_s=1, longest_s=60)
    for failures, ceiling in [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (1000, 60)]:
        pauses = {backoff.pause_s(failures) for _ in range(50)}
        assert all(ceiling / 2 <= pause <= ceiling for pause in pauses)
        assert len(pauses) > 1
    assert backoff.pause_s(1, asked_s=100) == 100
    assert backoff.pause_s(7, asked_s=0) >= 30


def test_requests_keep_below_runpods_limits() -> None:
    async def test(loop: SkippingLoop) -> None:
        pace = targets.endpoint("abc", ENV).pace_s
        for operation, per_10_s in {"run": 1000, "status": 2000, "cancel": 100}.items():
            paced = Pace(pace[operation])
            sent: list[float] = []

            async def request(paced: Pace = paced, sent: list[float] = sent) -> None:
                await paced.wait()
                sent.append(loop.time())

            await asyncio.gather(*(request() for _ in range(3 * per_10_s)))
            busiest = max(sum(start <= moment < start + 10 for moment in sent) for start in sent[:: per_10_s // 10])
            assert 0.75 * per_10_s < busiest < per_10_s

    skip_time(test)


def test_looks_at_a_job_become_rarer() -> None:
    patience = Patience()
    for waited, in_flight, expected in [(0, 1, 1), (60, 1, 6), (3600, 1, 15), (0, 1000, 10), (3600, 10_000, 100)]:
        looks = [patience.next_look_s(waited, in_flight) for _ in range(20)]
        assert all(0.9 * expected <= look <= 1.1 * expected for look in looks)


def test_the_target_with_the_fewest_jobs_is_chosen_until_all_are_full() -> None:
    async def test(loop: SkippingLoop) -> None:
        fleet, _ = make_fleet(loop)
        names = [(await fleet.acquire(1)).name for _ in range(4)]
        assert sorted(names) == sorted([*fleet.members, *fleet.members])
        waiting = asyncio.create_task(fleet.acquire(1))
        await asyncio.sleep(60)
        assert not waiting.done()
        fleet.release(fleet.members[names[0]])
        assert (await waiting).name == names[0]

    skip_time(test)


def test_a_target_is_rested_after_repeated_failures_and_then_tried_by_one_job() -> None:
    async def test(loop: SkippingLoop) -> None:
        fleet, told = make_fleet(loop, count=1, in_flight=4)
        (member,) = fleet.members.values()
        for _ in range(RESTED_AFTER):
            assert fleet.best(1) is member
            fleet.failed(member, "it broke")
        assert told == ["it broke. It gets no new jobs for a while"]
        assert fleet.best(1) is None
        start = loop.time()
        assert await fleet.acquire(1) is member
        assert 2 <= loop.time() - start <= 4.1
        assert fleet.best(1) is None, "one job goes ahead"
        fleet.release(member)
        fleet.failed(member, "it broke")
        start = loop.time()
        await fleet.acquire(1)
        assert 4 <= loop.time() - start <= 8.1
        fleet.answered(member)
        assert told[1:] == [f"{member.name} answers again"]
        assert fleet.best(1) is member

    skip_time(test)


def test_a_busy_target_is_left_alone_for_as_long_as_it_asks() -> None:
    async def test(loop: SkippingLoop) -> None:
        fleet, told = make_fleet(loop)
        first = await fleet.acquire(1)
        fleet.release(first)
        busy_since = loop.time()
        fleet.busy(first, 50)
        other = fleet.best(1)
        assert other is not None
        assert other is not first
        fleet.busy(other, None)
        start = loop.time()
        assert await fleet.acquire(1) is other
        assert 2 <= loop.time() - start <= 4.1
        fleet.release(other)
        fleet.answered(other)
        fleet.busy(other, None)
        start = loop.time()
        assert await fleet.acquire(1) is other
        assert 4 <= loop.time() - start <= 8.1, "only a job that it takes ends the doubling"
        fleet.busy(other, 100)
        assert await fleet.acquire(1) is first
        assert loop.time() - busy_since == pytest.approx(50, abs=0.1)
        assert told == []

    skip_time(test)


def test_a_job_that_a_target_may_have_waits_for_it_but_not_for_ever() -> None:
    async def test(loop: SkippingLoop) -> None:
        fleet, _ = make_fleet(loop)
        first, second = fleet.members.values()
        for _ in range(FREED_AFTER - 1):
            fleet.failed(first, "it broke")
        pinned = asyncio.create_task(fleet.acquire(1, first.name))
        await asyncio.sleep(1)
        assert not pinned.done()
        fleet.failed(first, "it broke")
        assert await pinned is second

    skip_time(test)


def test_a_request_goes_to_a_target_that_takes_its_size() -> None:
    async def test(loop: SkippingLoop) -> None:
        apis = [TargetApi(targets.endpoint("abc", ENV)), TargetApi(targets.server("http://127.0.0.1:1", ENV))]
        fleet = Fleet(apis, 5, print, Backoff(), loop.time)
        names = [(await fleet.acquire(10_000_001)).name for _ in range(5)]
        assert set(names) == {"server:http://127.0.0.1:1"}
        assert fleet.best(10_000_001) is None
        assert fleet.best(10_000_000) is not None

    skip_time(test)
