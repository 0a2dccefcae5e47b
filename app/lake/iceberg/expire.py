"""Which snapshots may go, and letting them go. Files stay until `lake gc` finds that nothing refers to them."""

from __future__ import annotations

from collections.abc import Iterator

from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import ancestors_of

from app.lake.iceberg.catalog import lake_errors
from app.lake.iceberg.commit import with_fresh_table
from app.lake.iceberg.read import TableReader, sink_properties


def expire_snapshots(reader: TableReader, before_ms: int) -> int:
    """Remove the snapshots made before `before_ms` that may go, and return how many. Blocks. Raises LakeUnavailable.

    Others may commit meanwhile: a snapshot is newer than what is looked at, or it is not touched.
    """

    def once(table: Table) -> int:
        ids = expirable(table.metadata, before_ms)
        if ids:
            table.maintenance.expire_snapshots().by_ids(ids).commit()
        return len(ids)

    with lake_errors(f"expiring snapshots of {reader.row.name}"):
        return with_fresh_table(reader.table, once)


def expirable(metadata: TableMetadata, before_ms: int) -> list[int]:
    """Return the snapshots older than `before_ms` without those that have to stay.

    The current one stays, the head of each branch and each tag, and from each of these the line back to the nearest
    snapshot that has the sink's progress: its coordinator walks that line, and must not find a gap in it.
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
