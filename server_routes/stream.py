"""Server-sent events of one job: its state and progress as they change, and its result at the end.

Every event is a snapshot, so a slow client misses steps but never the end, and nothing is buffered for it.
"""

from __future__ import annotations

import asyncio
import json

from aiohttp import web

from .jobs import Job
from .service import JobService

_KEEP_ALIVE_SECONDS = 15.0


async def stream_job(request: web.Request, job: Job, service: JobService) -> web.StreamResponse:
    """Send ``status`` events until the job has ended, then its status object as ``result``."""
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    await response.prepare(request)
    try:
        while not job.state.is_final:
            changed = job.changed
            snapshot = {"id": job.id, "status": job.state.value, "position": service.jobs.position(job), **job.progress}
            await response.write(f"event: status\ndata: {json.dumps(snapshot)}\n\n".encode())
            await _wait(changed, response)
        text = await service.off_loop(json.dumps, job.to_json())
        await response.write(f"event: result\ndata: {text}\n\n".encode())
        await response.write_eof()
    except ConnectionError:
        pass  # the client has gone; the job goes on
    return response


async def _wait(changed: asyncio.Event, response: web.StreamResponse) -> None:
    """Wait for the next change; meanwhile keep proxies from closing the connection."""
    while not changed.is_set():
        try:
            await asyncio.wait_for(changed.wait(), _KEEP_ALIVE_SECONDS)
        except asyncio.TimeoutError:
            await response.write(b": waiting\n\n")
