"""Probes of started servers. A probe is one short attempt and does not raise if the server does not answer."""

from __future__ import annotations

import asyncio
from typing import Final

from app.stack.ports import HOST

_TRY_SECONDS: Final = 3.0


async def accepts(port: int) -> bool:
    """Return True if something listens on `port`."""
    return await _exchange(port, b"", 0) is not None


async def redis_answers(port: int) -> bool:
    """Return True if Redis has loaded its data and serves commands."""
    return await _exchange(port, b"PING\r\n", 5) == b"+PONG"


async def http_answers(port: int, path: str = "/") -> bool:
    """Return True if an HTTP server answers. A refusal (403) counts as an answer, an error (5xx) does not."""
    request = f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n".encode()
    answer = await _exchange(port, request, 12)
    return answer is not None and answer.startswith(b"HTTP/") and answer[9:10] in b"234"


async def _exchange(port: int, request: bytes, answer_bytes: int) -> bytes | None:
    try:
        async with asyncio.timeout(_TRY_SECONDS):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(request)
                await writer.drain()
                return await reader.readexactly(answer_bytes)
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return None
