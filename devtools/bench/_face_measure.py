"""Time without the network's, and peak memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...nodes.face.runtime.session import Session

# Less is within what the allocator keeps for reuse anyway.
_LEAST_MIB = 1.0


@dataclass(frozen=True)
class Spent:
    """Seconds on the wall, and of all of the process' threads."""

    wall: float
    cpu: float

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.wall + other.wall, self.cpu + other.cpu)

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.wall - other.wall, self.cpu - other.cpu)

    def least(self, other: Spent) -> Spent:
        """The smaller of each."""
        return Spent(min(self.wall, other.wall), min(self.cpu, other.cpu))


class Network:
    """Adds up the time spent inside sessions, ours and onnxruntime's own."""

    def __init__(self) -> None:
        self._inside = Spent(0.0, 0.0)

    def timed(self, session: Session) -> Session:
        """The same session, watched."""
        return _Watched(session, self)

    def timed_reference(self, session: Any) -> Any:
        """The same for an ``onnxruntime.InferenceSession``, as far as insightface calls it."""
        return _WatchedReference(session, self)

    def spent(self, call: Callable[[], object]) -> tuple[Spent, Spent]:
        """What a call spends outside the sessions, and inside."""
        self._inside = Spent(0.0, 0.0)
        cpu, wall = time.process_time(), time.perf_counter()
        call()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return Spent(wall, cpu) - self._inside, self._inside

    @contextmanager
    def running(self) -> Iterator[None]:
        """While a session runs. Asking for the process' time takes long on some systems, so that is inside too."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            cpu = time.process_time() - cpu
            self._inside += Spent(time.perf_counter() - wall, cpu)


class _Watched:
    def __init__(self, session: Session, network: Network) -> None:
        self._session, self._network = session, network
        self.path, self.provider, self.note = session.path, session.provider, session.note
        self.device, self.inputs, self.outputs = session.device, session.inputs, session.outputs

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with self._network.running():
            return self._session.run(feeds)


class _WatchedReference:
    def __init__(self, session: Any, network: Network) -> None:
        self._session, self._network = session, network

    def run(self, names: list[str], feeds: dict[str, Any]) -> Any:
        with self._network.running():
            return self._session.run(names, feeds)


def alternated(calls: list[Callable[[], object]], network: Network, repeats: int) -> list[Spent]:
    """The least each call spends outside the sessions, called in turn, after one call that is not counted."""
    best: list[Spent] = []
    for call in calls:
        call()
    for _ in range(repeats):
        spent = [network.spent(call)[0] for call in calls]
        best = [old.least(new) for old, new in zip(best, spent, strict=True)] if best else spent
    return best


def peak_mib(call: Callable[[], object]) -> float:
    """By how many MiB the process grows during a call, sampled all along; at least one."""
    import psutil

    process = psutil.Process()
    start = peak = process.memory_info().rss
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.0005):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        call()
    finally:
        done.set()
        watcher.join()
    return max(float(peak - start) / 2**20, _LEAST_MIB)
