"""HTTP as no decent client would speak it: bytes to a socket, and whatever comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json", self
        told: dict[str, Any] = json.loads(self.body)
        assert told["status"] == self.status
        return told

    @property
    def code(self) -> str:
        return str(self.problem["code"])


class RawClient:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, *pieces: bytes) -> None:
        """Send without waiting for anything; to a connection that is gone, nothing."""
        if not self._writer.is_closing():
            self._writer.write(b"".join(pieces))

    async def drain(self) -> None:
        """Return when the server has taken most of what was sent. Raises ConnectionError where it is gone."""
        await self._writer.drain()

    async def answer(self, within_seconds: float = 10) -> RawAnswer:
        """Return the next answer."""
        async with asyncio.timeout(within_seconds):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            if "content-length" in headers:
                body = await self._reader.readexactly(int(headers["content-length"]))
            else:
                body = await self._chunks() if headers.get("transfer-encoding") == "chunked" else b""
        return RawAnswer(int(head[0].split()[1]), headers, body)

    async def _chunks(self) -> bytes:
        found = []
        while size := int(await self._reader.readline(), 16):
            found.append(await self._reader.readexactly(size))
            await self._reader.readline()
        await self._reader.readline()
        return b"".join(found)

    async def ended(self, within_seconds: float = 10) -> bytes:
        """Return what still comes until the server ends the connection. Raises TimeoutError where it does not."""
        rest = b""
        async with asyncio.timeout(within_seconds):
            with suppress(ConnectionError):
                while piece := await self._reader.read(65536):
                    rest += piece
        return rest


@asynccontextmanager
async def raw_client(host: str, port: int) -> AsyncIterator[RawClient]:
    """Connect; the connection is cut at the end."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.transport.abort()
