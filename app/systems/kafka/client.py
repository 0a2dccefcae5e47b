"""Plain Kafka for services and the command line: publishing outside of a lane, and bounded scans of topics.

Topic names here are without the installation's prefix; it is put before them on the way out, taken off on the way in.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from app.errors import BrokerUnavailable, Fenced, StartupRefused
from app.ports.records import SourceRecord
from app.settings import KafkaSettings
from app.systems.kafka.stop import stop_client
from app.systems.unreachable import kafka_unreachable
from schemas.records import Position

# An idempotent producer of aiokafka repeats a batch for ever; after so long without an answer the caller is told.
_DELIVERY_SECONDS: Final = 30.0
_REQUEST_TIMEOUT_MS: Final = 20_000
_COORDINATOR_SECONDS: Final = 0.3
# Records of 1 MiB and their frame; the broker has the last word (message.max.bytes).
_MAX_REQUEST_BYTES: Final = 2 * 1024 * 1024
_SCAN_RECORDS: Final = 2_000
_SCAN_POLL_MS: Final = 500
# A scan reads what lies on disk; a partition that gives nothing for so long hides behind an open transaction or a
# broker that went away. Longer than the longest transaction timeout of our workers.
_SCAN_STALL_SECONDS: Final = 60.0


class KafkaProducer:
    """Producer (ports) on an idempotent aiokafka producer with acks=all; connects at the first use.

    After BrokerUnavailable the records may yet arrive; the next call begins with a new connection.
    """

    def __init__(self, settings: KafkaSettings, client_id: str = "sightline") -> None:
        self._settings = settings
        self._client_id = client_id
        self._producer: Any = None
        self._connecting = asyncio.Lock()

    async def send_and_wait(self, topic: str, key: bytes | None, value: bytes) -> Position:
        """See Producer."""
        metadata = (await self._send([(topic, key, value)]))[0]
        return Position(topic, metadata.partition, metadata.offset)

    async def send_batch(self, records: Sequence[tuple[str, bytes | None, bytes]]) -> None:
        """See Producer."""
        await self._send(records)

    async def close(self) -> None:
        """See Producer. Returns within 10 s also when the broker is away."""
        producer, self._producer = self._producer, None
        await stop_client(producer)

    async def _send(self, records: Sequence[tuple[str, bytes | None, bytes]]) -> list[Any]:
        from aiokafka.errors import KafkaError

        futures: list[Any] = []
        producer: Any = None
        try:
            async with asyncio.timeout(_DELIVERY_SECONDS):
                producer = await self._connected()
                for topic, key, value in records:
                    futures.append(await producer.send(self._settings.prefix + topic, value, key))
                return list(await asyncio.gather(*futures))
        except (KafkaError, OSError, TimeoutError) as error:
            for future in futures:
                future.cancel()
            if producer is not None and producer is self._producer:
                self._producer = None
                await stop_client(producer)
            raise BrokerUnavailable(kafka_unreachable(self._settings.bootstrap, error)) from error

    async def _connected(self) -> Any:
        async with self._connecting:
            if self._producer is None:
                producer = _producer(self._settings, self._client_id, linger_ms=5)
                try:
                    await producer.start()
                except BaseException:
                    await stop_client(producer)
                    raise
                self._producer = producer
            return self._producer


class TransactionalProducer:
    """Publishes groups of records, each group in one transaction: all of them, or none. Use as `async with`.

    Starting it fences every older producer of the same `transactional_id`, so of two processes that do the same job
    only the younger goes on.
    """

    def __init__(self, settings: KafkaSettings, transactional_id: str) -> None:
        self._settings = settings
        self._transactional_id = settings.prefix + transactional_id
        self._producer: Any = None

    async def __aenter__(self) -> Self:
        from aiokafka.errors import KafkaError

        producer = _producer(
            self._settings,
            self._transactional_id,
            transactional_id=self._transactional_id,
            transaction_timeout_ms=int(self._settings.transaction_timeout_seconds * 1000),
        )
        try:
            async with asyncio.timeout(_DELIVERY_SECONDS):
                await producer.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await stop_client(producer)
            raise BrokerUnavailable(kafka_unreachable(self._settings.bootstrap, error)) from error
        self._producer = producer
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        producer, self._producer = self._producer, None
        await stop_client(producer)

    async def publish(self, records: Sequence[tuple[str, bytes | None, bytes]]) -> None:
        """Publish `records` (topic, key, value) in one transaction and return after its commit.

        Raises Fenced when a younger producer has the id; BrokerUnavailable when it is not known whether the transaction
        was committed: end the process or start a new producer, and look at what is there.
        """
        from aiokafka.errors import KafkaError, ProducerFenced

        try:
            async with asyncio.timeout(_DELIVERY_SECONDS), self._producer.transaction():
                futures = [
                    await self._producer.send(self._settings.prefix + topic, value, key)
                    for topic, key, value in records
                ]
                await asyncio.gather(*futures)
        except ProducerFenced as error:
            raise Fenced(f"another process publishes as {self._transactional_id}; this one ends") from error
        except (KafkaError, OSError, TimeoutError) as error:
            raise BrokerUnavailable(kafka_unreachable(self._settings.bootstrap, error)) from error


@dataclass(frozen=True, slots=True)
class AtTime:
    """The first record of each partition whose timestamp is not before `unix_ms`; its end where there is none."""

    unix_ms: int


@dataclass(frozen=True, slots=True)
class AtOffsets:
    """An offset for each partition; a partition that is not named counts from its start (as an end: is left out)."""

    offsets: Mapping[int, int]


Bound = AtTime | AtOffsets


async def group_offsets(settings: KafkaSettings, groups: Sequence[str]) -> dict[str, dict[tuple[str, int], int]]:
    """Return for each group (without the prefix) the next offset that it would read, by topic and partition.

    A partition in which it committed nothing is absent. Raises BrokerUnavailable.
    """
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError

    client = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap, request_timeout_ms=_REQUEST_TIMEOUT_MS)
    found: dict[str, dict[tuple[str, int], int]] = {}
    try:
        async with asyncio.timeout(_DELIVERY_SECONDS):
            await client.start()
            for group in groups:
                while group not in found:
                    try:
                        offsets = await client.list_consumer_group_offsets(settings.prefix + group)
                    except GroupCoordinatorNotAvailableError:
                        # A broker that never had a group makes the topic of offsets at the first question.
                        await asyncio.sleep(_COORDINATOR_SECONDS)
                        continue
                    found[group] = {
                        (part.topic.removeprefix(settings.prefix), part.partition): at.offset
                        for part, at in offsets.items()
                        if at.offset >= 0
                    }
    except (KafkaError, OSError, TimeoutError) as error:
        raise BrokerUnavailable(kafka_unreachable(settings.bootstrap, error)) from error
    finally:
        await client.close()
    return found


async def sink_offsets(settings: KafkaSettings, connector: str, topic: str) -> dict[int, int]:
    """Return the next offset that a connector of Kafka Connect would read, by partition of its topic.

    Names are without the prefix, which Connect has within the group's name: connect-<prefix><connector>. A partition in
    which it committed nothing is absent. Raises BrokerUnavailable.
    """
    group = f"connect-{settings.prefix}{connector}"
    found = (await group_offsets(dataclasses.replace(settings, prefix=""), (group,)))[group]
    return {number: offset for (name, number), offset in found.items() if name == settings.prefix + topic}


class TopicScanner:
    """Reads topics from one bound to another, committed records only, outside of any group.

    Entered by `async with` it keeps its connections between scans; otherwise each scan makes its own.
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

    async def ends(self, topic: str) -> dict[int, int]:
        """Return the end of each partition, open transactions included. Raises as `scan` does."""
        async with _Reader(self._settings, topic, self._idle) as reader:
            return await reader.resolve(None, at_start=False)

    async def starts(self, topic: str) -> dict[int, int]:
        """Return the first offset that each partition still holds. Raises as `scan` does."""
        async with _Reader(self._settings, topic, self._idle) as reader:
            return await reader.resolve(None, at_start=True)

    async def count(self, topic: str, start: Bound | None = None, end: Bound | None = None) -> int:
        """Return how many offsets lie between the bounds: an upper limit of the records, for a progress bar."""
        async with _Reader(self._settings, topic, self._idle) as reader:
            first = await reader.resolve(start, at_start=True)
            last = await reader.resolve(end, at_start=False)
            return sum(max(0, last[partition] - first[partition]) for partition in last)

    async def scan(
        self, topic: str, start: Bound | None = None, end: Bound | None = None
    ) -> AsyncGenerator[SourceRecord, None]:
        """Yield the records from `start` (None: the first) up to, not including, `end` (None: the end at this moment).

        A transaction that is open before the end is waited for. Order holds within a partition only. Memory is bounded
        by 2,000 records and 1 MiB a partition. Raises BrokerUnavailable, also when nothing came for a minute, and
        StartupRefused when the topic does not exist. Close the iterator (`aclosing`) when it is left early.
        """
        async with _Reader(self._settings, topic, self._idle) as reader:
            first = await reader.resolve(start, at_start=True)
            last = await reader.resolve(end, at_start=False)
            async for record in reader.read(first, last):
                yield record


class _Reader:
    """One consumer of all partitions of one topic, taken from `idle` and given back there where it is a list."""

    def __init__(self, settings: KafkaSettings, topic: str, idle: list[Any] | None) -> None:
        self._settings = settings
        self._topic = topic
        self._name = settings.prefix + topic
        self._idle = idle
        self._consumer: Any = None
        # Asks for ends only. A read-committed consumer is told the end before the oldest open transaction; but what a
        # worker has committed may still be open for some milliseconds, because the broker marks one partition after
        # the other. Scanning up to the true end waits for such a transaction instead of missing it.
        self._prober: Any = None

    async def __aenter__(self) -> Self:
        from aiokafka import AIOKafkaConsumer, TopicPartition
        from aiokafka.errors import KafkaError

        consumer, prober = self._idle.pop() if self._idle else (None, None)
        try:
            async with asyncio.timeout(_DELIVERY_SECONDS):
                if consumer is None:
                    consumer = AIOKafkaConsumer(
                        bootstrap_servers=self._settings.bootstrap,
                        isolation_level="read_committed",
                        enable_auto_commit=False,
                        auto_offset_reset="earliest",
                        request_timeout_ms=_REQUEST_TIMEOUT_MS,
                        max_partition_fetch_bytes=1024 * 1024,
                        # What is asked for is there already; a fetch of what is done with must not hold up the next.
                        fetch_max_wait_ms=20,
                    )
                    await consumer.start()
                if prober is None:
                    prober = AIOKafkaConsumer(
                        bootstrap_servers=self._settings.bootstrap,
                        enable_auto_commit=False,
                        request_timeout_ms=_REQUEST_TIMEOUT_MS,
                    )
                    await prober.start()
                cluster = await consumer._client.fetch_all_metadata()
                if self._name not in cluster.topics():
                    await stop_client(consumer)
                    await stop_client(prober)
                    raise StartupRefused(
                        f"topic {self._name} does not exist at {self._settings.bootstrap}; run `./sightline stack init`"
                    )
                partitions = sorted(cluster.partitions_for_topic(self._name))
                consumer.assign([TopicPartition(self._name, number) for number in partitions])
        except (KafkaError, OSError, TimeoutError) as error:
            await stop_client(consumer)
            await stop_client(prober)
            raise BrokerUnavailable(kafka_unreachable(self._settings.bootstrap, error)) from error
        except asyncio.CancelledError:
            # Of a caller with less patience; its connections must not stay.
            await stop_client(consumer)
            await stop_client(prober)
            raise
        self._consumer, self._prober = consumer, prober
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        consumer, prober, self._consumer, self._prober = self._consumer, self._prober, None, None
        if self._idle is not None and kind is None:
            # What was prefetched of this topic goes with its assignment.
            consumer.unsubscribe()
            self._idle.append((consumer, prober))
        else:
            await stop_client(consumer)
            await stop_client(prober)

    async def resolve(self, bound: Bound | None, *, at_start: bool) -> dict[int, int]:
        """Return the offset of each partition that `bound` means; None is the very start or the very end."""
        from aiokafka.errors import KafkaError

        tops = {assigned.partition: assigned for assigned in self._consumer.assignment()}
        try:
            async with asyncio.timeout(_DELIVERY_SECONDS):
                lows = await self._consumer.beginning_offsets(list(tops.values()))
                highs = await self._prober.end_offsets(list(tops.values()))
                low = {number: lows[assigned] for number, assigned in tops.items()}
                high = {number: highs[assigned] for number, assigned in tops.items()}
                if bound is None:
                    return low if at_start else high
                if isinstance(bound, AtOffsets):
                    wanted = {number: bound.offsets.get(number, low[number]) for number in tops}
                else:
                    found = await self._consumer.offsets_for_times(
                        {assigned: max(0, bound.unix_ms) for assigned in tops.values()}
                    )
                    wanted = {
                        number: high[number] if found.get(assigned) is None else found[assigned].offset
                        for number, assigned in tops.items()
                    }
                return {number: min(max(offset, low[number]), high[number]) for number, offset in wanted.items()}
        except (KafkaError, OSError, TimeoutError) as error:
            raise BrokerUnavailable(kafka_unreachable(self._settings.bootstrap, error)) from error

    async def read(self, first: Mapping[int, int], last: Mapping[int, int]) -> AsyncGenerator[SourceRecord, None]:
        from aiokafka import TopicPartition
        from aiokafka.errors import KafkaError

        left = {TopicPartition(self._name, number): end for number, end in last.items() if first.get(number, end) < end}
        if not left:
            return
        loop = asyncio.get_running_loop()
        try:
            self._consumer.assign(list(left))
            for assigned in left:
                self._consumer.seek(assigned, first[assigned.partition])
            positions = {assigned: first[assigned.partition] for assigned in left}
            moved_at = loop.time()
            while left:
                batches = await self._consumer.getmany(timeout_ms=_SCAN_POLL_MS, max_records=_SCAN_RECORDS)
                for assigned, messages in batches.items():
                    for message in messages:
                        if message.offset < left.get(assigned, 0):
                            yield self._record(message)
                for assigned in list(left):
                    # Transaction markers have offsets and no records: only the position says that the end is reached.
                    position = await self._consumer.position(assigned)
                    if position != positions[assigned]:
                        positions[assigned] = position
                        moved_at = loop.time()
                    if position >= left[assigned]:
                        del left[assigned]
                        self._consumer.pause(assigned)
                if left and loop.time() - moved_at > _SCAN_STALL_SECONDS:
                    raise BrokerUnavailable(
                        f"{self._name} at {self._settings.bootstrap} gave nothing for {_SCAN_STALL_SECONDS:g} s"
                    )
        except (KafkaError, OSError) as error:
            raise BrokerUnavailable(kafka_unreachable(self._settings.bootstrap, error)) from error

    def _record(self, message: Any) -> SourceRecord:
        return SourceRecord(
            self._topic, message.partition, message.offset, message.timestamp, message.key, message.value
        )


def _producer(settings: KafkaSettings, client_id: str, **options: Any) -> Any:
    from aiokafka import AIOKafkaProducer

    return AIOKafkaProducer(
        bootstrap_servers=settings.bootstrap,
        client_id=client_id,
        enable_idempotence=True,
        acks="all",
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
        max_request_size=_MAX_REQUEST_BYTES,
        max_batch_size=128 * 1024,
        **options,
    )
