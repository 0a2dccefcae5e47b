"""The query service over real HTTP on a free loopback port, open to everybody, and a client of its event stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx
import uvicorn
from fastapi import FastAPI

from app.api.application import build_application
from app.api.auth import Caller, allow
from app.api.parts import ApiParts
from app.api.serve import ApiServer, api_parts, listen
from app.domain.api_keys import Scope
from app.settings import ApiSettings, KafkaSettings, RedisSettings, Secret, Settings
from app.stack.local import LocalStack
from tests.support.eventually import eventually
from tests.support.stack import TEST_PARTITIONS

_SCOPES: Final[tuple[Scope, ...]] = ("read", "score", "moderate", "admin")


@dataclass(frozen=True, slots=True)
class LiveApi:
    """A running service. `server.should_exit = True` is what SIGTERM does."""

    url: str
    parts: ApiParts
    server: uvicorn.Server
    client: httpx.AsyncClient

    async def get(self, path: str, **params: str) -> Any:
        answer = await self.client.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One block of an event stream; `kind` is "" for one that only tells an id."""

    event_id: str
    kind: str
    data: Any
    comment: str


def live_settings(stack: LocalStack, prefix: str, **api: Any) -> Settings:
    return Settings(
        kafka=KafkaSettings(bootstrap=stack.kafka, prefix=prefix, partitions=TEST_PARTITIONS),
        redis=RedisSettings(url=Secret(stack.redis_url), prefix=prefix),
        api=ApiSettings(score=False, **api),
    )


@asynccontextmanager
async def live_api(settings: Settings) -> AsyncIterator[LiveApi]:
    async with api_parts(settings) as parts:
        app = build_application(parts)
        _open_to_all(app)
        config = uvicorn.Config(
            app, http="httptools", log_config=None, access_log=False, timeout_graceful_shutdown=5, lifespan="off"
        )
        server = ApiServer(config, parts)
        with listen("127.0.0.1", 0) as listening:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            try:
                await eventually(lambda: server.started)
                async with httpx.AsyncClient(base_url=url, timeout=30) as client:
                    yield LiveApi(url, parts, server, client)
            finally:
                server.should_exit = True
                await asyncio.wait_for(serving, 20)


async def server_events(
    client: httpx.AsyncClient, path: str = "/v1/stream/flagged", last_event_id: str = ""
) -> AsyncGenerator[ServerEvent, None]:
    """Yield the blocks of the stream until it ends. Raises httpx.HTTPStatusError where there is none."""
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    async with client.stream("GET", path, headers=headers) as answer:
        if answer.status_code != 200:
            await answer.aread()
            answer.raise_for_status()
        fields: dict[str, str] = {}
        async for line in answer.aiter_lines():
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
                continue
            data = json.loads(fields["data"]) if "data" in fields else None
            yield ServerEvent(fields.get("id", ""), fields.get("event", ""), data, fields.get("", ""))
            fields = {}


def _open_to_all(app: FastAPI) -> None:
    """Let everybody do everything: who may do what has tests of its own."""

    async def anybody() -> Caller:
        return Caller("test", "Test", frozenset(_SCOPES))

    # Equal for equal scopes, so this replaces what the routes depend on.
    for scope in _SCOPES:
        app.dependency_overrides[allow(scope)] = anybody
