"""The limit as a client sees it who sends all of his body before he reads: on a real server, over a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn

from app.api.serve import api_server
from app.systems.clock import SystemClock
from tests.support.api.in_process import memory_parts
from tests.support.api.serving import serving

MIB = 1024 * 1024


@asynccontextmanager
async def served() -> AsyncIterator[httpx.AsyncClient]:
    # Without what a whole service ends first: memory parts have no live side.
    server = uvicorn.Server(api_server(memory_parts(clock=SystemClock())).config)
    async with (
        serving(server) as (host, port),
        httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=30) as client,
    ):
        yield client


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
