"""Twins of the streaming adapters for tests: a log with transactions and fencing, and tables with a changelog."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

from app.errors import Fenced
from app.streaming.ports import Opened, SourcePartition, WireOutput


class MemoryLog:
    """What transactions committed: outputs in order, and the offsets of a group. Also makes producers and sources."""

    def __init__(self) -> None:
        self.outputs: list[WireOutput] = []
        self.transactions: list[tuple[SourcePartition, tuple[WireOutput, ...], int]] = []
        self.offsets: dict[SourcePartition, int] = {}
        self.owners: dict[SourcePartition, MemoryLaneProducer] = {}
        # Set by a test: transactions wait for it before they commit.
        self.gate: asyncio.Event | None = None

    def create(self, source: SourcePartition) -> MemoryLaneProducer:
        """See LaneProducers."""
        return MemoryLaneProducer(self, source)


class MemoryLaneProducer:
    """See LaneProducer."""

    def __init__(self, log: MemoryLog, source: SourcePartition) -> None:
        self._log = log
        self._source = source
        self.closed = False

    async def start(self) -> None:
        """See LaneProducer."""
        self._log.owners[self._source] = self

    async def publish(self, outputs: Sequence[WireOutput], next_offset: int) -> None:
        """See LaneProducer."""
        if self._log.gate is not None:
            await self._log.gate.wait()
        if self._log.owners.get(self._source) is not self:
            raise Fenced(f"{self._source}: another process owns this input partition")
        self._log.outputs.extend(outputs)
        self._log.offsets[self._source] = next_offset
        self._log.transactions.append((self._source, tuple(outputs), next_offset))

    async def close(self) -> None:
        """See LaneProducer."""
        self.closed = True


class MemorySource:
    """See SourceControl: positions come from a MemoryLog."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self.delivering: dict[SourcePartition, Opened] = {}
        self._epoch = 0

    async def locate(self, sources: Iterable[SourcePartition]) -> Mapping[SourcePartition, Opened]:
        """See SourceControl."""
        self._epoch += 1
        return {source: Opened(self._epoch, self._log.offsets.get(source, 0), 0) for source in sources}

    def begin(self, opened: Mapping[SourcePartition, Opened]) -> None:
        """See SourceControl."""
        self.delivering.update(opened)

    def close(self) -> None:
        """See SourceControl."""
        self.delivering.clear()

    def highwater(self, source: SourcePartition) -> int | None:
        """See SourceControl."""
        return None


class MemoryTables:
    """See app.ports.processing.Tables and TableStore; owns the partitions that it is given."""

    def __init__(self, names: Iterable[str], partitions: Iterable[int]) -> None:
        self._rows: dict[tuple[str, int], dict[bytes, bytes]] = {
            (name, partition): {} for name in names for partition in partitions
        }
        self._locks: dict[tuple[str, int], asyncio.Lock] = {}
        self.changelog: list[tuple[str, int, bytes, bytes]] = []

    def get(self, table: str, partition: int, key: bytes) -> bytes | None:
        """See Tables."""
        return self._rows[table, partition].get(key)

    async def put(self, table: str, partition: int, entries: Mapping[bytes, bytes]) -> None:
        """See TableStore."""
        await asyncio.sleep(0)
        self.changelog.extend((table, partition, key, value) for key, value in entries.items())
        self._rows[table, partition].update(entries)

    @asynccontextmanager
    async def exclusive(self, table: str, partition: int) -> AsyncIterator[None]:
        """See TableStore."""
        async with self._locks.setdefault((table, partition), asyncio.Lock()):
            yield
