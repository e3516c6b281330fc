"""A TCP proxy that cuts event streams off, for what a network does to long connections."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from types import TracebackType

_STREAM = b"GET /flux-face/v1/stream/"


class Cutter:
    """Passes everything on, but for event streams, which end after their first bytes. Runs in a thread of its own.

    Attributes:
        cut: how many streams it has cut off.
    """

    def __init__(self, port: int) -> None:
        self.cut = 0
        self._to = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        started = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._pass, "127.0.0.1", 0), self._loop)
        self._server = started.result(10)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def __enter__(self) -> Cutter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        passing = asyncio.all_tasks() - {asyncio.current_task()}
        for task in passing:
            task.cancel()
        await asyncio.gather(*passing, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._to)
        streams = False

        async def upwards() -> None:
            nonlocal streams
            while data := await reader.read(65_536):
                streams = data.startswith(_STREAM)
                server_writer.write(data)

        forwarding = asyncio.create_task(upwards())
        try:
            while data := await server_reader.read(65_536):
                writer.write(data)
                await writer.drain()
                if streams:
                    self.cut += 1
                    break
        except ConnectionError:
            return
        finally:
            forwarding.cancel()
            for end in (writer, server_writer):
                end.close()
            for end in (writer, server_writer):
                with suppress(ConnectionError):
                    await end.wait_closed()
