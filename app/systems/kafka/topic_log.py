"""The topics of one installation on a real broker."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import Any, Self

from app.ports.records import SourceRecord
from app.ports.topics import Bound, Since
from app.settings import KafkaSettings
from app.systems.kafka.follower import KafkaFollower
from app.systems.kafka.reader import TopicReader
from app.systems.kafka.stop import stop_client


class KafkaTopicLog:
    """See TopicLog (app.ports.topics). Entered by `async with` it keeps connections; otherwise each call makes its own.

    A scan holds at most 2,000 records and 1 MiB of each partition. It raises BrokerUnavailable if no record arrives for
    a minute.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._idle: list[Any] | None = None

    async def __aenter__(self) -> Self:
        self._idle = []
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        idle, self._idle = self._idle or [], None
        for consumer, prober in idle:
            await stop_client(consumer)
            await stop_client(prober)

    async def starts(self, topic: str) -> dict[int, int]:
        """See TopicLog."""
        async with self._reader(topic) as reader:
            return await reader.resolve(None, at_start=True)

    async def ends(self, topic: str) -> dict[int, int]:
        """See TopicLog."""
        async with self._reader(topic) as reader:
            return await reader.resolve(None, at_start=False)

    async def count(self, topic: str, start: Bound | None = None, end: Bound | None = None) -> int:
        """See TopicLog."""
        async with self._reader(topic) as reader:
            first = await reader.resolve(start, at_start=True)
            last = await reader.resolve(end, at_start=False)
            return sum(max(0, last[partition] - first[partition]) for partition in last)

    async def scan(
        self, topic: str, start: Bound | None = None, end: Bound | None = None
    ) -> AsyncGenerator[SourceRecord, None]:
        """See TopicLog."""
        async with self._reader(topic) as reader:
            first = await reader.resolve(start, at_start=True)
            last = await reader.resolve(end, at_start=False)
            async for record in reader.read(first, last):
                yield record

    def follow(self, topics: Sequence[str], since: Since = None) -> KafkaFollower:
        """See TopicLog. The follower has a connection of its own."""
        return KafkaFollower(self._settings, topics, since)

    def partition_of(self, key: bytes, partitions: int) -> int:
        """See TopicLog."""
        from aiokafka.partitioner import murmur2

        number: int = (murmur2(key) & 0x7FFFFFFF) % partitions
        return number

    def _reader(self, topic: str) -> TopicReader:
        return TopicReader(self._settings, topic, self._idle)
