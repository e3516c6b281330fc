"""Numbers for Prometheus, in its text format."""

from __future__ import annotations

from .jobs import State
from .service import JobService

PROMETHEUS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def prometheus_text(service: JobService) -> str:
    """The current numbers: jobs by state, seconds spent, bytes kept, whether the worker thread lives."""
    table = service.jobs
    active = table.active()
    running = sum(job.state is State.IN_PROGRESS for job in active)
    lines = ["# HELP flux_face_jobs_total Jobs that have ended.", "# TYPE flux_face_jobs_total counter"]
    lines += [
        f'flux_face_jobs_total{{state="{state.value}"}} {table.counts[state]}' for state in State if state.is_final
    ]
    lines += ["# HELP flux_face_jobs Jobs that wait or run.", "# TYPE flux_face_jobs gauge"]
    lines += [f'flux_face_jobs{{state="IN_QUEUE"}} {len(active) - running}']
    lines += [f'flux_face_jobs{{state="IN_PROGRESS"}} {running}']
    for name, kind, text, value in (
        ("queue_seconds_total", "counter", "Time that ended jobs waited.", table.queue_seconds),
        ("execution_seconds_total", "counter", "Time that ended jobs ran.", table.execution_seconds),
        ("result_bytes", "gauge", "Encoded pictures kept for their clients.", table.result_bytes),
        ("worker_alive", "gauge", "1 if ComfyUI's worker thread lives.", int(service.queue.worker_alive())),
    ):
        lines += [f"# HELP flux_face_{name} {text}", f"# TYPE flux_face_{name} {kind}", f"flux_face_{name} {value}"]
    return "\n".join(lines) + "\n"
