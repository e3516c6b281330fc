"""ComfyUI's own executor in the test process, in any cache mode: what takes 30 s to start as a server."""

from __future__ import annotations

import asyncio
import copy
import sys
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import execution
import nodes as comfy_nodes
import torch
from server import PromptServer

from flux_face.nodes.retry.strip import UI_KEY
from flux_face.tests.comfy_server import ComfyError, Graph

PROBE = Path(__file__).parent / "custom_nodes" / "retry_probe.py"

CACHE_MODES = {
    "classic": (execution.CacheType.CLASSIC, {}),
    "ram": (execution.CacheType.RAM_PRESSURE, {}),
    "lru": (execution.CacheType.LRU, {"lru": 50}),
    "none": (execution.CacheType.NONE, {}),
}


class RecordingServer(PromptServer):
    """ComfyUI's server object, never started; it keeps what it would send to the browser."""

    def __init__(self) -> None:
        super().__init__(asyncio.new_event_loop())
        self.client_id = "test"
        self.last_node_id: str | None = None
        self.shown: list[tuple[str, dict[str, Any]]] = []

    def send_sync(self, event: Any, data: Any, sid: str | None = None) -> None:
        """Keep what is shown of attempts, as it is at this moment."""
        if event == "executed" and UI_KEY in (data["output"] or {}):
            self.shown.append((data["display_node"], copy.deepcopy(data["output"][UI_KEY][0])))


@dataclass(frozen=True)
class Outcome:
    """One run: what the sink took, how often each kind of work was done, what was shown of the attempts and on which
    node, and the outputs that ComfyUI's history keeps."""

    images: torch.Tensor
    generated: torch.Tensor | None
    scores: list[float]
    report: dict[str, Any]
    swap: dict[str, Any] | None
    work: Counter[str]
    shown: list[tuple[str, dict[str, Any]]]
    history: dict[str, Any]


@dataclass
class Runner:
    """An executor with its caches, kept over several runs."""

    server: RecordingServer
    executor: execution.PromptExecutor
    probe: ModuleType

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.loop.close()

    @classmethod
    def start(cls, cache_mode: str) -> Runner:
        """Load the nodes (once per process) and make an executor with empty caches."""
        _load_nodes()
        server = RecordingServer()
        cache_type, cache_args = CACHE_MODES[cache_mode]
        # Headroom for the RAM cache that no machine is short of, so that nothing is evicted by chance.
        executor = execution.PromptExecutor(server, cache_type, {"ram": 0.0, "ram_inactive": 0.0, **cache_args})
        return cls(server, executor, sys.modules[str(PROBE.with_suffix(""))])

    def run(self, graph: Graph, sink: str = "sink") -> Outcome:
        """Run a graph up to its sink.

        Raises:
            ComfyError: the execution error's message.
        """
        self.probe.EVENTS.clear()
        self.server.shown.clear()
        self.executor.execute(graph, uuid.uuid4().hex, {"client_id": "test"}, [sink])
        for event, data in self.executor.status_messages:
            if event == "execution_error":
                raise ComfyError(data["exception_message"], data)
        result = self.executor.history_result["outputs"][sink]["result"][0]
        work: Counter[str] = Counter()
        for kind, count in self.probe.EVENTS:
            work[kind] += count
        generated = result["generated"]
        return Outcome(
            torch.tensor(result["images"]),
            None if generated is None else torch.tensor(generated),
            result["scores"],
            result["report"],
            result["swap"],
            work,
            list(self.server.shown),
            self.executor.history_result["outputs"],
        )


def _load_nodes() -> None:
    if "ProbeModel" in comfy_nodes.NODE_CLASS_MAPPINGS:
        return
    from flux_face.nodes.retry.nodes import NODES

    extras = Path(comfy_nodes.__file__).parent / "comfy_extras"
    for name in ("nodes_custom_sampler.py", "nodes_primitive.py"):
        assert asyncio.run(comfy_nodes.load_custom_node(str(extras / name), module_parent="comfy_extras"))
    assert asyncio.run(comfy_nodes.load_custom_node(str(PROBE)))
    for node in NODES:
        comfy_nodes.NODE_CLASS_MAPPINGS[node.GET_SCHEMA().node_id] = node
