"""The query service as it is in production, in the test's own process: real servers behind it, keys before it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from app.access.key_records import KeyRequest, create_key
from app.api.dependencies import ApiParts
from app.api.serve import ApiServer, api_parts, api_server
from app.domain.api_keys import SCOPES, Scope
from app.settings import Settings
from app.systems.clock import SystemClock
from app.systems.kafka.producer import KafkaProducer
from app.systems.registry.avro import Codec
from tests.support.api.serving import serving
from tests.support.eventually import eventually

# What every test asks for, and nobody should ever be refused for.
RATE = 1_000_000.0


@dataclass(frozen=True, slots=True)
class RealApi:
    """A running service; `key` opens everything, `keys` one scope each."""

    host: str
    port: int
    parts: ApiParts
    server: ApiServer
    key: str
    keys: Mapping[Scope, str]

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def keys_but(self, scope: Scope) -> list[str]:
        """Keys of every other scope."""
        return [key for one, key in self.keys.items() if one != scope]


@asynccontextmanager
async def real_api(settings: Settings) -> AsyncIterator[RealApi]:
    """Serve with `settings` until the block is left, all keys known."""
    key = await make_key(settings, SCOPES)
    keys = {scope: await make_key(settings, (scope,)) for scope in SCOPES}
    async with api_parts(settings) as parts:
        server = api_server(parts)
        async with serving(server) as (host, port):
            await eventually(lambda: all(parts.keys.find(one) for one in (key, *keys.values())), 20)
            yield RealApi(host, port, parts, server, key, keys)


async def make_key(settings: Settings, scopes: Iterable[Scope], *, name: str = "tester") -> str:
    """Publish a key and return its token."""
    producer = KafkaProducer(settings.kafka)
    try:
        request = KeyRequest(name, frozenset(scopes), rate_per_second=RATE)
        token, _ = await create_key(producer, Codec(), SystemClock(), request, "test")
        return token.text()
    finally:
        await producer.close()
