"""A small HTTP server on loopback in the store's place, which answers, stalls and cuts bodies as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType

from tests.support.stores.loopback_server import LoopbackServer

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class Request:
    """What the client asked."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass(slots=True)
class FaultyStore:
    """Answers GETs of objects from `script`, in turn, then from `always`; HEADs of buckets from `bucket_status`.

    The listing of all buckets probes the store as a whole: `store_status`. A status of 0 closes the connection.
    """

    script: list[Answer] = field(default_factory=list)
    always: Answer | None = None
    bucket_status: int = 200
    store_status: int = 200
    requests: list[Request] = field(default_factory=list)
    endpoint: str = ""
    _server: LoopbackServer | None = None

    async def __aenter__(self) -> FaultyStore:
        self._server = LoopbackServer(self._talk)
        self.endpoint = await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Close the port and every connection: nothing answers any more."""
        if self._server is not None:
            await self._server.stop()

    @property
    def gets(self) -> list[Request]:
        """The requests for objects."""
        return [one for one in self.requests if one.method == "GET" and one.path != "/"]

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (request := await _read(reader)) is not None:
            self.requests.append(request)
            if not await self._answer(request, writer):
                return

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        if request.method == "HEAD" or request.path == "/":
            status = self.bucket_status if request.method == "HEAD" else self.store_status
            if status == 0:
                return False
            writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n\r\n" % status)
            await writer.drain()
            return True
        answer = self.script.pop(0) if self.script else self.always
        assert answer is not None, f"nothing to answer {request.path} with"
        await answer(writer)
        await writer.drain()
        return False


async def _read(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.split("\r\n")
    method, path, _ = first.split(" ")
    headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
    return Request(method, path, headers)


def whole(body: bytes, *, etag: str = "e1", headers: str = "") -> Answer:
    """200 with all of it."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        head = f'HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\netag: "{etag}"\r\n{headers}\r\n'
        writer.write(head.encode() + body)

    return answer


def cut(body: bytes, sent: int) -> Answer:
    """200 with the full length announced, closed after `sent` bytes."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(f'HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\netag: "e1"\r\n\r\n'.encode() + body[:sent])

    return answer


def stalled(body: bytes, sent: int) -> Answer:
    """200, then silence after `sent` bytes until the client goes away."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(f'HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\netag: "e1"\r\n\r\n'.encode() + body[:sent])
        await writer.drain()
        await asyncio.sleep(60)

    return answer


def dripping(body: bytes, seconds: float) -> Answer:
    """200, a byte at a time: never silent for long, never done."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(f'HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\netag: "e1"\r\n\r\n'.encode())
        for byte in body:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(seconds)

    return answer


def endless() -> Answer:
    """200 without a length, bytes for as long as the client reads."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x" * 65536)
            await writer.drain()

    return answer


def error(status: int, code: str = "", headers: str = "") -> Answer:
    """An S3 error document, or an empty answer without a code."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>".encode() if code else b""
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body)

    return answer


def closed() -> Answer:
    """The connection ends without an answer."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.close()

    return answer
