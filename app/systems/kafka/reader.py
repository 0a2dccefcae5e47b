"""One consumer of all partitions of one topic, outside of any group: bounds and bounded reading."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from types import TracebackType
from typing import Any, Final, Self

from app.errors import BrokerUnavailable, StartupRefused
from app.ports.records import SourceRecord
from app.ports.topics import AtOffsets, Bound
from app.settings import KafkaSettings
from app.systems.kafka.stop import stop_client
from app.systems.unreachable import kafka_unreachable

_ANSWER_SECONDS: Final = 30.0
_REQUEST_TIMEOUT_MS: Final = 20_000
_SCAN_RECORDS: Final = 2_000
_SCAN_POLL_MS: Final = 500
# A scan reads what lies on disk; a partition that gives nothing for this time hides behind an open transaction or a
# broker that went away. Longer than the longest transaction timeout of our workers.
_SCAN_STALL_SECONDS: Final = 60.0


class TopicReader:
    """One consumer of all partitions of one topic, taken from `idle` and returned there if it is a list."""

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
            async with asyncio.timeout(_ANSWER_SECONDS):
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
            async with asyncio.timeout(_ANSWER_SECONDS):
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
        """Yield the records from `first` up to, not including, `last`; a partition that `last` lacks is left out."""
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
