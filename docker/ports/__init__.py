"""A second port of ComfyUI's server, for the image only: a custom node without nodes.

- ``POST /api/runpod`` is the original system's face-swap API, which had a process and port 3001 of its own. The pack
  answers it on ComfyUI's port; here the same handler answers on the old one. A forwarder would be one more process to
  watch, would copy each photo once more, and would make every caller look like this machine, whom the routes trust.
- ``GET /ping`` is what RunPod's load balancer asks (PORT_HEALTH): 200 where a job sent now would run, else 204.

The port is FLUX_FACE_OLD_PORT, 3001 if unset, none if 0.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator

from aiohttp import web
from comfy.cli_args import args
from comfy_api.latest import ComfyExtension, io
from server import PromptServer

log = logging.getLogger(__name__)

FACESWAP = ("POST", "/api/runpod")
READY = ("GET", "/flux-face/v1/ready")


class Ports(ComfyExtension):
    """Opens the port once ComfyUI's routes are there."""

    async def on_load(self) -> None:
        if port():
            PromptServer.instance.app.cleanup_ctx.append(serve)

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return []


async def comfy_entrypoint() -> Ports:
    """Called once by ComfyUI's custom-node loader."""
    return Ports()


def port() -> int:
    """The port's number."""
    return int(os.environ.get("FLUX_FACE_OLD_PORT") or 3001)


async def serve(comfyui: web.Application) -> AsyncIterator[None]:
    """Answers the two paths, on the addresses that ComfyUI listens on, as long as it runs."""
    handlers = {
        (route.method, route.resource.canonical): route.handler for route in comfyui.router.routes() if route.resource
    }
    if FACESWAP not in handlers or READY not in handlers:
        log.error("Flux Face: port %d stays closed, the pack's HTTP API is off", port())
        yield
        return

    async def ping(request: web.Request) -> web.StreamResponse:
        answer: web.StreamResponse = await handlers[READY](request)
        return answer if answer.status == 200 else web.Response(status=204)

    app = web.Application()
    app.router.add_post(FACESWAP[1], handlers[FACESWAP])
    app.router.add_get("/ping", ping)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    for address in args.listen.split(","):
        await web.TCPSite(runner, address, port()).start()
    log.info("Flux Face: the original's face-swap API on port %d", port())
    yield
    await runner.cleanup()
