"""Expiry of snapshots. Their files stay until `lake gc` finds that nothing refers to them."""

from __future__ import annotations

from collections.abc import Iterator

from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import ancestors_of

from app.lake.iceberg.catalog import lake_errors
from app.lake.iceberg.commit import with_fresh_table
from app.lake.iceberg.read import TableReader, sink_properties


def expire_snapshots(reader: TableReader, before_ms: int) -> int:
    """Remove the expendable snapshots made before `before_ms`, return their number. Blocks. Raises LakeUnavailable.

    Safe beside concurrent commits, which only create newer snapshots.
    """

    def once(table: Table) -> int:
        ids = expirable(table.metadata, before_ms)
        if ids:
            table.maintenance.expire_snapshots().by_ids(ids).commit()
        return len(ids)

    with lake_errors(f"expiring snapshots of {reader.row.name}"):
        return with_fresh_table(reader.table, once)


def expirable(metadata: TableMetadata, before_ms: int) -> list[int]:
    """Return the snapshots older than `before_ms` that are not needed.

    Needed are the current snapshot, the head of each branch and each tag, and all ancestors of these back to the
    nearest snapshot with the sink's progress: the sink's coordinator follows that line, which must have no gap.
    """
    kept = set(_kept(metadata))
    return [
        snapshot.snapshot_id
        for snapshot in metadata.snapshots
        if snapshot.timestamp_ms < before_ms and snapshot.snapshot_id not in kept
    ]


def _kept(metadata: TableMetadata) -> Iterator[int]:
    heads = {ref.snapshot_id for ref in metadata.refs.values()}
    if metadata.current_snapshot_id is not None:
        heads.add(metadata.current_snapshot_id)
    for head in heads:
        yield head
        line = []
        for snapshot in ancestors_of(metadata.snapshot_by_id(head), metadata):
            line.append(snapshot.snapshot_id)
            if sink_properties(snapshot):
                yield from line
                break
