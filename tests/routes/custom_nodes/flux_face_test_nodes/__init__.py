"""Nodes that misbehave on request, and a list of all routes, loaded into the tests' ComfyUI as a second pack."""

from __future__ import annotations

import time

import comfy.model_management
import psutil
import torch
from aiohttp import web
from comfy_api.latest import ComfyExtension, io
from server import PromptServer


class TestSleep(io.ComfyNode):
    """Passes images on after a while; can be interrupted."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestSleep",
            inputs=[io.Image.Input("images"), io.Float.Input("seconds", default=60.0)],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: object) -> float:
        return float("nan")

    @classmethod
    def execute(cls, images: torch.Tensor, seconds: float) -> io.NodeOutput:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            comfy.model_management.throw_exception_if_processing_interrupted()
            time.sleep(0.01)
        return io.NodeOutput(images)


class TestRaise(io.ComfyNode):
    """Fails with a message that holds a path."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(node_id="TestRaise", inputs=[io.Image.Input("images")], outputs=[io.Image.Output()])

    @classmethod
    def execute(cls, images: torch.Tensor) -> io.NodeOutput:  # noqa: ARG003  (the input's name)
        raise RuntimeError("secret /home/somebody/models/file.gguf")


class TestExit(io.ComfyNode):
    """Kills ComfyUI's worker thread."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(node_id="TestExit", inputs=[io.Image.Input("images")], outputs=[io.Image.Output()])

    @classmethod
    def execute(cls, images: torch.Tensor) -> io.NodeOutput:  # noqa: ARG003  (the input's name)
        raise SystemExit(1)


class TestKill(io.ComfyNode):
    """Kills ComfyUI's process."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(node_id="TestKill", inputs=[io.Image.Input("images")], outputs=[io.Image.Output()])

    @classmethod
    def execute(cls, images: torch.Tensor) -> io.NodeOutput:  # noqa: ARG003  (the input's name)
        psutil.Process().kill()
        raise AssertionError("it lives on")


async def routes(request: web.Request) -> web.Response:  # noqa: ARG001  (a handler's argument)
    """Method and path of all that the server answers."""
    known = ((route.method, route.resource) for route in PromptServer.instance.app.router.routes())
    return web.json_response([[method, resource.canonical] for method, resource in known if resource is not None])


PromptServer.instance.routes.get("/test-routes")(routes)


class TestNodes(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [TestSleep, TestRaise, TestExit, TestKill]


async def comfy_entrypoint() -> TestNodes:
    return TestNodes()
