"""Server-sent events of one job: its state and progress as they change, previews, and its result at the end.

Every event is a snapshot, so a slow client misses steps but never the end, and nothing is buffered for it.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

from .jobs import Job
from .routing import stream_headers
from .service import JobService

_KEEP_ALIVE_SECONDS = 15.0


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
    shown: str | None = None
    try:
        while not job.state.is_final:
            changed = job.changed
            snapshot = {"id": job.id, "status": job.state.value, "position": service.jobs.position(job), **job.progress}
            await _send(response, "status", json.dumps(snapshot))
            if job.preview is not None and job.preview is not shown:
                shown = job.preview
                await _send(response, "preview", json.dumps({"id": job.id, "image": shown}))
            await _wait(changed, response)
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


async def _wait(changed: asyncio.Event, response: web.StreamResponse) -> None:
    """Wait for the next change; meanwhile keep proxies from closing the connection."""
    while not changed.is_set():
        try:
            await asyncio.wait_for(changed.wait(), _KEEP_ALIVE_SECONDS)
        except asyncio.TimeoutError:
            await response.write(b": waiting\n\n")
