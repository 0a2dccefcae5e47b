"""The query service over real HTTP on a free loopback port, and a client of its event stream."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn

from app.api.dependencies import ApiParts
from app.api.serve import api_parts, api_server
from app.domain.api_keys import SCOPES
from app.settings import ApiSettings, KafkaSettings, RedisSettings, Secret, Settings
from app.stack.local import LocalStack
from tests.support.api.in_process import give_key
from tests.support.api.on_real_servers import RATE, make_key
from tests.support.api.serving import serving
from tests.support.eventually import eventually
from tests.support.stack import TEST_PARTITIONS


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
    """Serve with `settings` until the block is left; the client's key opens everything."""
    key = await make_key(settings, SCOPES)
    async with api_parts(settings) as parts, _client(parts, key) as api:
        await eventually(lambda: parts.keys.find(key), 20)
        yield api


@asynccontextmanager
async def live_api_without_kafka(settings: Settings) -> AsyncIterator[LiveApi]:
    """The same where no broker answers; the key was read before it went."""
    async with api_parts(settings) as parts:
        parts.keys.replace({})
        token, _ = give_key(parts, SCOPES, rate_per_second=RATE)
        async with _client(parts, token.text()) as api:
            yield api


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


@asynccontextmanager
async def _client(parts: ApiParts, key: str) -> AsyncIterator[LiveApi]:
    server = api_server(parts)
    async with serving(server) as (host, port):
        url, headers = f"http://{host}:{port}", {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
            yield LiveApi(url, parts, server, client)
