"""Input of a SQL engine for each table: metadata file, snapshot, columns.

The catalog is read once. All functions block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from app.domain.lake import TABLES, LakeTable
from app.errors import ConfigurationError
from app.lake.iceberg.catalog import iceberg_schema, load_table, open_catalog
from app.lake.iceberg.read import moment
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class TableScan:
    """One table at one snapshot. Without `metadata` there is nothing to read, for the reason in `absent`."""

    table: LakeTable
    metadata: str
    location: str
    snapshot_id: int | None
    snapshot_ms: int | None
    files: int
    rows: int
    bytes: int
    absent: str

    @property
    def readable(self) -> bool:
        """True if there are rows to read."""
        return bool(self.metadata)


def table_scans(settings: Settings, *, snapshot_id: int | None = None, at_ms: int | None = None) -> list[TableScan]:
    """Return the state of every table: present, at a time, or at the time of one table's snapshot.

    Raises ConfigurationError for a snapshot that no table has, LakeUnavailable.
    """
    catalog = open_catalog(settings)
    tables = [(row, load_table(catalog, settings, row)) for row in TABLES]
    if snapshot_id is not None:
        at_ms = _time_of(snapshot_id, [table for _, table in tables if table is not None])
    return [_scan(row, table, snapshot_id, at_ms) for row, table in tables]


def empty_rows(table: LakeTable) -> Any:
    """Return an Arrow table without rows and with the columns of `table`."""
    return iceberg_schema(table).as_arrow().empty_table()


def _time_of(snapshot_id: int, tables: Sequence[Table]) -> int:
    for table in tables:
        snapshot = table.snapshot_by_id(snapshot_id)
        if snapshot is not None:
            return snapshot.timestamp_ms
    raise ConfigurationError(f"no table has the snapshot {snapshot_id}; `./sightline lake tables` lists what there is")


def _scan(row: LakeTable, table: Table | None, snapshot_id: int | None, at_ms: int | None) -> TableScan:
    if table is None:
        return _nothing(row, "", "the catalog has no such table yet")
    if at_ms is None:
        snapshot = table.current_snapshot()
        why = "nothing has been written to it yet"
    else:
        wanted = table.snapshot_by_id(snapshot_id) if snapshot_id is not None else None
        snapshot = wanted or table.snapshot_as_of_timestamp(at_ms)
        oldest = min((snapshot.timestamp_ms for snapshot in table.metadata.snapshots), default=None)
        why = f"it has no snapshot of that time; its oldest is of {moment(oldest)}" if oldest else "it has no snapshot"
    if snapshot is None:
        return _nothing(row, table.location(), why)
    total = _totals(snapshot)
    return TableScan(
        row,
        table.metadata_location,
        table.location(),
        snapshot.snapshot_id,
        snapshot.timestamp_ms,
        total("total-data-files"),
        total("total-records"),
        total("total-files-size"),
        "",
    )


def _nothing(row: LakeTable, location: str, why: str) -> TableScan:
    return TableScan(row, "", location, None, None, 0, 0, 0, why)


def _totals(snapshot: Snapshot) -> Any:
    summary = snapshot.summary

    def total(name: str) -> int:
        return int((summary.get(name) if summary is not None else None) or 0)

    return total
