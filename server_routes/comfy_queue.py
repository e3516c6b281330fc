"""ComfyUI's queue, in process. The one module here that touches ComfyUI's private parts:

- ``execution.validate_prompt(prompt_id, prompt, targets)``, a coroutine function;
- ``PromptServer``: ``prompt_queue``, ``number``, ``sockets``;
- ``PromptQueue``: ``put`` of a 6-tuple, ``delete_queue_item``, ``interrupt_if_running``, ``get_history``,
  ``delete_history_item``, ``get_current_queue_volatile``;
- the name of the thread that runs prompts.

``unsupported`` says which of these are missing or different. Events come as a browser gets them: an object with a web
socket's two send methods is registered under a client id of our own, so nothing of ComfyUI is patched.
"""

from __future__ import annotations

import inspect
import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import execution
from server import PromptServer

from ..workflows.profiles import Graph

log = logging.getLogger(__name__)

EventListener = Callable[[str, str, dict[str, Any]], None]
"""Called on the event loop with prompt id, event type and event data."""

_EVENTS = frozenset({"execution_start", "executing", "progress"})
_QUEUE_METHODS = (
    "put",
    "delete_queue_item",
    "interrupt_if_running",
    "get_history",
    "delete_history_item",
    "get_current_queue_volatile",
)


@dataclass(frozen=True)
class Refusal:
    """Why a graph cannot be queued: one finding of ComfyUI.

    Attributes:
        kind: ComfyUI's error type, e.g. ``value_not_in_list``.
        node_id: the node it is about, or None.
        class_type: that node's type, or None.
        input_name: the input it is about, or None.
        value: what was given there, if ComfyUI says so.
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
    missing += [f"PromptServer.{name}" for name in ("number", "sockets", "routes", "loop") if not hasattr(server, name)]
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

    async def validate(self, prompt_id: str, graph: Graph, output_node: str) -> list[Refusal]:
        """ComfyUI's own validation of the output node and all that it needs: its findings, none if it may run."""
        _, error, _, node_errors = await execution.validate_prompt(prompt_id, graph, [output_node])
        refusals = []
        for node_id, found in node_errors.items():
            for finding in found["errors"]:
                extra = finding.get("extra_info", {})
                refusals.append(
                    Refusal(
                        kind=finding["type"],
                        node_id=node_id,
                        class_type=found["class_type"],
                        input_name=extra.get("input_name"),
                        value=extra.get("received_value"),
                    )
                )
        if error is not None and not refusals:
            extra = error.get("extra_info", {})
            refusals.append(Refusal(error["type"], extra.get("node_id"), extra.get("class_type"), None, None))
        return refusals

    def put(self, prompt_id: str, graph: Graph, output_node: str) -> None:
        """Queue a validated graph, to run the output node and all that it needs."""
        number = self._server.number
        self._server.number += 1
        extra_data = {"client_id": self._client_id, "create_time": int(time.time() * 1000)}
        self._queue.put((number, prompt_id, graph, extra_data, [output_node], {}))

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


class _EventTap:
    """Stands in ``PromptServer.sockets`` where a browser's web socket would."""

    def __init__(self, listener: EventListener) -> None:
        self._listener = listener

    async def send_json(self, message: dict[str, Any]) -> None:
        data = message["data"]
        if message["type"] in _EVENTS and isinstance(data.get("prompt_id"), str):
            try:
                self._listener(data["prompt_id"], message["type"], data)
            except Exception:  # it would end ComfyUI's loop that sends messages to everybody
                log.exception("Flux Face: an event of ComfyUI could not be handled")

    async def send_bytes(self, message: bytes) -> None:
        """Previews: nobody asked for them."""
