"""A store on loopback that takes every PUT for a replacement, as servers do that know no conditional writes."""

from __future__ import annotations

import asyncio
from types import TracebackType

from tests.support.stores.loopback_server import LoopbackServer


class IgnoringStore:
    """Answers 200 to every PUT and counts them; use as `async with`."""

    def __init__(self) -> None:
        self.puts = 0
        self.endpoint = ""
        self._server = LoopbackServer(self._talk)

    async def __aenter__(self) -> IgnoringStore:
        self.endpoint = await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.stop()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = next(
                (line.partition(":")[2] for line in head.splitlines() if line.startswith("content-length")), "0"
            )
            await reader.readexactly(int(length))
            if head.startswith("put"):
                assert "if-none-match: *" in head
                self.puts += 1
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            await writer.drain()
