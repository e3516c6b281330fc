"""Servers that the API talks to: one that has pictures to fetch and takes webhooks, and an S3-compatible storage."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Received:
    """One request that came."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Peer:
    """Answers GET with ``files`` and POST with the first of ``answers``, else 204.

    Attributes:
        files: path -> picture.
        answers: status codes of the next POSTs.
        received: POSTs that came.
    """

    port: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    answers: list[int] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)

    async def wait_for(self, count: int) -> None:
        """Until so many POSTs have come; the test's timeout bounds it."""
        while len(self.received) < count:  # noqa: ASYNC110  (they come to another thread)
            await asyncio.sleep(0.05)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def peer() -> Iterator[Peer]:
    """A peer on loopback, in a thread."""
    state = Peer()

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = state.files.get(self.path)
            self.send_response(404 if data is None else 200)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = state.answers.pop(0) if state.answers else 204
            state.received.append(Received(self.path, dict(self.headers), body))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    state.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
