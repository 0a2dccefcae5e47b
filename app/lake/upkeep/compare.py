"""Comparison of a topic and its table as sets of offsets, for `lake verify` and `lake repair`.

Committed records are read from the low watermark to an end that is fixed at the start; then the table is read.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from pyroaring import BitMap64

from app.lake.iceberg.erasures import Erasures
from app.lake.iceberg.read import Progress, TableReader
from app.lake.upkeep.offset_sets import Offsets, add, between, offset_set
from app.lake.upkeep.sums import PartitionSets, PartitionSums
from app.ports.topics import AtOffsets, TopicLog

# Committed offsets of a connector on its topic, by partition.
SinkOffsets = Callable[[str, str], Awaitable[Mapping[int, int]]]
_AT_ONCE = 65_536
_NO_PROGRESS = Progress(None, None, None)


@dataclass(slots=True)
class Comparison:
    """One topic and one table. `sets` by partition; `strays` are rows of partitions that the topic does not have."""

    sets: dict[int, PartitionSets]
    progress: Progress = _NO_PROGRESS
    exists: bool = True
    strays: int = 0
    # Publication time of the newest record that is not recent, and of the newest record.
    newest_settled_ms: int | None = None
    newest_ms: int | None = None
    foreign: dict[int, int] = field(default_factory=dict)
    newer: dict[int, int] = field(default_factory=dict)


class Comparer:
    """Comparer of one table with its topic. Not safe to share between tasks."""

    def __init__(self, log: TopicLog, sink_offsets: SinkOffsets, reader: TableReader, erasures: Erasures) -> None:
        self._log, self._sink_offsets = log, sink_offsets
        self._reader, self._erasures = reader, erasures
        self._row = reader.row

    async def topic(self, now_ms: int, recent_ms: int) -> Comparison:
        """Return the records; a record younger than `recent_ms` is recent. Raises as TopicLog, LakeUnavailable."""
        exists = await asyncio.to_thread(self._reader.open)
        comparison = Comparison({}, exists=exists)
        if exists:
            comparison.progress = await asyncio.to_thread(self._reader.progress)
        await self._committed(comparison)
        topic = self._row.topic
        low, end = await self._log.starts(topic), await self._log.ends(topic)
        for number in low:
            sets = comparison.sets.setdefault(number, PartitionSets(low[number], end[number]))
            sets.low, sets.end = low[number], end[number]
        valid_ms = comparison.progress.valid_through_ms
        pending = {number: _Pending(comparison.sets[number]) for number in low}
        async with aclosing(self._log.scan(topic, AtOffsets(low), AtOffsets(end))) as records:
            async for record in records:
                if record.value is None:
                    # The sink writes no row for a record without a value.
                    continue
                published_ms = record.timestamp_ms
                recent = now_ms - published_ms < recent_ms
                comparison.newest_ms = max(comparison.newest_ms or 0, published_ms)
                if not recent:
                    comparison.newest_settled_ms = max(comparison.newest_settled_ms or 0, published_ms)
                beyond = valid_ms is not None and published_ms >= valid_ms
                pending[record.partition].take(record.offset, recent=recent, beyond=beyond)
        for each in pending.values():
            each.flush()
        # Retention may have deleted a segment during the read.
        for number, start in (await self._log.starts(topic)).items():
            sets = comparison.sets[number]
            if start > sets.low:
                sets.low = start
                sets.records = between(sets.records, start, sets.end)
        if valid_ms is None:
            # Without a time of completeness all records are beyond it. The set is shared, not copied.
            for sets in comparison.sets.values():
                sets.beyond = sets.records
        return comparison

    async def table(self, comparison: Comparison) -> None:
        """Read the rows into a comparison, replacing those of an earlier read. Raises LakeUnavailable."""
        comparison.exists = await asyncio.to_thread(self._reader.open)
        await self._committed(comparison)
        # The end of the topic after the read: a row beyond it has no record.
        ends = await self._log.ends(self._row.topic)
        await asyncio.to_thread(self._read_rows, comparison)
        later = await self._log.ends(self._row.topic)
        for number, sets in comparison.sets.items():
            beyond_end = between(sets.rows, max(sets.end, later.get(number, ends.get(number, sets.end))), 1 << 62)
            known = sets.records | sets.erased
            comparison.foreign[number] = len(between(sets.rows, sets.low, sets.end) - known) + len(beyond_end)
            comparison.newer[number] = len(between(sets.rows, sets.end, 1 << 62)) - len(beyond_end)

    def _read_rows(self, comparison: Comparison) -> None:
        for sets in comparison.sets.values():
            sets.rows, sets.doubled, sets.erased = BitMap64(), BitMap64(), BitMap64()
            sets.doubles = 0
        comparison.strays = 0
        if comparison.exists:
            comparison.progress = self._reader.progress()
            for number, offsets in _by_partition(self._reader.coordinates()):
                if number not in comparison.sets:
                    comparison.strays += len(offsets)
                    continue
                inside = offsets[offsets >= 0]
                comparison.strays += len(offsets) - len(inside)
                sets = comparison.sets[number]
                repeats, repeated = add(sets.rows, inside)
                sets.doubles += repeats
                sets.doubled |= repeated
        for number, offsets in _by_partition(self._erasures.of(self._row.name)):
            if number in comparison.sets:
                comparison.sets[number].erased |= offset_set(offsets)

    async def _committed(self, comparison: Comparison) -> None:
        for number, offset in (await self._sink_offsets(self._row.connector, self._row.topic)).items():
            comparison.sets.setdefault(number, PartitionSets(0, 0)).committed = offset


class _Pending:
    """Buffer of offsets for the sets of one partition, flushed some thousand at a time."""

    def __init__(self, sets: PartitionSets) -> None:
        self._sets = sets
        self._records = array("Q")
        self._recent = array("Q")
        self._beyond = array("Q")

    def take(self, offset: int, *, recent: bool, beyond: bool) -> None:
        """Buffer one record."""
        self._records.append(offset)
        if recent:
            self._recent.append(offset)
        if beyond:
            self._beyond.append(offset)
        if len(self._records) >= _AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Move the buffered offsets into the sets."""
        for pending, bits in (
            (self._records, self._sets.records),
            (self._recent, self._sets.recent),
            (self._beyond, self._sets.beyond),
        ):
            bits.update(BitMap64(pending))
            del pending[:]


def partition_sums(comparison: Comparison) -> tuple[PartitionSums, ...]:
    """Return the counts of each partition."""
    sums = []
    for number, sets in sorted(comparison.sets.items()):
        absent = sets.absent()
        waiting = sets.waiting(absent)
        window = between(sets.rows, sets.low, sets.end)
        older = between(sets.rows, 0, sets.low)
        doubles, foreign = sets.doubles, comparison.foreign.get(number, 0)
        # Each offset has one correct row. Further rows with the same offset are surplus.
        surplus = len(sets.rows) - len(window) - len(older) - comparison.newer.get(number, 0)
        sums.append(
            PartitionSums(
                number,
                records=len(sets.records),
                rows=len(window) + doubles + surplus,
                missing=len(absent - waiting),
                extra=doubles + foreign,
                waiting=len(waiting),
                erased=len((sets.records & sets.erased) - sets.rows),
                older=len(older),
            )
        )
    return tuple(sums)


def _by_partition(pairs: Iterator[tuple[Offsets, Offsets]]) -> Iterator[tuple[int, Offsets]]:
    for partitions, offsets in pairs:
        if not len(partitions):
            continue
        first = int(partitions[0])
        if (partitions == first).all():
            yield first, offsets
            continue
        for number in sorted({int(number) for number in partitions}):
            yield number, offsets[partitions == number]
