"""A topic in memory, followed and scanned as a real one: partitions, offsets with holes, a broker that goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

from app.errors import BrokerUnavailable
from app.ports.records import SourceRecord
from app.systems.kafka.client import AtOffsets, AtTime, Bound
from app.systems.kafka.follow import Part, Since


class FakeTopic:
    """`away` makes followers fail and new ones impossible; `holes` are offsets without a record, as after a commit."""

    def __init__(self, name: str, partitions: int = 2) -> None:
        self.name = name
        self.records: dict[int, list[SourceRecord]] = {number: [] for number in range(partitions)}
        self.next: dict[int, int] = dict.fromkeys(range(partitions), 0)
        self.first: dict[int, int] = dict.fromkeys(range(partitions), 0)
        self.away = False
        self.opened = 0
        self.scanned = 0
        self._news = asyncio.Event()

    def append(self, partition: int, value: bytes, *, holes: int = 0, timestamp_ms: int = 0) -> None:
        offset = self.next[partition]
        self.records[partition].append(SourceRecord(self.name, partition, offset, timestamp_ms, b"k", value))
        self.next[partition] = offset + 1 + holes
        self._news.set()

    def forget_before(self, partition: int, offset: int) -> None:
        self.first[partition] = offset
        self.records[partition] = [one for one in self.records[partition] if one.offset >= offset]

    @asynccontextmanager
    async def open(self, since: Since) -> AsyncIterator[FakeFollower]:
        if self.away:
            raise BrokerUnavailable("the fake broker is away")
        self.opened += 1
        yield FakeFollower(self, since)

    async def starts(self, topic: str) -> dict[int, int]:
        self._answer()
        return dict(self.first)

    async def ends(self, topic: str) -> dict[int, int]:
        self._answer()
        return dict(self.next)

    async def scan(
        self, topic: str, start: Bound | None = None, end: Bound | None = None
    ) -> AsyncGenerator[SourceRecord, None]:
        self._answer()
        self.scanned += 1
        begin = start.offsets if isinstance(start, AtOffsets) else {}
        ends = end.offsets if isinstance(end, AtOffsets) else self.next
        for number, records in self.records.items():
            for record in tuple(records):
                if begin.get(number, 0) <= record.offset < ends.get(number, 0):
                    await asyncio.sleep(0)
                    yield record

    async def news(self) -> None:
        await self._news.wait()
        self._news.clear()

    def cut(self) -> None:
        """The broker goes away; who waits for news hears so."""
        self.away = True
        self._news.set()

    def _answer(self) -> None:
        if self.away:
            raise BrokerUnavailable("the fake broker is away")


class FakeFollower:
    def __init__(self, topic: FakeTopic, since: Since) -> None:
        self._topic = topic
        if since is None:
            self._at = dict(topic.next)
        elif isinstance(since, AtTime):
            self._at = {
                number: next((one.offset for one in records if one.timestamp_ms >= since.unix_ms), topic.next[number])
                for number, records in topic.records.items()
            }
        else:
            self._at = {
                number: max(first, since.get((topic.name, number), first)) for number, first in topic.first.items()
            }
        self.begins: Mapping[Part, int] = {(topic.name, number): at for number, at in self._at.items()}

    async def poll(self, wait_seconds: float) -> list[SourceRecord]:
        found = self._take()
        if not found:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_seconds):
                    await self._topic.news()
            found = self._take()
        return found

    async def caught_up(self) -> bool:
        return all(at >= self._topic.next[number] for number, at in self._at.items())

    async def reach(self) -> None:
        if self._topic.away:
            raise BrokerUnavailable("the fake broker is away")

    def _take(self) -> list[SourceRecord]:
        if self._topic.away:
            raise BrokerUnavailable("the fake broker is away")
        found = []
        for number, records in self._topic.records.items():
            found += [one for one in records if one.offset >= self._at[number]]
            self._at[number] = self._topic.next[number]
        return found
