"""Sums of `lake verify`: records of a topic and rows of its table, and the rules for success."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from pyroaring import BitMap64

from app.lake.upkeep.offset_sets import between
from app.topics import PREDICTIONS


@dataclass(slots=True)
class PartitionSets:
    """Offsets of one partition, as sets. `low` to `end` is the range of the topic at the time of reading."""

    low: int
    end: int
    records: BitMap64 = field(default_factory=BitMap64)
    rows: BitMap64 = field(default_factory=BitMap64)
    doubled: BitMap64 = field(default_factory=BitMap64)
    erased: BitMap64 = field(default_factory=BitMap64)
    # Records that are too young to be required in a commit; records at or after the sink's time of completeness.
    recent: BitMap64 = field(default_factory=BitMap64)
    beyond: BitMap64 = field(default_factory=BitMap64)
    # Number of rows beyond the first of their offset; one offset may have three rows.
    doubles: int = 0
    # Committed offset of the sink's group; -1: none.
    committed: int = -1

    def absent(self) -> BitMap64:
        """Return the records without a row that were not erased."""
        return self.records - self.rows - self.erased

    def waiting(self, absent: BitMap64) -> BitMap64:
        """Return the part of `absent` that the sink has not read, or need not have committed yet."""
        unread = between(absent, max(self.committed, self.low), self.end)
        return unread | (absent & self.recent & self.beyond)

    def settled(self, absent: BitMap64) -> BitMap64:
        """Return the part of `absent` that the sink has confirmed, which `lake repair` may add."""
        return between(absent, 0, max(self.committed, 0)) - self.beyond


@dataclass(frozen=True, slots=True)
class PartitionSums:
    """Sums of one partition."""

    partition: int
    records: int
    rows: int
    missing: int
    extra: int
    waiting: int
    erased: int
    older: int


@dataclass(frozen=True, slots=True)
class TableSums:
    """Sums of one table. Each of the sentences in `faults` makes the table disagree.

    For the records that the topic still holds: `records - erased = rows - extra + missing + waiting`. `older` rows
    belong to records that the topic no longer has; they are checked only for duplicates, which count as extra.
    """

    table: str
    topic: str
    records: int
    rows: int
    missing: int
    doubles: int
    foreign: int
    waiting: int
    erased: int
    older: int
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    orphans: int = 0
    small_files: dict[str, int] = field(default_factory=dict)
    partitions: tuple[PartitionSums, ...] = ()

    @property
    def extra(self) -> int:
        """Number of surplus rows."""
        return self.doubles + self.foreign

    @property
    def agrees(self) -> bool:
        """True if table and topic agree."""
        return not (self.missing or self.extra or self.faults)


def lines(sums: TableSums) -> list[str]:
    """Return the sums of one table as text: faults first, totals last."""
    text = [f"{sums.table}: {sentence}" for sentence in (*sums.faults, *sums.notes)]
    text += [
        f"{sums.table}: partition {part.partition}: records={part.records} rows={part.rows} "
        f"missing={part.missing} extra={part.extra}"
        for part in sums.partitions
        if part.missing or part.extra
    ]
    if sums.small_files:
        worst = max(sums.small_files, key=lambda day: sums.small_files[day])
        text.append(
            f"{sums.table}: {sum(sums.small_files.values())} small files on {len(sums.small_files)} days, most on "
            f"{worst or 'no day'}: {sums.small_files[worst]}; `./sightline lake compact` joins them"
        )
    line = "" if sums.topic == PREDICTIONS else f"{sums.table}: "
    line += f"{'outcomes' if sums.topic == PREDICTIONS else 'records'}={sums.records} rows={sums.rows} "
    line += f"missing={sums.missing} extra={sums.extra}"
    for name in ("waiting", "erased", "older", "orphans"):
        if getattr(sums, name):
            line += f" {name}={getattr(sums, name)}"
    return [*text, line]


def as_json(sums: TableSums) -> dict[str, Any]:
    """Return one table as a JSON object."""
    return {**dataclasses.asdict(sums), "extra": sums.extra, "agrees": sums.agrees}
