"""Watching from outside: new records of topics as they are committed, and how far a consumer group has come.

Topic and group names here are without the installation's prefix.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

from app.adapters.kafka_admin import topic_partitions
from app.adapters.kafka_stop import stop_client
from app.adapters.unreachable import kafka_unreachable
from app.errors import BrokerUnavailable, StartupRefused
from app.ports import SourceRecord
from app.settings import KafkaSettings

_REQUEST_TIMEOUT_MS: Final = 15_000
_POLL_RECORDS: Final = 5_000
_REACH_SECONDS: Final = 5.0


class TopicFollower:
    """Every record that is committed to `topics` after the `async with` was entered, outside of any group."""

    def __init__(self, settings: KafkaSettings, topics: Sequence[str]) -> None:
        self._settings = settings
        self._topics = topics
        self._consumer: Any = None

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
            for part, end in (await consumer.end_offsets(parts)).items():
                consumer.seek(part, end)
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

    async def poll(self, wait_seconds: float) -> list[SourceRecord]:
        """Return what is new, waiting at most `wait_seconds` for the first record; order holds within a partition.

        While the broker is away nothing comes and nothing is raised.
        """
        batches = await self._consumer.getmany(timeout_ms=int(wait_seconds * 1000), max_records=_POLL_RECORDS)
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
        """Return when the broker answered for every partition. Raises BrokerUnavailable after 5 s without."""
        from aiokafka.errors import KafkaError

        try:
            async with asyncio.timeout(_REACH_SECONDS):
                await self._consumer.end_offsets(self._consumer.assignment())
        except (KafkaError, OSError, TimeoutError) as error:
            raise BrokerUnavailable(kafka_unreachable(self._settings.bootstrap, error)) from error


async def committed_offsets(settings: KafkaSettings, group: str, topic: str) -> dict[int, int]:
    """Return the next offset that `group` would read, by partition of `topic`; absent where it committed none.

    Raises BrokerUnavailable.
    """
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError

    client = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap, request_timeout_ms=_REQUEST_TIMEOUT_MS)
    try:
        await client.start()
        found = await client.list_consumer_group_offsets(settings.prefix + group)
    except GroupCoordinatorNotAvailableError:
        # A broker that has not seen any group yet makes the topic of their offsets only now.
        return {}
    except (KafkaError, OSError) as error:
        raise BrokerUnavailable(kafka_unreachable(settings.bootstrap, error)) from error
    finally:
        await client.close()
    name = settings.prefix + topic
    return {part.partition: at.offset for part, at in found.items() if part.topic == name and at.offset >= 0}
