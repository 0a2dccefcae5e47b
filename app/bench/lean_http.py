"""An HTTP client that costs a measurement next to nothing: one connection kept open, requests written as bytes.

Knows what our own server sends, no more: answers with a Content-Length.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from app.errors import StartupRefused

# What a whole answer may take, an overloaded server's too.
_ANSWER_SECONDS: Final = 60.0
_LENGTH: Final = b"\r\ncontent-length:"


class LeanConnection:
    """One connection of one client; one request at a time. Use as `async with`."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        lines = [f"Host: {parts.netloc}", *(f"{name}: {value}" for name, value in headers.items())]
        self._head = "".join(f"{line}\r\n" for line in lines)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        """Connect."""
        try:
            self._streams = await asyncio.open_connection(self._host, self._port)
        except OSError as error:
            raise StartupRefused(f"nothing listens on {self._host}:{self._port}: {error}") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Return status and body of the answer. Raises StartupRefused when the server goes or says nothing."""
        assert self._streams is not None
        reader, writer = self._streams
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                writer.write(f"{method} {path} HTTP/1.1\r\n{self._head}{length}\r\n".encode())
                if body:
                    writer.write(body)
                    await writer.drain()
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                at = head.index(_LENGTH) + len(_LENGTH)
                size = int(head[at : head.index(b"\r\n", at)])
                return int(head[9:12]), await reader.readexactly(size) if size else b""
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as error:
            raise StartupRefused(f"the server on port {self._port} gave no answer: {error!r}") from error
