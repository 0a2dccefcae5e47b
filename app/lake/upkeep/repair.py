"""Repair of a table from its topic: missing rows are added, and second rows of a record are removed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from pyroaring import BitMap64

from app.domain.lake import KAFKA_OFFSET, KAFKA_PARTITION
from app.errors import LakeUnavailable
from app.lake.iceberg.commit import Beside
from app.lake.iceberg.read import TableReader
from app.lake.iceberg.remove import Chosen, Mask, choose, remove_rows
from app.lake.iceberg.rows import RowAppender
from app.lake.upkeep.compare import Comparer
from app.lake.upkeep.offset_sets import contains
from app.lake.upkeep.verify import Limits
from app.ports.clock import Clock
from app.ports.records import SourceRecord
from app.ports.topics import AtOffsets, TopicLog
from app.systems.registry.avro import Codec

# A decoded record has about 10 KB in Python: 200 MB at a time.
_AT_ONCE: Final = 20_000


@dataclass(frozen=True, slots=True)
class Repaired:
    """Result for one table. `late` records should have a row, but the sink has not confirmed their commit."""

    table: str
    appended: int
    removed: int
    late: int


async def repair(
    comparer: Comparer,
    reader: TableReader,
    log: TopicLog,
    codec: Codec,
    clock: Clock,
    limits: Limits,
    *,
    prefix: str,
    force: bool,
) -> Repaired:
    """Add missing rows, remove second rows of a record, and return the numbers of both.

    A record counts as missing if the sink has confirmed it: its offset is below that of the sink's group, and it was
    published before the sink's time of completeness. `force` adds every record without a row; use it only while the
    connector is stopped, because it may be about to commit the same rows. Concurrent additions of rows make it fail,
    with nothing added. Raises BrokerUnavailable, StartupRefused, LakeUnavailable, Poison.
    """
    comparison = await comparer.topic(clock.now_ms(), limits.behind_ms)
    await comparer.table(comparison)
    if not comparison.exists:
        raise LakeUnavailable(
            f"the catalog has no table {reader.row.name}; `./sightline lake register` attaches the one that lies in "
            "the warehouse, `./sightline lake up` makes an empty one"
        )
    absent = {number: sets.absent() for number, sets in comparison.sets.items()}
    wanted = absent if force else {number: comparison.sets[number].settled(bits) for number, bits in absent.items()}
    appender = RowAppender(reader.table, codec, prefix)
    await _bring(reader.row.topic, wanted, log, appender)
    appended = appender.rows
    await asyncio.to_thread(appender.commit, Beside.NOBODY if force else Beside.SINK)
    doubled = {number: sets.doubled for number, sets in comparison.sets.items() if sets.doubled}
    removed = await asyncio.to_thread(_single, reader, doubled) if doubled else 0
    late = sum(len(bits - comparison.sets[number].waiting(bits) - wanted[number]) for number, bits in absent.items())
    return Repaired(reader.row.name, appended, removed, late)


async def _bring(topic: str, wanted: Mapping[int, BitMap64], log: TopicLog, appender: RowAppender) -> None:
    first = {number: bits.min() for number, bits in wanted.items() if bits}
    if not first:
        return
    last = {number: bits.max() + 1 for number, bits in wanted.items() if bits}
    records: list[SourceRecord] = []
    try:
        async with aclosing(
            log.scan(topic, AtOffsets(first), AtOffsets({**await log.starts(topic), **last}))
        ) as topic_records:
            async for record in topic_records:
                if record.partition in last and record.offset in wanted[record.partition]:
                    records.append(record)
                if len(records) >= _AT_ONCE:
                    await asyncio.to_thread(appender.write, records)
                    records = []
        await asyncio.to_thread(appender.write, records)
    except BaseException:
        await asyncio.to_thread(appender.abandon)
        raise


def _single(reader: TableReader, doubled: Mapping[int, BitMap64]) -> int:
    def look() -> list[Chosen]:
        seen = {number: BitMap64() for number in doubled}

        def beyond_the_first(batch: Any) -> Mask:
            partitions = batch.column(KAFKA_PARTITION).fill_null(-1).to_numpy(zero_copy_only=False)
            offsets = batch.column(KAFKA_OFFSET).fill_null(-1).to_numpy(zero_copy_only=False)
            mask = np.zeros(len(offsets), np.bool_)
            for number, bits in doubled.items():
                here = np.flatnonzero((partitions == number) & (offsets >= 0))
                for index in here[contains(bits, offsets[here])]:
                    offset = int(offsets[index])
                    mask[index] = offset in seen[number]
                    seen[number].add(offset)
            return mask

        return choose(reader, (), beyond_the_first)

    return len(remove_rows(reader, look))
