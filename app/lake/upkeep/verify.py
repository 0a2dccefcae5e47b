"""Verification of the lake: each record of a topic has exactly one row, and the sink keeps up."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from app.lake.iceberg.read import TableReader, moment
from app.lake.upkeep.compare import Comparer, Comparison, partition_sums
from app.lake.upkeep.orphans import Bounds, find_rubbish
from app.lake.upkeep.sums import TableSums
from app.ports.clock import Clock
from app.settings import LakeSettings
from app.systems.s3.files import LakeStore

_PAUSE_SECONDS: Final = 2.0
_HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits for tables that are behind, for orphans and for small files."""

    behind_ms: int
    rubbish: Bounds
    small_bytes: int

    @classmethod
    def of(cls, settings: LakeSettings) -> Limits:
        """Return the limits that the settings set."""
        behind_ms = int(settings.behind_seconds * 1000)
        return cls(behind_ms, Bounds(int(settings.orphan_hours * _HOUR_MS), behind_ms), settings.target_file_bytes // 4)


async def verify(
    comparer: Comparer, reader: TableReader, store: LakeStore, clock: Clock, limits: Limits, *, wait_seconds: float
) -> TableSums:
    """Return the sums of one table. While records wait for their rows, read the table again, for up to `wait_seconds`.

    The topic is read once, up to its end at the start. Records that wait after the wait count as missing. Raises
    BrokerUnavailable, StartupRefused, LakeUnavailable, StoreUnavailable.
    """
    deadline = clock.monotonic() + wait_seconds
    comparison = await comparer.topic(clock.now_ms(), limits.behind_ms)
    while True:
        await comparer.table(comparison)
        absent = sum(len(sets.absent()) for sets in comparison.sets.values())
        if not absent or clock.monotonic() >= deadline:
            break
        await clock.sleep(min(_PAUSE_SECONDS, max(0.0, deadline - clock.monotonic())))
    return await _sums(comparison, reader, store, clock, limits, waited=wait_seconds > 0)


async def _sums(
    comparison: Comparison, reader: TableReader, store: LakeStore, clock: Clock, limits: Limits, *, waited: bool
) -> TableSums:
    row = reader.row
    parts = partition_sums(comparison)
    missing, waiting = sum(part.missing for part in parts), sum(part.waiting for part in parts)
    faults: list[str] = []
    notes: list[str] = []
    if waited or not comparison.exists:
        missing, waiting = missing + waiting, 0
    if not comparison.exists:
        if missing:
            faults.append(
                "the catalog has no such table, and its topic has records: `./sightline lake register` attaches the "
                "table again that lies in the warehouse, `./sightline lake up` makes an empty one"
            )
    else:
        faults += _stale(comparison, row.connector, clock.now_ms(), limits)
    if missing and comparison.exists:
        notes.append("`./sightline lake repair` brings what is missing from the topic, as long as the topic holds it")
    doubles = sum(sets.doubles for sets in comparison.sets.values())
    foreign = sum(comparison.foreign.values()) + comparison.strays
    if doubles:
        notes.append(f"{doubles} rows are there twice; `./sightline lake repair` leaves one of each")
    if foreign:
        notes.append(f"{foreign} rows have coordinates that the topic never had: written by hand, or of another topic")
    orphans, small = await _files(reader, store, clock, limits) if comparison.exists else (0, {})
    if orphans:
        faults.append(f"{orphans} files belong to no snapshot; `./sightline lake gc` deletes them")
    return TableSums(
        row.name,
        row.topic,
        records=sum(part.records for part in parts),
        rows=sum(part.rows for part in parts) + comparison.strays,
        missing=missing,
        doubles=doubles,
        foreign=foreign,
        waiting=waiting,
        erased=sum(part.erased for part in parts),
        older=sum(part.older for part in parts),
        faults=tuple(faults),
        notes=tuple(notes),
        orphans=orphans,
        small_files=small,
        partitions=parts,
    )


def _stale(comparison: Comparison, row: str, now_ms: int, limits: Limits) -> list[str]:
    """Return sentences about a sink that stands still although it should have committed records."""
    faults = []
    newest, progress = comparison.newest_settled_ms, comparison.progress
    late = sum(len(sets.waiting(sets.absent()) - sets.recent) for sets in comparison.sets.values())
    limit = f"{limits.behind_ms / 1000:g} s"
    if late:
        faults.append(f"{late} records wait longer than {limit} for the sink: look at the tasks of connector {row}")
    if newest is None:
        return faults
    if progress.snapshot_ms is None or (
        progress.snapshot_ms < newest and now_ms - progress.snapshot_ms > limits.behind_ms
    ):
        when = "never" if progress.snapshot_ms is None else f"last at {moment(progress.snapshot_ms)}"
        faults.append(f"committed {when}, longer ago than {limit}, and the topic has records since")
    valid = progress.valid_through_ms
    if valid is not None and valid < newest and now_ms - valid > limits.behind_ms and late:
        faults.append(f"the sink says that it is complete up to {moment(valid)} only, longer ago than {limit}")
    return faults


async def _files(reader: TableReader, store: LakeStore, clock: Clock, limits: Limits) -> tuple[int, dict[str, int]]:
    """Return the number of orphans, and the number of small data files by day."""
    rubbish = await find_rubbish(reader, store, clock, limits.rubbish)
    small: dict[str, int] = {}
    counts: dict[str, int] = {}
    for stored in await asyncio.to_thread(reader.files):
        counts[stored.day] = counts.get(stored.day, 0) + 1
        if stored.size_bytes < limits.small_bytes:
            small[stored.day] = small.get(stored.day, 0) + 1
    # A day with a single file may have a small one.
    return len(rubbish.files), {day: count for day, count in small.items() if counts[day] > 1}
