"""Backlogs of consumer groups: the number of records that they have not committed, and the time of the oldest.

Topic and group names here are without the installation's prefix.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from app.errors import BrokerUnavailable
from app.ports.topics import Backlog, Part, of_topic
from app.settings import KafkaSettings
from app.systems.kafka.stop import stop_client
from app.systems.unreachable import kafka_unreachable

_REQUEST_TIMEOUT_MS: Final = 15_000
_POLL_MS: Final = 100
# One record of each partition is wanted; a broker gives a whole batch where its first one is larger.
_FETCH_BYTES: Final = 16 * 1024


async def read_backlogs(
    settings: KafkaSettings, pairs: Sequence[tuple[str, str]], committed: Mapping[str, Mapping[Part, int]]
) -> tuple[Backlog, ...]:
    """See ConsumerGroups.backlogs (app.ports.topics). `committed` holds the offsets of every group of `pairs`."""
    from aiokafka import AIOKafkaConsumer, TopicPartition
    from aiokafka.errors import KafkaError

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
                offsets = of_topic(committed[group], topic)
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
