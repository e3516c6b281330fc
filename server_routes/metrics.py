"""Numbers for Prometheus, in its text format (https://prometheus.io/docs/instrumenting/exposition_formats/)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .jobs import FINAL_STATES, Job, JobTable, State

PROMETHEUS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


@dataclass
class Histogram:
    """Counts of seconds at or below each bound."""

    counts: list[int] = field(default_factory=lambda: [0] * len(_SECONDS))
    count: int = 0
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one value."""
        self.count += 1
        self.total += seconds
        for place, bound in enumerate(_SECONDS):
            if seconds <= bound:
                self.counts[place] += 1

    def lines(self, name: str) -> list[str]:
        """In the text format."""
        buckets = [
            f'{name}_bucket{{le="{bound:g}"}} {count}' for bound, count in zip(_SECONDS, self.counts, strict=True)
        ]
        return [
            *buckets,
            f'{name}_bucket{{le="+Inf"}} {self.count}',
            f"{name}_sum {self.total:.6f}",
            f"{name}_count {self.count}",
        ]


@dataclass
class Metrics:
    """What has been counted since the start.

    Attributes:
        waits: time that ended jobs waited.
        executions: time that ended jobs ran.
        pictures: finished pictures by verdict: passed, failed, unjudged.
        retried: jobs that a client sent round again.
        webhooks: tries to deliver, by result.
        requests: HTTP requests by route and status code.
    """

    waits: Histogram = field(default_factory=Histogram)
    executions: Histogram = field(default_factory=Histogram)
    pictures: Counter[str] = field(default_factory=Counter)
    retried: int = 0
    webhooks: Counter[str] = field(default_factory=Counter)
    requests: Counter[tuple[str, int]] = field(default_factory=Counter)

    def observe(self, job: Job) -> None:
        """Count a job that has ended."""
        self.waits.observe(job.delay_ms / 1000)
        if job.execution_ms is not None:
            self.executions.observe(job.execution_ms / 1000)
        if job.state is State.COMPLETED and job.report is not None:
            verdicts = job.report.get("qa")
            if verdicts is None:
                self.pictures["unjudged"] += len((job.pictures or {}).get("images", ()))
            for verdict in verdicts or ():
                self.pictures["passed" if verdict["passed"] else "failed"] += 1


def prometheus_text(metrics: Metrics, table: JobTable, *, worker_alive: bool, ready: bool) -> str:
    """The current numbers."""
    active = table.active()
    running = sum(job.state is State.IN_PROGRESS for job in active)
    ended = {f'state="{state.value}"': table.counts[state] for state in FINAL_STATES}
    present = {'state="IN_QUEUE"': len(active) - running, 'state="IN_PROGRESS"': running}
    requests = {f'route="{route}",code="{code}"': count for (route, code), count in sorted(metrics.requests.items())}
    lines = [
        *_family("jobs_total", "counter", "Jobs that have ended.", ended),
        *_family("jobs", "gauge", "Jobs that wait or run.", present),
        *_family("jobs_retried_total", "counter", "Ended jobs that were sent round again.", {"": metrics.retried}),
        *_head("queue_seconds", "histogram", "Time that ended jobs waited."),
        *metrics.waits.lines("flux_face_queue_seconds"),
        *_head("execution_seconds", "histogram", "Time that ended jobs ran."),
        *metrics.executions.lines("flux_face_execution_seconds"),
        *_family(
            "pictures_total", "counter", "Finished pictures by QA verdict.", _labelled("verdict", metrics.pictures)
        ),
        *_family("webhooks_total", "counter", "Tries to deliver a webhook.", _labelled("result", metrics.webhooks)),
        *_family("requests_total", "counter", "HTTP requests.", requests),
        *_family("waiting_bytes", "gauge", "Photos of jobs that wait or run.", {"": table.waiting_bytes}),
        *_family("result_bytes", "gauge", "Pictures kept for their clients.", {"": table.result_bytes}),
        *_family("worker_alive", "gauge", "1 if ComfyUI's worker thread lives.", {"": int(worker_alive)}),
        *_family("ready", "gauge", "1 if a job sent now would run.", {"": int(ready)}),
    ]
    return "\n".join(lines) + "\n"


def _labelled(label: str, counts: Mapping[str, int]) -> dict[str, int]:
    return {f'{label}="{value}"': count for value, count in sorted(counts.items())}


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP flux_face_{name} {text}", f"# TYPE flux_face_{name} {kind}"]


def _family(name: str, kind: str, text: str, values: Mapping[str, int]) -> Iterable[str]:
    samples = [f"flux_face_{name}{{{labels}}} {value}" if labels else f"flux_face_{name} {value}"
               for labels, value in values.items()]  # fmt: skip
    return [*_head(name, kind, text), *samples]
