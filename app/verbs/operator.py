"""The composition root of operator verbs: the configured servers, each connected when a verb first uses it."""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import cached_property, partial
from typing import Protocol, TypeVar

from app.settings import Settings, load_settings
from app.systems.clock import SystemClock
from app.systems.kafka.groups import KafkaGroups
from app.systems.kafka.producer import KafkaProducer, KafkaTransactionalProducer
from app.systems.kafka.topic_log import KafkaTopicLog
from app.systems.redis.index import RedisIndex
from app.systems.registry.avro import Codec
from app.systems.s3.files import LakeStore
from app.systems.s3.objects import S3ObjectStore


class _Closable(Protocol):
    async def close(self) -> None: ...


_Part = TypeVar("_Part", bound=_Closable)
_Entered = TypeVar("_Entered")
_Answer = TypeVar("_Answer")


class Operator:
    """What a verb uses for one run. A feature builds its own adapters from it; all are closed when the run ends."""

    def __init__(self, settings: Settings, closing: AsyncExitStack) -> None:
        self.settings = settings
        self.clock = SystemClock()
        self.codec = Codec()
        self.log = KafkaTopicLog(settings.kafka)
        self.groups = KafkaGroups(settings.kafka)
        self.transactions = partial(KafkaTransactionalProducer, settings.kafka)
        self._closing = closing

    @cached_property
    def name(self) -> str:
        """Who runs the verb, as records of their acts name them: user@host."""
        return f"{getpass.getuser()}@{socket.gethostname()}"

    @cached_property
    def store(self) -> S3ObjectStore:
        """The object store of the images."""
        return self.closed(S3ObjectStore(self.settings.s3))

    @cached_property
    def index(self) -> RedisIndex:
        """The index of latest outcomes."""
        return self.closed(RedisIndex(self.settings.redis, self.codec))

    def producer(self, client_id: str = "sightline") -> KafkaProducer:
        """Return a producer that Kafka knows as `client_id`."""
        return self.closed(KafkaProducer(self.settings.kafka, client_id))

    async def lake_store(self) -> LakeStore:
        """Return the files of the lake."""
        return await self.entered(LakeStore(self.settings.s3))

    def closed(self, part: _Part) -> _Part:
        """Return `part`; it is closed when the run ends."""
        self._closing.push_async_callback(part.close)
        return part

    async def entered(self, part: AbstractAsyncContextManager[_Entered]) -> _Entered:
        """Enter `part` and return what it yields; it is left when the run ends."""
        return await self._closing.enter_async_context(part)


@asynccontextmanager
async def operator(settings: Settings) -> AsyncIterator[Operator]:
    """Yield the parts for one run of a verb, and close those that it used."""
    async with AsyncExitStack() as closing:
        world = Operator(settings, closing)
        # Entered, it keeps its connections from one scan to the next.
        await world.entered(world.log)
        yield world


def with_operator(action: Callable[[Operator], Awaitable[_Answer]]) -> _Answer:
    """Run `action` in an event loop, on the servers that the environment's settings name; return its answer."""

    async def run() -> _Answer:
        async with operator(load_settings(os.environ)) as world:
            return await action(world)

    return asyncio.run(run())
