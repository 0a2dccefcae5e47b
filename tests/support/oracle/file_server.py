"""A web server on a loopback port that gives out files from memory: fast enough for those of 33 MB."""

from __future__ import annotations

import asyncio
from typing import Final

from tests.support.stores.loopback_server import LoopbackServer

_PAGE: Final = (b"<!doctype html><title>oracle</title>", "text/html")
_EMPTY: Final = (b"", "text/plain")


class FileServer:
    """Answers GET for what was put in, with 404 for anything else."""

    def __init__(self) -> None:
        self._server = LoopbackServer(self._talk)
        self._files: dict[str, tuple[bytes, str]] = {"/": _PAGE, "/favicon.ico": _EMPTY}
        self._held: dict[str, asyncio.Event] = {}

    async def start(self) -> str:
        """Listen; returns the origin."""
        return await self._server.start()

    async def stop(self) -> None:
        """Close the port."""
        await self._server.stop()

    def put(self, path: str, content: bytes, media_type: str, hold: asyncio.Event | None = None) -> None:
        """Serve `content` at `path`; with `hold` the last tenth follows when that is set."""
        self._files[path] = (content, media_type)
        if hold is not None:
            self._held[path] = hold

    def remove(self, path: str) -> None:
        """Forget what is at `path`."""
        del self._files[path]
        self._held.pop(path, None)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await reader.readuntil(b"\r\n\r\n")
            path = request.split(b" ", 2)[1].decode("ascii")
            found = self._files.get(path)
            content, media_type = found or _EMPTY
            status = "200 OK" if found else "404 Not Found"
            head = f"HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {len(content)}\r\n"
            writer.write(f"{head}Cache-Control: no-store\r\n\r\n".encode("ascii"))
            if (hold := self._held.get(path)) is not None:
                first = len(content) * 9 // 10
                writer.write(content[:first])
                await writer.drain()
                await hold.wait()
                content = content[first:]
            writer.write(content)
            await writer.drain()
