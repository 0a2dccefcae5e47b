"""A consumer that follows topics from outside of any group."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from app.errors import BrokerUnavailable, StartupRefused
from app.ports.records import SourceRecord
from app.ports.topics import AtTime, Part, Since
from app.settings import KafkaSettings
from app.systems.kafka.admin import topic_partitions
from app.systems.kafka.stop import stop_client
from app.systems.unreachable import kafka_unreachable

_REQUEST_TIMEOUT_MS: Final = 15_000
# Taken apart in one step of the event loop: some milliseconds.
_POLL_RECORDS: Final = 1_000
_REACH_SECONDS: Final = 5.0


class KafkaFollower:
    """See Follower (app.ports.topics). Use as `async with`."""

    def __init__(self, settings: KafkaSettings, topics: Sequence[str], since: Since = None) -> None:
        self._settings = settings
        self._topics = topics
        self._since = since
        self._consumer: Any = None
        self._begins: dict[Part, int] = {}
        self._ends: dict[Any, int] = {}

    async def __aenter__(self) -> Self:
        from aiokafka import AIOKafkaConsumer, TopicPartition
        from aiokafka.errors import KafkaError

        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._settings.bootstrap,
            isolation_level="read_committed",
            enable_auto_commit=False,
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
        )
        try:
            await consumer.start()
            counts = await topic_partitions(self._settings.bootstrap)
            names = [self._settings.prefix + topic for topic in self._topics]
            absent = [name for name in names if name not in counts]
            if absent:
                raise StartupRefused(f"topic {absent[0]} does not exist at {self._settings.bootstrap}")
            parts = [TopicPartition(name, number) for name in names for number in range(counts[name])]
            consumer.assign(parts)
            # Fixed by number, not by "end": what is committed from here on is seen, whenever the first fetch happens.
            self._ends = dict(await consumer.end_offsets(parts))
            for part, offset in (await self._first_offsets(consumer, parts)).items():
                consumer.seek(part, offset)
                self._begins[part.topic.removeprefix(self._settings.prefix), part.partition] = offset
        except (KafkaError, OSError) as error:
            await stop_client(consumer)
            raise BrokerUnavailable(kafka_unreachable(self._settings.bootstrap, error)) from error
        except BaseException:
            await stop_client(consumer)
            raise
        self._consumer = consumer
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await stop_client(self._consumer)

    @property
    def begins(self) -> Mapping[Part, int]:
        """See Follower."""
        return self._begins

    async def aim(self) -> None:
        """See Follower."""
        self._ends = await self._read_ends()

    async def caught_up(self) -> bool:
        """See Follower."""
        while self._ends:
            part, end = next(iter(self._ends.items()))
            if await self._consumer.position(part) < end:
                return False
            del self._ends[part]
        return True

    async def _first_offsets(self, consumer: Any, parts: Sequence[Any]) -> Mapping[Any, int]:
        if self._since is None:
            return self._ends
        if isinstance(self._since, AtTime):
            found = await consumer.offsets_for_times({part: max(0, self._since.unix_ms) for part in parts})
            return {part: self._ends[part] if found.get(part) is None else found[part].offset for part in parts}
        starts = await consumer.beginning_offsets(parts)
        names = {part: (part.topic.removeprefix(self._settings.prefix), part.partition) for part in parts}
        # No upper bound: just after its start a broker may tell an end that lies before what it had given out.
        return {part: max(start, self._since.get(names[part], start)) for part, start in starts.items()}

    async def poll(self, wait_seconds: float) -> list[SourceRecord]:
        """See Follower."""
        from aiokafka.errors import KafkaError

        try:
            batches = await self._consumer.getmany(timeout_ms=int(wait_seconds * 1000), max_records=_POLL_RECORDS)
        except KafkaError as error:
            raise BrokerUnavailable(kafka_unreachable(self._settings.bootstrap, error)) from error
        return [
            SourceRecord(
                message.topic.removeprefix(self._settings.prefix),
                message.partition,
                message.offset,
                message.timestamp,
                message.key,
                message.value,
            )
            for messages in batches.values()
            for message in messages
        ]

    async def reach(self) -> None:
        """See Follower. Waits 5 s at most."""
        await self._read_ends()

    async def _read_ends(self) -> dict[Any, int]:
        from aiokafka.errors import KafkaError

        try:
            async with asyncio.timeout(_REACH_SECONDS):
                return dict(await self._consumer.end_offsets(self._consumer.assignment()))
        except (KafkaError, OSError, TimeoutError) as error:
            raise BrokerUnavailable(kafka_unreachable(self._settings.bootstrap, error)) from error
