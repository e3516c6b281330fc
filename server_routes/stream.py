"""Server-sent events of one job: its state and progress as they change, previews, and its result at the end.

Every event is a snapshot, so a slow client misses steps but never the end, and nothing is buffered for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from aiohttp import web

from .clock import now
from .jobs import Job, State
from .routing import stream_headers
from .service import JobService

_KEEP_ALIVE_SECONDS = 15.0
# How often a waiting job looks whether the jobs before it have become fewer.
_POSITION_SECONDS = 1.0


async def stream_job(request: web.Request, job: Job, service: JobService) -> web.StreamResponse:
    """Send ``status`` and ``preview`` events until the job has ended, then its status object as ``result``."""
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
            **stream_headers(request),
        }
    )
    await response.prepare(request)
    told: dict[str, Any] = {}
    shown: str | None = None
    silent_since = now()
    try:
        while not job.state.is_final:
            changed = job.changed
            snapshot = {"id": job.id, "status": job.state.value, "position": service.jobs.position(job), **job.progress}
            if snapshot != told:
                told, silent_since = snapshot, now()
                await _send(response, "status", json.dumps(snapshot))
            if job.preview is not None and job.preview is not shown:
                shown, silent_since = job.preview, now()
                await _send(response, "preview", json.dumps({"id": job.id, "image": shown}))
            if now() - silent_since > _KEEP_ALIVE_SECONDS:
                silent_since = now()
                await response.write(b": waiting\n\n")  # keeps proxies from closing the connection
            waits = job.state is State.IN_QUEUE
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(changed.wait(), _POSITION_SECONDS if waits else _KEEP_ALIVE_SECONDS)
        await _send(response, "result", await service.off_loop(_status_text, job))
        await response.write_eof()
    except ConnectionError:
        pass  # the client has gone; the job goes on
    return response


def _status_text(job: Job) -> str:
    status: dict[str, Any] = job.to_json()
    return json.dumps(status)


async def _send(response: web.StreamResponse, event: str, data: str) -> None:
    await response.write(f"event: {event}\ndata: {data}\n\n".encode())
