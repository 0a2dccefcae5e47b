"""Topics in memory, read and written as on a broker: partitions, offsets with holes, consumer groups, outages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from aiokafka.partitioner import murmur2

from app.errors import BrokerUnavailable, Fenced, StartupRefused
from app.ports.clock import Clock
from app.ports.publishing import Message, TransactionalProducer, Transactions
from app.ports.records import SourceRecord
from app.ports.topics import AtOffsets, AtTime, Backlog, Bound, Part, Since, of_topic
from app.topics import TOPICS
from schemas.records import Position
from tests.support.manual_clock import ManualClock

SINGLE = frozenset(spec.name for spec in TOPICS if spec.single)
DECLARED = tuple(spec.name for spec in TOPICS)


@dataclass(slots=True)
class _Partition:
    """`next` is the offset of the next record; offsets without a record are transaction markers."""

    records: list[SourceRecord] = field(default_factory=list)
    first: int = 0
    next: int = 0


class MemoryTopicLog:
    """A `TopicLog` on the declared topics and those of `also`. `opened` and `scanned` count followers and scans."""

    def __init__(self, clock: Clock | None = None, *, also: Iterable[str] = (), partitions: int = 4) -> None:
        self._clock = clock or ManualClock()
        self._topics = {
            name: {number: _Partition() for number in range(1 if name in SINGLE else partitions)}
            for name in (*DECLARED, *also)
        }
        self._epochs: dict[str, int] = {}
        self._news = asyncio.Event()
        self._away = False
        self.opened = 0
        self.scanned = 0

    # --- the hands of a test ---

    def append(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = b"k",
        partition: int | None = None,
        timestamp_ms: int | None = None,
        holes: int = 0,
    ) -> Position:
        """Add a record, followed by `holes` offsets without a record."""
        parts = self._parts(topic)
        number = self.partition_of(key or b"", len(parts)) if partition is None else partition
        part, offset = parts[number], parts[number].next
        time = self._clock.now_ms() if timestamp_ms is None else timestamp_ms
        part.records.append(SourceRecord(topic, number, offset, time, key, value))
        part.next = offset + 1 + holes
        self._news.set()
        return Position(topic, number, offset)

    def forget_before(self, topic: str, partition: int, offset: int) -> None:
        """Drop records, as retention does."""
        part = self._parts(topic)[partition]
        part.first = offset
        part.records = [record for record in part.records if record.offset >= offset]

    def disconnect(self) -> None:
        """Make every read and write fail, those of followers too."""
        self._away = True
        self._news.set()

    def connect(self) -> None:
        """End an outage."""
        self._away = False

    # --- TopicLog ---

    async def starts(self, topic: str) -> dict[int, int]:
        return {number: part.first for number, part in self.partitions(topic).items()}

    async def ends(self, topic: str) -> dict[int, int]:
        return {number: part.next for number, part in self.partitions(topic).items()}

    async def count(self, topic: str, start: Bound | None = None, end: Bound | None = None) -> int:
        parts = self.partitions(topic)
        first, last = _resolve(parts, start, at_start=True), _resolve(parts, end, at_start=False)
        return sum(max(0, last[number] - first[number]) for number in parts)

    async def scan(
        self, topic: str, start: Bound | None = None, end: Bound | None = None
    ) -> AsyncGenerator[SourceRecord, None]:
        parts = self.partitions(topic)
        self.scanned += 1
        first, last = _resolve(parts, start, at_start=True), _resolve(parts, end, at_start=False)
        for number, part in parts.items():
            for record in tuple(part.records):
                if first[number] <= record.offset < last[number]:
                    await asyncio.sleep(0)
                    yield record

    @asynccontextmanager
    async def follow(self, topics: Sequence[str], since: Since = None) -> AsyncIterator[MemoryFollower]:
        begins: dict[Part, int] = {}
        ends: dict[Part, int] = {}
        for topic in topics:
            parts = self.partitions(topic)
            ends |= {(topic, number): part.next for number, part in parts.items()}
            if since is None or isinstance(since, AtTime):
                offsets = _resolve(parts, since, at_start=False)
            else:
                # An offset after the end is allowed: the records before it are not wanted.
                named = of_topic(since, topic)
                offsets = {number: max(part.first, named.get(number, part.first)) for number, part in parts.items()}
            begins |= {(topic, number): offset for number, offset in offsets.items()}
        self.opened += 1
        yield MemoryFollower(self, begins, ends)

    def partition_of(self, key: bytes, partitions: int) -> int:
        number: int = (murmur2(key) & 0x7FFFFFFF) % partitions
        return number

    # --- what followers, groups and producers need ---

    def partitions(self, topic: str) -> dict[int, _Partition]:
        self.reach()
        return self._parts(topic)

    def holds(self, topic: str) -> bool:
        return topic in self._topics

    def reach(self) -> None:
        if self._away:
            raise BrokerUnavailable("the broker in memory is away")

    async def news(self) -> None:
        await self._news.wait()
        self._news.clear()

    def fence(self, transactional_id: str) -> int:
        """Return the epoch of a new producer."""
        self.reach()
        self._epochs[transactional_id] = self._epochs.get(transactional_id, 0) + 1
        return self._epochs[transactional_id]

    def publish(self, records: Sequence[Message]) -> list[Position]:
        self.reach()
        return [self.append(topic, value, key=key) for topic, key, value in records]

    def publish_at_once(self, records: Sequence[Message], transactional_id: str, epoch: int) -> None:
        """Append the records of a transaction, and its marker in each of their partitions."""
        self.reach()
        if self._epochs[transactional_id] != epoch:
            raise Fenced(f"another process publishes as {transactional_id}")
        for topic, number in {(at.topic, at.partition) for at in self.publish(records)}:
            self._topics[topic][number].next += 1

    def _parts(self, topic: str) -> dict[int, _Partition]:
        if topic not in self._topics:
            raise StartupRefused(f"topic {topic} does not exist in memory")
        return self._topics[topic]


def _resolve(parts: Mapping[int, _Partition], bound: Bound | None, *, at_start: bool) -> dict[int, int]:
    offsets = {}
    for number, part in parts.items():
        match bound:
            case None:
                offset = part.first if at_start else part.next
            case AtOffsets(named):
                offset = named.get(number, part.first)
            case AtTime(unix_ms):
                later = (record.offset for record in part.records if record.timestamp_ms >= unix_ms)
                offset = next(later, part.next)
        offsets[number] = min(max(offset, part.first), part.next)
    return offsets


class MemoryFollower:
    """A `Follower`."""

    def __init__(self, log: MemoryTopicLog, begins: Mapping[Part, int], ends: Mapping[Part, int]) -> None:
        self._log = log
        self._next = dict(begins)
        self._ends = dict(ends)
        self.begins = begins

    async def poll(self, wait_seconds: float) -> list[SourceRecord]:
        records = self._take()
        if not records:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_seconds):
                    await self._log.news()
            records = self._take()
        return records

    async def caught_up(self) -> bool:
        return all(self._next[part] >= end for part, end in self._ends.items())

    async def aim(self) -> None:
        for topic in {topic for topic, _ in self._next}:
            self._ends |= {(topic, number): end for number, end in (await self._log.ends(topic)).items()}

    async def reach(self) -> None:
        self._log.reach()

    def _take(self) -> list[SourceRecord]:
        records = []
        for (topic, number), first in tuple(self._next.items()):
            part = self._log.partitions(topic)[number]
            records += [record for record in part.records if record.offset >= first]
            self._next[topic, number] = max(first, part.next)
        return records


class MemoryGroups:
    """`ConsumerGroups` on the topics of a log."""

    def __init__(self, log: MemoryTopicLog) -> None:
        self._log = log
        self._committed: dict[str, dict[Part, int]] = {}

    def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Commit offsets for a group."""
        self._committed.setdefault(group, {}).update({(topic, number): at for number, at in offsets.items()})

    async def committed(self, groups: Sequence[str]) -> dict[str, dict[Part, int]]:
        self._log.reach()
        return {group: dict(self._committed.get(group, {})) for group in groups}

    async def backlogs(self, pairs: Sequence[tuple[str, str]]) -> tuple[Backlog, ...]:
        self._log.reach()
        return tuple(self._backlog(group, topic) for group, topic in pairs if self._log.holds(topic))

    def _backlog(self, group: str, topic: str) -> Backlog:
        committed = of_topic(self._committed.get(group, {}), topic)
        count = 0
        oldest: list[int] = []
        for number, part in self._log.partitions(topic).items():
            records = [record for record in part.records if record.offset >= committed.get(number, 0)]
            if records:
                count += part.next - records[0].offset
                oldest.append(records[0].timestamp_ms)
        return Backlog(group, topic, count, min(oldest, default=None))


class MemoryProducer:
    """A `Producer` on the topics of a log."""

    def __init__(self, log: MemoryTopicLog) -> None:
        self._log = log

    async def send_and_wait(self, topic: str, key: bytes | None, value: bytes) -> Position:
        return self._log.publish([(topic, key, value)])[0]

    async def send_batch(self, records: Sequence[Message]) -> None:
        self._log.publish(records)

    async def close(self) -> None:
        """No connection is open."""


@dataclass(frozen=True, slots=True)
class MemoryTransactionalProducer:
    """A `TransactionalProducer` on the topics of a log."""

    log: MemoryTopicLog
    transactional_id: str
    epoch: int

    async def publish(self, records: Sequence[Message]) -> None:
        self.log.publish_at_once(records, self.transactional_id, self.epoch)


def memory_transactions(log: MemoryTopicLog) -> Transactions:
    """Return a starter of transactional producers on `log`."""

    @asynccontextmanager
    async def start(transactional_id: str) -> AsyncIterator[TransactionalProducer]:
        yield MemoryTransactionalProducer(log, transactional_id, log.fence(transactional_id))

    return start
