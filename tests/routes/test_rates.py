"""The token bucket, against a plain one that is filled drop by drop."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_face.server_routes.rates import RateLimiter


class Clock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_the_rate() -> None:
    clock = Clock()
    limiter = RateLimiter(per_minute=60, burst=3, clock=clock)
    assert [limiter.take("alice") for _ in range(4)] == [0, 0, 0, pytest.approx(1)]
    clock.now += 0.5
    assert limiter.take("alice") == pytest.approx(0.5)
    clock.now += 0.5
    assert limiter.take("alice") == 0
    assert limiter.take("alice") == pytest.approx(1)


def test_callers_do_not_share() -> None:
    limiter = RateLimiter(per_minute=1, burst=1, clock=Clock())
    assert limiter.take("alice") == 0
    assert limiter.take("bob") == 0
    assert limiter.take("alice") == pytest.approx(60)


def test_waiting_as_long_as_told_is_enough() -> None:
    clock = Clock()
    limiter = RateLimiter(per_minute=7, burst=1, clock=clock)
    for _ in range(1_000):
        assert limiter.take("alice") == 0
        clock.now += limiter.take("alice")


@given(
    st.integers(1, 600),
    st.integers(1, 10),
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 120_000)), max_size=60),
)
def test_it_is_a_token_bucket(per_minute: int, burst: int, asks: list[tuple[str, int]]) -> None:
    """``asks`` are callers and the milliseconds before each one."""
    clock = Clock()
    limiter = RateLimiter(per_minute, burst, clock)
    full = Fraction(burst)
    tokens = {"a": full, "b": full}
    for name, milliseconds in asks:
        clock.now += milliseconds / 1000
        dripped = Fraction(milliseconds * per_minute, 60_000)
        tokens = {one: min(held + dripped, full) for one, held in tokens.items()}
        wait = limiter.take(name)
        assert wait == pytest.approx(float(max(1 - tokens[name], Fraction(0)) * 60 / per_minute), abs=1e-5)
        if wait == 0:
            tokens[name] = max(tokens[name] - 1, Fraction(0))


def test_full_buckets_are_forgotten() -> None:
    clock = Clock()
    limiter = RateLimiter(per_minute=60, burst=5, clock=clock)
    for index in range(1_000):
        limiter.take(f"caller {index}")
        clock.now += 0.5
    assert len(limiter) <= 3


def test_memory_is_bounded() -> None:
    limiter = RateLimiter(per_minute=1, burst=1, clock=Clock())
    for index in range(30_000):
        limiter.take(f"caller {index}")
    assert len(limiter) == 10_000
    assert limiter.take("caller 29999") > 0
    assert limiter.take("caller 0") == 0


@pytest.mark.parametrize(("per_minute", "burst"), [(0, 1), (-1, 1), (1, 0)])
def test_limits_that_let_nobody_in_are_refused(per_minute: float, burst: int) -> None:
    with pytest.raises(ValueError, match="nobody"):
        RateLimiter(per_minute, burst)
