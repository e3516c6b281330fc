"""What a RunPod endpoint would serve and cost: a discrete-event simulation. Its numbers follow from these assumptions.

Arrivals and work
    Jobs arrive as a Poisson process (independent of each other, at a constant mean rate). Each job draws the same
    number of images and takes the same time per image. One queue, first come first served. A worker runs one job at a
    time and takes the next with no time between. No job fails, is cancelled or expires.
Workers
    ``workers_min`` are always on and never cold. Further ones, up to ``workers_max`` in all, are started by the scaler
    and begin with a start: ``fast_start_s`` with probability ``fast_start_share`` (FlashBoot; every start draws anew),
    else ``cold_start_s``. A started worker is always to be had: no throttling, no want of GPUs, no image to be pulled.
    Of several idle workers an always-on one is taken first, then the one that was last at work.
Queue-delay scaler
    RunPod documents that workers are added if requests spend more than X seconds in the queue, not how many. Here: a
    job that has waited for X seconds adds one worker, unless as many workers are starting as jobs have waited that
    long; the same is looked at again whenever a worker becomes ready. A worker that has been idle for the idle timeout
    stops.
Request-count scaler
    RunPod documents ceil((requests in the queue + requests in progress) / X) workers in all, and that the idle timeout
    has an effect with queue-delay scaling only. Here: the number is met at every arrival at once, and an idle worker
    beyond it stops at once.
Bill
    A worker is billed from the beginning of its start until it stops, idle timeout included, each life rounded up to
    the second. Always-on workers are billed for the whole time, at a price of their own if there is one. Storage and
    transfer are not counted.
End
    The simulation is cut at its horizon: waiting times are of jobs that have started by then, images of jobs that have
    ended by then; what waits then is told, for a queue that grows has no steady state.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

Scaler = Literal["queue-delay", "request-count"]


@dataclass(frozen=True)
class Scenario:
    """An endpoint and its load. Times in seconds, prices in any currency.

    Attributes:
        seconds_per_image: of execution, on a warm worker.
        images_per_hour: that are asked for.
        images_per_job: in one request.
        cold_start_s: from the decision to start a worker to its first job.
        fast_start_share: share of the starts that FlashBoot makes fast, 0..1.
        fast_start_s: time of those.
        workers_min: always on.
        workers_max: all workers together.
        idle_timeout_s: see above.
        scaler: see above.
        scaler_value: seconds in the queue, or requests per worker.
        price_per_s: of a worker.
        price_per_s_active: of an always-on worker; None for the same.
        hours: simulated.
        seed: of the random numbers; the same seed gives the same arrivals.
    """

    seconds_per_image: float
    images_per_hour: float
    images_per_job: int = 1
    cold_start_s: float = 45.0
    fast_start_share: float = 0.0
    fast_start_s: float = 2.0
    workers_min: int = 0
    workers_max: int = 3
    idle_timeout_s: float = 5.0
    scaler: Scaler = "queue-delay"
    scaler_value: float = 4.0
    price_per_s: float = 0.0
    price_per_s_active: float | None = None
    hours: float = 24.0
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        images_per_hour: served.
        wait_mean_s: of jobs, from arrival to the beginning of their execution; None without jobs.
        wait_p50_s: median.
        wait_p95_s: 95th percentile.
        after_start_share: share of the jobs that were the first of a worker after its start; None without jobs.
        starts: of workers.
        utilisation: share of the billed time that was execution; None where nothing was billed.
        billed_s: worker seconds, always-on ones included.
        billed_active_s: of these, always-on.
        cost: of all that.
        cost_per_1000_images: None where no image was served.
        jobs_waiting: at the end.
    """

    images_per_hour: float
    wait_mean_s: float | None
    wait_p50_s: float | None
    wait_p95_s: float | None
    after_start_share: float | None
    starts: int
    utilisation: float | None
    billed_s: float
    billed_active_s: float
    cost: float
    cost_per_1000_images: float | None
    jobs_waiting: int


def simulate(scenario: Scenario) -> Outcome:
    """Run a scenario to its horizon."""
    return _Endpoint(scenario).run()


class _Event(Enum):
    ARRIVAL = "a job arrives"
    OVERDUE = "a job has waited for the scaler's threshold"
    READY = "a worker has started"
    DONE = "a worker has finished a job"
    IDLE_OUT = "a worker may have been idle for its timeout"


@dataclass(eq=False)
class _Worker:
    """A worker's life.

    Attributes:
        always_on: not started by the scaler.
        born: when its bill began.
        jobs: that it has begun.
        epoch: counts its idle times, so that an old timeout is not taken for a new one.
    """

    always_on: bool
    born: float
    jobs: int = 0
    epoch: int = 0


@dataclass(eq=False)
class _Job:
    arrived: float
    waiting: bool = True
    overdue: bool = False


@dataclass(order=True)
class _Entry:
    at: float
    order: int
    event: _Event = field(compare=False)
    subject: _Worker | _Job | None = field(compare=False, default=None)
    epoch: int = field(compare=False, default=0)


class _Endpoint:
    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._random = random.Random(scenario.seed)
        # Their own source, so that scenarios of one seed have the same arrivals.
        self._start_random = random.Random(scenario.seed + 1)
        self._horizon = scenario.hours * 3600
        self._job_s = scenario.seconds_per_image * scenario.images_per_job
        self._jobs_per_s = scenario.images_per_hour / scenario.images_per_job / 3600
        self._now = 0.0
        self._entries: list[_Entry] = []
        self._order = 0
        self._queue: deque[_Job] = deque()
        self._overdue = 0
        self._idle: list[_Worker] = [_Worker(always_on=True, born=0.0) for _ in range(scenario.workers_min)]
        self._flex: set[_Worker] = set()
        self._starting = 0
        self._busy = 0
        self._waits: list[float] = []
        self._done = self._after_start = self._starts = 0
        self._flex_s = self._busy_s = 0.0

    def run(self) -> Outcome:
        self._plan_arrival()
        while self._entries and self._entries[0].at <= self._horizon:
            entry = heapq.heappop(self._entries)
            self._now = entry.at
            self._handle(entry)
        self._now = self._horizon
        for worker in tuple(self._flex):
            self._stop(worker)
        return self._outcome()

    def _handle(self, entry: _Entry) -> None:
        subject = entry.subject
        if entry.event is _Event.ARRIVAL:
            self._arrive()
        elif isinstance(subject, _Job):
            if subject.waiting:
                subject.overdue = True
                self._overdue += 1
                self._scale_by_delay()
        elif subject is not None:
            if entry.event is _Event.READY:
                self._starting -= 1
                self._free(subject)
            elif entry.event is _Event.DONE:
                self._busy -= 1
                self._busy_s += self._job_s
                self._done += 1
                self._free(subject)
            elif subject.epoch == entry.epoch and subject in self._idle:
                self._idle.remove(subject)
                self._stop(subject)

    def _arrive(self) -> None:
        self._plan_arrival()
        job = _Job(self._now)
        if self._idle:
            self._begin(self._take_idle(), job)
        else:
            self._queue.append(job)
            if self._scenario.scaler == "queue-delay":
                self._plan(self._scenario.scaler_value, _Event.OVERDUE, job)
        self._scale_by_count()

    def _free(self, worker: _Worker) -> None:
        """A worker has nothing to do."""
        if self._queue:
            job = self._queue.popleft()
            self._overdue -= job.overdue
            self._begin(worker, job)
            self._scale_by_delay()
            return
        self._idle.append(worker)
        worker.epoch += 1
        if worker.always_on:
            return
        if self._scenario.scaler == "queue-delay":
            self._plan(self._scenario.idle_timeout_s, _Event.IDLE_OUT, worker, worker.epoch)
        elif self._workers() > self._wanted():
            self._idle.remove(worker)
            self._stop(worker)

    def _begin(self, worker: _Worker, job: _Job) -> None:
        job.waiting = False
        self._waits.append(self._now - job.arrived)
        self._after_start += not worker.always_on and worker.jobs == 0
        worker.jobs += 1
        self._busy += 1
        self._plan(self._job_s, _Event.DONE, worker)

    def _take_idle(self) -> _Worker:
        chosen = next((worker for worker in self._idle if worker.always_on), self._idle[-1])
        self._idle.remove(chosen)
        return chosen

    def _scale_by_delay(self) -> None:
        while self._overdue > self._starting and self._workers() < self._scenario.workers_max:
            self._start()

    def _scale_by_count(self) -> None:
        if self._scenario.scaler == "request-count":
            while self._workers() < min(self._wanted(), self._scenario.workers_max):
                self._start()

    def _wanted(self) -> int:
        return math.ceil((len(self._queue) + self._busy) / self._scenario.scaler_value)

    def _workers(self) -> int:
        return self._scenario.workers_min + len(self._flex)

    def _start(self) -> None:
        worker = _Worker(always_on=False, born=self._now)
        self._flex.add(worker)
        self._starts += 1
        self._starting += 1
        fast = self._start_random.random() < self._scenario.fast_start_share
        self._plan(self._scenario.fast_start_s if fast else self._scenario.cold_start_s, _Event.READY, worker)

    def _stop(self, worker: _Worker) -> None:
        self._flex.remove(worker)
        self._flex_s += math.ceil(round(self._now - worker.born, 6))

    def _plan_arrival(self) -> None:
        if self._jobs_per_s > 0:
            self._plan(self._random.expovariate(self._jobs_per_s), _Event.ARRIVAL)

    def _plan(self, delay_s: float, event: _Event, subject: _Worker | _Job | None = None, epoch: int = 0) -> None:
        self._order += 1
        heapq.heappush(self._entries, _Entry(self._now + delay_s, self._order, event, subject, epoch))

    def _outcome(self) -> Outcome:
        scenario = self._scenario
        waits = sorted(self._waits)
        images = self._done * scenario.images_per_job
        active_s = scenario.workers_min * self._horizon
        active_price = scenario.price_per_s if scenario.price_per_s_active is None else scenario.price_per_s_active
        cost = self._flex_s * scenario.price_per_s + active_s * active_price
        billed_s = self._flex_s + active_s
        return Outcome(
            images_per_hour=images / scenario.hours,
            wait_mean_s=math.fsum(waits) / len(waits) if waits else None,
            wait_p50_s=_percentile(waits, 0.5),
            wait_p95_s=_percentile(waits, 0.95),
            after_start_share=self._after_start / len(waits) if waits else None,
            starts=self._starts,
            utilisation=self._busy_s / billed_s if billed_s else None,
            billed_s=billed_s,
            billed_active_s=active_s,
            cost=cost,
            cost_per_1000_images=cost / images * 1000 if images else None,
            jobs_waiting=len(self._queue),
        )


def _percentile(ordered: list[float], share: float) -> float | None:
    """The smallest value that at least that share does not exceed."""
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else None


def as_text(scenario: Scenario, outcome: Outcome) -> str:
    """The outcome for people, with what it rests on."""

    def seconds(value: float | None) -> str:
        return "-" if value is None else f"{value:.1f} s"

    def share(value: float | None) -> str:
        return "-" if value is None else f"{value:.1%}"

    cost = outcome.cost_per_1000_images
    rows = [
        ("images served per hour", f"{outcome.images_per_hour:.1f} of {scenario.images_per_hour:g}"),
        ("waiting time, mean", seconds(outcome.wait_mean_s)),
        ("waiting time, half of the jobs below", seconds(outcome.wait_p50_s)),
        ("waiting time, 95 % of the jobs below", seconds(outcome.wait_p95_s)),
        ("jobs that were a worker's first after its start", share(outcome.after_start_share)),
        ("worker starts", str(outcome.starts)),
        ("worker seconds billed per hour", f"{outcome.billed_s / scenario.hours:.0f}"),
        ("share of these that was execution", share(outcome.utilisation)),
        ("cost per hour", f"{outcome.cost / scenario.hours:.4f}"),
        ("cost per 1000 images", "-" if cost is None else f"{cost:.4f}"),
        ("jobs waiting at the end", str(outcome.jobs_waiting)),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {value}" for name, value in rows]
    lines.append(f"Simulated over {scenario.hours:g} h (seed {scenario.seed}) from assumptions, not measured.")
    return "\n".join(lines)
