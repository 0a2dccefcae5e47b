"""The limit as a client sees it who sends all of his body before he reads: on a real server, over a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn

from app.adapters.clock import SystemClock
from app.api.application import build_application
from app.api.serve import listen
from tests.support.api import memory_parts

MIB = 1024 * 1024


@asynccontextmanager
async def served() -> AsyncIterator[httpx.AsyncClient]:
    with listen("127.0.0.1", 0) as listening:
        application = build_application(memory_parts(clock=SystemClock()))
        config = uvicorn.Config(application, http="httptools", log_config=None, access_log=False)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            address = f"http://127.0.0.1:{listening.getsockname()[1]}"
            async with httpx.AsyncClient(base_url=address, timeout=30) as client:
                yield client
        finally:
            server.should_exit = True
            await task


async def test_the_refusal_arrives_while_the_body_is_still_sent() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(24):
            yield bytes(MIB)

    async with served() as client:
        for content in (bytes(24 * MIB), chunks()):
            answer = await client.post(
                "/console/session", content=content, headers={"Content-Type": "application/json"}
            )
            assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
            assert answer.headers["connection"] == "close"
        assert (await client.get("/healthz")).status_code == 200
