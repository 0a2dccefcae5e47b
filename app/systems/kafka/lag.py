"""How far consumer groups are behind: records that they have not committed yet, and since when the oldest waits.

Topic and group names here are without the installation's prefix.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.errors import BrokerUnavailable
from app.settings import KafkaSettings
from app.systems.kafka.client import group_offsets
from app.systems.kafka.stop import stop_client
from app.systems.unreachable import kafka_unreachable

_REQUEST_TIMEOUT_MS: Final = 15_000
_POLL_MS: Final = 100
# One record of each partition is wanted; a broker gives a whole batch where its first one is larger.
_FETCH_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Backlog:
    """What one group has not committed of one topic.

    `records` is an upper bound: markers of transactions have offsets too. `oldest_ms` is the time of the oldest of
    them, None where there is none.
    """

    group: str
    topic: str
    records: int
    oldest_ms: int | None


async def read_backlogs(settings: KafkaSettings, pairs: Sequence[tuple[str, str]]) -> tuple[Backlog, ...]:
    """Return the backlog of each pair of group and topic, in their order; a topic that does not exist is left out.

    A group that has committed nothing counts from the topic's start, where it would begin. Only committed records
    count: what an open transaction holds back cannot be read by anybody. Raises BrokerUnavailable.
    """
    from aiokafka import AIOKafkaConsumer, TopicPartition
    from aiokafka.errors import KafkaError

    committed = await group_offsets(settings, tuple(dict.fromkeys(group for group, _ in pairs)))
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
        max_partition_fetch_bytes=_FETCH_BYTES,
        fetch_max_wait_ms=20,
    )
    try:
        await consumer.start()
        cluster = await consumer._client.fetch_all_metadata()
        parts = {
            topic: [TopicPartition(settings.prefix + topic, number) for number in sorted(numbers)]
            for topic in dict.fromkeys(topic for _, topic in pairs)
            if (numbers := cluster.partitions_for_topic(settings.prefix + topic))
        }
        every = [part for found in parts.values() for part in found]
        starts, ends = await consumer.beginning_offsets(every), await consumer.end_offsets(every)
        backlogs = []
        for group, topic in pairs:
            if topic in parts:
                offsets = {number: at for (name, number), at in committed[group].items() if name == topic}
                at = {part: max(starts[part], offsets.get(part.partition, 0)) for part in parts[topic]}
                records, oldest = await _behind(consumer, at, ends)
                backlogs.append(Backlog(group, topic, records, oldest))
        return tuple(backlogs)
    except (KafkaError, OSError, TimeoutError) as error:
        raise BrokerUnavailable(kafka_unreachable(settings.bootstrap, error)) from error
    finally:
        await stop_client(consumer)


async def _behind(consumer: Any, at: Mapping[Any, int], ends: Mapping[Any, int]) -> tuple[int, int | None]:
    """Return how many offsets lie from `at` to `ends`, by partition, and the timestamp of the oldest record there."""
    left = {part for part in at if at[part] < ends[part]}
    if not left:
        return 0, None
    consumer.assign(list(left))
    for part in left:
        consumer.seek(part, at[part])
    records, oldest = 0, None
    while left:
        batches = await consumer.getmany(timeout_ms=_POLL_MS, max_records=len(left))
        for part, messages in batches.items():
            if part in left:
                # Offsets before the first record are of markers, or of what the topic no longer holds.
                records += max(0, ends[part] - messages[0].offset)
                oldest = min(messages[0].timestamp, oldest or messages[0].timestamp)
                left.discard(part)
                consumer.pause(part)
        for part in tuple(left):
            if await consumer.position(part) >= ends[part]:
                left.discard(part)
                consumer.pause(part)
        await asyncio.sleep(0)
    return records, oldest
