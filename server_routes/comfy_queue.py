"""ComfyUI's queue, in process. The one module here that touches ComfyUI's private parts:

- ``execution.validate_prompt(prompt_id, prompt, targets)``, a coroutine function;
- ``PromptServer``: ``prompt_queue``, ``number``, ``sockets``, ``sockets_metadata``, ``send_sync``;
- ``PromptQueue``: ``put`` of a 6-tuple, ``delete_queue_item``, ``interrupt_if_running``, ``get_history``,
  ``delete_history_item``, ``get_current_queue_volatile``;
- the name of the thread that runs prompts;
- the binary message of a preview with metadata: type 4, length of the metadata, metadata as JSON, picture.

``unsupported`` says which of these are missing or different. Events come as a browser gets them: an object with a web
socket's two send methods is registered under a client id of our own, so nothing of ComfyUI is patched.
"""

from __future__ import annotations

import inspect
import json
import logging
import struct
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import execution
from server import PromptServer

from ..workflows.profiles import Graph

log = logging.getLogger(__name__)

EventListener = Callable[[str, str, dict[str, Any]], None]
"""Called on the event loop with prompt id, event type and event data; a preview's data are its picture and its type."""

_EVENTS = frozenset({"execution_start", "executing", "progress"})
_QUEUE_METHODS = (
    "put",
    "delete_queue_item",
    "interrupt_if_running",
    "get_history",
    "delete_history_item",
    "get_current_queue_volatile",
)
_SERVER_ATTRIBUTES = ("app", "loop", "number", "routes", "send_sync", "sockets", "sockets_metadata")
# Numbers in ComfyUI's queue count up by one a prompt, so no prompt of one priority gets among those of the next.
_PRIORITY_STEP = 1_000_000_000
_PREVIEW_WITH_METADATA = 4


@dataclass(frozen=True)
class Refusal:
    """Why a graph cannot be queued: one finding of ComfyUI.

    Attributes:
        kind: ComfyUI's error type, e.g. ``value_not_in_list``.
        node_id: the node it is about, or None.
        class_type: that node's type, or None.
        input_name: the input it is about, or None.
        value: what was given there, or None.
    """

    kind: str
    node_id: str | None
    class_type: str | None
    input_name: str | None
    value: object


@dataclass(frozen=True)
class Outcome:
    """How a prompt ended.

    Attributes:
        status: as in ComfyUI's history.
        node_id: the node that failed, or None.
        class_type: that node's type, or None.
        exception_type: qualified name of the exception, or None.
        message: the exception's text, or "".
    """

    status: Literal["success", "error", "interrupted"]
    node_id: str | None = None
    class_type: str | None = None
    exception_type: str | None = None
    message: str = ""


def unsupported(server: PromptServer) -> list[str]:
    """What this ComfyUI lacks of what we need; empty if it is supported."""
    missing = [f"PromptQueue.{name}" for name in _QUEUE_METHODS if not hasattr(server.prompt_queue, name)]
    missing += [f"PromptServer.{name}" for name in _SERVER_ATTRIBUTES if not hasattr(server, name)]
    validate = getattr(execution, "validate_prompt", None)
    if not inspect.iscoroutinefunction(validate) or len(inspect.signature(validate).parameters) != 3:
        missing.append("execution.validate_prompt(prompt_id, prompt, targets)")
    return missing


class ComfyQueue:
    """Submits graphs and tells what becomes of them. Used on the event loop only."""

    def __init__(self, server: PromptServer, listener: EventListener) -> None:
        self._server = server
        self._queue = server.prompt_queue
        self._client_id = f"flux-face-{uuid.uuid4()}"
        self._worker: threading.Thread | None = None
        server.sockets[self._client_id] = _EventTap(listener)
        # Else ComfyUI sends previews that do not say whose they are.
        server.sockets_metadata[self._client_id] = {"feature_flags": {"supports_preview_metadata": True}}

    async def validate(self, prompt_id: str, graph: Graph, output_nodes: Sequence[str]) -> list[Refusal]:
        """ComfyUI's own validation of the output nodes and all that they need: its findings, none if it may run."""
        _, error, _, node_errors = await execution.validate_prompt(prompt_id, graph, list(output_nodes))
        refusals = []
        for node_id, found in node_errors.items():
            for finding in found["errors"]:
                extra = finding.get("extra_info", {})
                name = extra.get("input_name")
                refusals.append(
                    Refusal(
                        kind=finding["type"],
                        node_id=node_id,
                        class_type=found["class_type"],
                        input_name=name,
                        # A node's own validation does not say it.
                        value=extra.get("received_value", graph[node_id]["inputs"].get(name)),
                    )
                )
        if error is not None and not refusals:
            extra = error.get("extra_info", {})
            refusals.append(Refusal(error["type"], extra.get("node_id"), extra.get("class_type"), None, None))
        return refusals

    def put(self, prompt_id: str, graph: Graph, output_nodes: Sequence[str], *, priority: int, preview: bool) -> int:
        """Queue a validated graph, to run the output nodes and all that they need.

        Args:
            prompt_id: names it from now on.
            graph: the validated graph.
            output_nodes: where it ends.
            priority: 0 is that of the web page's prompts; higher runs first.
            preview: whether samplers show what they are doing.

        Returns:
            Its place: prompts with smaller numbers run first.
        """
        number: int = self._server.number - priority * _PRIORITY_STEP
        self._server.number += 1
        extra_data: dict[str, Any] = {"client_id": self._client_id, "create_time": int(time.time() * 1000)}
        extra_data["preview_method"] = "latent2rgb" if preview else "none"
        self._queue.put((number, prompt_id, graph, extra_data, list(output_nodes), {}))
        return number

    def cancel(self, prompt_id: str) -> bool:
        """Take a waiting prompt out of the queue: True. Interrupt a running one, which ends a little later: False.

        ComfyUI forgets an interruption that comes between taking a prompt and starting it, so repeat until it ended.
        """
        if self._queue.delete_queue_item(lambda item: item[1] == prompt_id):
            return True
        self._queue.interrupt_if_running(prompt_id)
        return False

    def take_outcome(self, prompt_id: str) -> Outcome | None:
        """How the prompt ended, or None if it has not; removes it from ComfyUI's history."""
        entry = self._queue.get_history(prompt_id=prompt_id).get(prompt_id)
        if entry is None:
            return None
        self._queue.delete_history_item(prompt_id)
        for event, data in entry["status"]["messages"]:
            if event == "execution_interrupted":
                return Outcome("interrupted", data["node_id"], data["node_type"])
            if event == "execution_error":
                return Outcome(
                    "error",
                    data["node_id"],
                    data["node_type"],
                    data["exception_type"],
                    data["exception_message"].strip(),
                )
        return Outcome("success")

    def pending(self) -> set[str]:
        """Ids of all prompts that wait or run, ours and others'."""
        running, waiting = self._queue.get_current_queue_volatile()
        return {item[1] for item in (*running, *waiting)}

    def worker_alive(self) -> bool:
        """Whether the thread that runs prompts lives; ComfyUI itself does not notice when it dies."""
        if self._worker is None:
            named = (thread for thread in threading.enumerate() if "prompt_worker" in thread.name)
            self._worker = next(named, None)
        return self._worker is not None and self._worker.is_alive()

    def is_connected(self, client_id: str) -> bool:
        """Whether a web page's web socket is open under this id."""
        return client_id in self._server.sockets

    def tell(self, client_id: str, event: str, data: dict[str, Any]) -> None:
        """Send an event to one web page."""
        self._server.send_sync(event, data, client_id)


class _EventTap:
    """Stands in ``PromptServer.sockets`` where a browser's web socket would."""

    def __init__(self, listener: EventListener) -> None:
        self._listener = listener

    async def send_json(self, message: dict[str, Any]) -> None:
        data = message["data"]
        if message["type"] in _EVENTS and isinstance(data.get("prompt_id"), str):
            self._tell(data["prompt_id"], message["type"], data)

    async def send_bytes(self, message: bytes) -> None:
        """Previews; other binary messages do not say whose they are."""
        kind, length = struct.unpack_from(">II", message)
        if kind != _PREVIEW_WITH_METADATA:
            return
        metadata = json.loads(bytes(message[8 : 8 + length]))
        data = {"image": bytes(message[8 + length :]), "image_type": metadata["image_type"]}
        self._tell(metadata["prompt_id"], "preview", data)

    def _tell(self, prompt_id: str, kind: str, data: dict[str, Any]) -> None:
        try:
            self._listener(prompt_id, kind, data)
        except Exception:  # it would end ComfyUI's loop that sends messages to everybody
            log.exception("Flux Face: an event of ComfyUI could not be handled")
