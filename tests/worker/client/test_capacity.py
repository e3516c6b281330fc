"""The capacity simulation against closed forms of queueing theory, and its command."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest

from flux_face.tests.worker.client.process import run
from flux_face.worker.client.capacity import Outcome, Scaler, Scenario, simulate

JOB_S = 6.0
# Of tens of thousands of jobs and more; the random numbers are always the same.
TOLERANCE = 0.03


def per_hour(utilisation: float) -> float:
    """Images per hour that keep one worker busy for that share of its time."""
    return utilisation * 3600 / JOB_S


def always_on(utilisation: float, workers: int = 1, hours: float = 800) -> Outcome:
    return simulate(
        Scenario(
            seconds_per_image=JOB_S,
            images_per_hour=per_hour(utilisation) * workers,
            workers_min=workers,
            workers_max=workers,
            hours=hours,
        )
    )


@pytest.mark.parametrize("utilisation", [0.3, 0.7, 0.8])
def test_waiting_for_one_always_on_worker_is_that_of_m_d_1(utilisation: float) -> None:
    """Pollaczek and Khinchine: the mean is rho D / (2 (1 - rho)); a share of 1 - rho does not wait."""
    outcome = always_on(utilisation)
    assert outcome.wait_mean_s == pytest.approx(utilisation * JOB_S / (2 * (1 - utilisation)), rel=TOLERANCE)
    assert outcome.utilisation == pytest.approx(utilisation, rel=TOLERANCE)
    assert outcome.images_per_hour == pytest.approx(per_hour(utilisation), rel=TOLERANCE)
    assert utilisation > 0.5 or outcome.wait_p50_s == 0
    assert outcome.after_start_share == 0


def test_the_95th_percentile_is_that_of_m_d_1() -> None:
    """Erlang: P(W <= t) = (1 - rho) sum over k <= t/D of exp(rho (t/D - k)) (-rho (t/D - k))^k / k!."""
    rho = 0.7
    outcome = always_on(rho)
    assert outcome.wait_p95_s is not None
    turns = outcome.wait_p95_s / JOB_S
    terms = [
        math.exp(rho * (turns - k)) * (-rho * (turns - k)) ** k / math.factorial(k)
        for k in range(math.floor(turns) + 1)
    ]
    assert (1 - rho) * sum(terms) == pytest.approx(0.95, abs=0.005)


def test_several_always_on_workers_share_the_load() -> None:
    outcome = always_on(0.7, workers=4, hours=100)
    alone = always_on(0.7, hours=100)
    assert outcome.utilisation == pytest.approx(0.7, rel=TOLERANCE)
    assert outcome.wait_mean_s is not None
    assert alone.wait_mean_s is not None
    assert 0 < outcome.wait_mean_s < alone.wait_mean_s / 4


@pytest.mark.parametrize(
    ("start_s", "scaling"),
    [
        (10.0, {"idle_timeout_s": 0.0, "scaler_value": 0.0}),
        (45.0, {"idle_timeout_s": 0.0, "scaler_value": 0.0}),
        # One worker does for any number of requests.
        (45.0, {"scaler": "request-count", "scaler_value": 1e9, "workers_max": 10}),
    ],
    ids=["10", "45", "45-request-count"],
)
def test_waiting_with_cold_starts_is_that_of_a_queue_with_set_up_times(start_s: float, scaling: dict[str, Any]) -> None:
    """Welch: a server that is switched off when idle adds (2 S + rate S^2) / (2 (1 + rate S)) to the mean of M/D/1."""
    rho = 0.6
    rate = rho / JOB_S
    one = Scenario(
        seconds_per_image=JOB_S, images_per_hour=per_hour(rho), cold_start_s=start_s, workers_max=1, hours=800
    )
    outcome = simulate(dataclasses.replace(one, **scaling))
    set_up = (2 * start_s + rate * start_s**2) / (2 * (1 + rate * start_s))
    assert outcome.wait_mean_s == pytest.approx(rho * JOB_S / (2 * (1 - rho)) + set_up, rel=TOLERANCE)
    # Each start serves what comes during the start and the job that caused it, and what comes meanwhile.
    assert outcome.after_start_share == pytest.approx((1 - rho) / (1 + rate * start_s), rel=TOLERANCE)


def test_a_worker_for_each_job_is_billed_for_that_job() -> None:
    """M/D/infinity: nobody waits, and a bill is start and work."""
    scenario = Scenario(
        seconds_per_image=JOB_S,
        images_per_hour=600,
        cold_start_s=0,
        workers_max=1000,
        scaler="request-count",
        scaler_value=1,
        price_per_s=0.001,
        hours=100,
    )
    outcome = simulate(scenario)
    assert outcome.wait_p95_s == 0
    assert outcome.cost_per_1000_images == pytest.approx(JOB_S, rel=0.001)
    assert outcome.after_start_share == 1
    cold = simulate(dataclasses.replace(scenario, cold_start_s=4.0))
    assert cold.wait_mean_s is not None
    assert cold.wait_mean_s < 4.0  # a worker that has just become free may take the job of one that is starting
    assert cold.cost_per_1000_images == pytest.approx(JOB_S + 4.0, rel=0.05)


def test_a_single_job_waits_for_scaler_and_start_and_pays_for_the_idle_timeout() -> None:
    outcome = simulate(
        Scenario(
            seconds_per_image=JOB_S,
            images_per_hour=0.5,
            cold_start_s=45,
            workers_max=5,
            idle_timeout_s=5,
            scaler_value=4,
            price_per_s=1,
            hours=2000,
        )
    )
    assert outcome.wait_p50_s == pytest.approx(49)
    assert outcome.after_start_share == pytest.approx(1, abs=0.02)
    assert outcome.billed_s / outcome.starts == pytest.approx(45 + JOB_S + 5, rel=0.02)
    assert outcome.cost == outcome.billed_s


def test_fast_starts_are_the_share_that_is_given() -> None:
    slow = Scenario(seconds_per_image=JOB_S, images_per_hour=0.5, workers_max=5, hours=4000)
    shares = [simulate(dataclasses.replace(slow, fast_start_share=share)).wait_mean_s for share in (0, 0.25, 1)]
    assert shares[0] == pytest.approx(4 + 45, rel=0.01)
    assert shares[1] == pytest.approx(4 + 0.25 * 2 + 0.75 * 45, rel=0.05)
    assert shares[2] == pytest.approx(4 + 2, rel=0.01)


@pytest.mark.parametrize("scaler", ["queue-delay", "request-count"])
def test_no_load_costs_nothing_without_always_on_workers(scaler: Scaler) -> None:
    scenario = Scenario(seconds_per_image=6, images_per_hour=0, price_per_s=1, scaler=scaler)
    outcome = simulate(scenario)
    assert outcome.cost == outcome.billed_s == outcome.starts == 0
    assert outcome.cost_per_1000_images is outcome.wait_mean_s is outcome.utilisation is None
    always = simulate(dataclasses.replace(scenario, workers_min=2, price_per_s_active=0.5, hours=3))
    assert always.billed_s == always.billed_active_s == 2 * 3 * 3600
    assert always.cost == 0.5 * 2 * 3 * 3600


def test_more_than_all_workers_can_do_is_told() -> None:
    outcome = simulate(Scenario(seconds_per_image=60, images_per_hour=600, workers_max=5, hours=24))
    assert outcome.images_per_hour == pytest.approx(5 * 60, rel=0.01)
    assert outcome.jobs_waiting == pytest.approx(24 * (600 - 300), rel=0.05)


def test_no_more_workers_than_allowed() -> None:
    outcome = simulate(
        Scenario(seconds_per_image=36, images_per_hour=1000, workers_max=2, scaler="request-count", scaler_value=1)
    )
    assert outcome.starts == 2
    assert outcome.billed_s == pytest.approx(2 * 24 * 3600, rel=0.01)


def test_several_images_per_job() -> None:
    outcome = simulate(
        Scenario(seconds_per_image=2, images_per_hour=900, images_per_job=4, workers_min=1, workers_max=1, hours=2000)
    )
    assert outcome.images_per_hour == pytest.approx(900, rel=TOLERANCE)
    assert outcome.wait_mean_s == pytest.approx(0.5 * 8 / (2 * 0.5), rel=TOLERANCE)


def test_the_same_seed_gives_the_same_outcome() -> None:
    scenario = Scenario(seconds_per_image=6, images_per_hour=400, fast_start_share=0.5)
    assert simulate(scenario) == simulate(scenario)
    assert simulate(scenario) != simulate(dataclasses.replace(scenario, seed=1))


def test_the_command_needs_nothing_but_python() -> None:
    arguments = ["capacity", "--seconds-per-image", "6", "--images-per-hour", "400", "--workers-max", "5"]
    printed, _ = run([*arguments, "--json"])
    expected = simulate(Scenario(seconds_per_image=6, images_per_hour=400, workers_max=5))
    assert json.loads(printed) == dataclasses.asdict(expected)
    printed, _ = run(arguments)
    assert "from assumptions, not measured" in printed


@pytest.mark.parametrize(
    "more",
    [
        ["--workers-min", "9"],
        ["--scaler", "request-count", "--scaler-value", "0.5"],
        ["--flashboot-share", "1.5"],
        ["--hours", "0"],
        ["--images-per-hour", "nan"],
        ["--price-per-second", "inf"],
    ],
)
def test_impossible_scenarios_are_refused(more: list[str]) -> None:
    run(["capacity", "--seconds-per-image", "6", "--images-per-hour", "400", "--workers-max", "5", *more], code=2)
