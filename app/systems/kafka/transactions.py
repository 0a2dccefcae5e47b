"""Kafka transactions of our own (aiokafka): one producer for each input partition, outputs and offset together.

Also the idempotent producer that writes table changelogs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from app.errors import BrokerUnavailable, Fenced, TransactionFailed
from app.settings import KafkaSettings
from app.streaming.ports import SourcePartition, WireOutput

_PRODUCER_TIMEOUT_MS: Final = 30_000
_BATCH_BYTES: Final = 128 * 1024
_RETRY_BACKOFF_MS: Final = 20
# Records of 1 MiB and their frame; the broker has the last word (message.max.bytes).
_MAX_REQUEST_BYTES: Final = 2 * 1024 * 1024


class KafkaLaneProducer:
    """See app.streaming.ports.LaneProducer. The transactional id is group, topic and partition."""

    def __init__(self, settings: KafkaSettings, group: str, source: SourcePartition) -> None:
        self._settings = settings
        self._group = group
        self._source = source
        self._producer: Any = None

    async def start(self) -> None:
        """See LaneProducer."""
        from aiokafka import AIOKafkaProducer
        from aiokafka.errors import KafkaError

        producer = AIOKafkaProducer(
            bootstrap_servers=self._settings.bootstrap,
            client_id=f"{self._group}-{self._source.topic}-{self._source.partition}",
            transactional_id=f"{self._group}-{self._source.topic}-{self._source.partition}",
            transaction_timeout_ms=int(self._settings.transaction_timeout_seconds * 1000),
            request_timeout_ms=_PRODUCER_TIMEOUT_MS,
            # A broker still busy with the transaction before answers "not yet" to the first batch of the next one.
            retry_backoff_ms=_RETRY_BACKOFF_MS,
            max_request_size=_MAX_REQUEST_BYTES,
            max_batch_size=_BATCH_BYTES,
        )
        try:
            await producer.start()
        except (KafkaError, OSError) as error:
            await producer.stop()
            raise BrokerUnavailable(f"{self._source}: no transactional producer: {error}") from error
        except asyncio.CancelledError:
            await producer.stop()
            raise
        self._producer = producer

    async def publish(self, outputs: Sequence[WireOutput], next_offset: int) -> None:
        """See LaneProducer."""
        from aiokafka import TopicPartition
        from aiokafka.errors import InvalidProducerEpoch, KafkaError, ProducerFenced

        producer = self._producer
        offsets = {TopicPartition(self._source.topic, self._source.partition): next_offset}
        try:
            await producer.begin_transaction()
            sent = [await producer.send(output.topic, output.value, key=output.key) for output in outputs]
            # One after the other: while the coordinator adds the group, it answers "not yet" to the brokers that ask
            # whether the batches may be appended, and each such answer costs a back-off.
            await asyncio.gather(*sent)
            await producer.send_offsets_to_transaction(offsets, self._group)
            await producer.commit_transaction()
        except (ProducerFenced, InvalidProducerEpoch) as error:
            raise Fenced(f"{self._source}: another process owns this input partition") from error
        except (KafkaError, AssertionError) as error:
            # aiokafka asserts its own state machine; after a failure in the background that is how it speaks.
            raise TransactionFailed(f"{self._source}: {type(error).__name__}: {error}") from error

    async def close(self) -> None:
        """See LaneProducer."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()


class KafkaLaneProducers:
    """See app.streaming.ports.LaneProducers."""

    def __init__(self, settings: KafkaSettings, group: str) -> None:
        self._settings = settings
        self._group = group

    def create(self, source: SourcePartition) -> KafkaLaneProducer:
        """See LaneProducers."""
        return KafkaLaneProducer(self._settings, self._group, source)


class ChangelogProducer:
    """Writes changelog records outside of transactions: idempotent, acks=all, every write awaited."""

    def __init__(self, settings: KafkaSettings, client_id: str) -> None:
        self._settings = settings
        self._client_id = client_id
        self._producer: Any = None

    async def start(self) -> None:
        """Connect. Raises BrokerUnavailable."""
        from aiokafka import AIOKafkaProducer
        from aiokafka.errors import KafkaError

        producer = AIOKafkaProducer(
            bootstrap_servers=self._settings.bootstrap,
            client_id=self._client_id,
            enable_idempotence=True,
            acks="all",
            request_timeout_ms=_PRODUCER_TIMEOUT_MS,
            max_batch_size=_BATCH_BYTES,
        )
        try:
            await producer.start()
        except (KafkaError, OSError) as error:
            await producer.stop()
            raise BrokerUnavailable(f"no changelog producer: {error}") from error
        self._producer = producer

    async def append(self, topic: str, partition: int, entries: Mapping[bytes, bytes]) -> int:
        """Write `entries` and return the offset of the last one, once all are durable. Raises TransactionFailed."""
        from aiokafka.errors import KafkaError

        try:
            sent = [
                await self._producer.send(topic, value, key=key, partition=partition) for key, value in entries.items()
            ]
            metadata = await asyncio.gather(*sent)
        except KafkaError as error:
            raise TransactionFailed(f"changelog {topic}/{partition}: {type(error).__name__}: {error}") from error
        return max(int(each.offset) for each in metadata)

    async def close(self) -> None:
        """Flush and disconnect."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()


@asynccontextmanager
async def changelog_producer(settings: KafkaSettings, client_id: str) -> AsyncIterator[ChangelogProducer]:
    """Yield a started ChangelogProducer and close it."""
    producer = ChangelogProducer(settings, client_id)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.close()
