"""What `lake verify` counts: records of a topic against rows of its table, and the rules that make it pass or fail."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from pyroaring import BitMap64

from app.lake.upkeep.offset_sets import between
from app.topics import PREDICTIONS


@dataclass(slots=True)
class PartitionSets:
    """Offsets of one partition, as they were met. `low` to `end` is what the topic held when it was looked at."""

    low: int
    end: int
    records: BitMap64 = field(default_factory=BitMap64)
    rows: BitMap64 = field(default_factory=BitMap64)
    doubled: BitMap64 = field(default_factory=BitMap64)
    erased: BitMap64 = field(default_factory=BitMap64)
    # Of the records: published so lately that no commit has to have them yet; and not before what the sink says that
    # it has wholly.
    recent: BitMap64 = field(default_factory=BitMap64)
    beyond: BitMap64 = field(default_factory=BitMap64)
    # Rows beyond the first of one offset; a row may be there three times.
    doubles: int = 0
    # What the sink's group would read next; -1: it has committed nothing.
    committed: int = -1

    def absent(self) -> BitMap64:
        """Return the records without a row that nobody erased."""
        return self.records - self.rows - self.erased

    def waiting(self, absent: BitMap64) -> BitMap64:
        """Return those of `absent` that the sink has not read, or has read and need not have committed yet."""
        unread = between(absent, max(self.committed, self.low), self.end)
        return unread | (absent & self.recent & self.beyond)

    def settled(self, absent: BitMap64) -> BitMap64:
        """Return those of `absent` that the sink says it has committed: what `lake repair` may bring."""
        return between(absent, 0, max(self.committed, 0)) - self.beyond


@dataclass(frozen=True, slots=True)
class PartitionSums:
    """The count of one partition."""

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
    """The count of one table. `faults` are sentences, each of which alone makes it not agree.

    Of the rows between what the topic still holds: `records - erased = rows - extra + missing + waiting`. `older` rows
    came from records that the topic no longer has; they are looked at for doubles only, which count as extra.
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
        """Rows too many."""
        return self.doubles + self.foreign

    @property
    def agrees(self) -> bool:
        """Whether table and topic say the same."""
        return not (self.missing or self.extra or self.faults)


def lines(sums: TableSums) -> list[str]:
    """Return one table for people: what is wrong first, the sums last."""
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
