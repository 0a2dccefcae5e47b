"""A server of the query service in the test's own process, on a free loopback port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn

from app.api.serve import listen
from tests.support.eventually import eventually

_END_SECONDS = 20.0


@asynccontextmanager
async def serving(server: uvicorn.Server) -> AsyncIterator[tuple[str, int]]:
    """Serve until the block is left, as after SIGTERM; yields host and port."""
    with listen("127.0.0.1", 0) as listening:
        task = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            await eventually(lambda: server.started)
            host, port = listening.getsockname()[:2]
            yield host, port
        finally:
            server.should_exit = True
            async with asyncio.timeout(_END_SECONDS):
                await task
