"""Reader of an Iceberg table in bounded memory: its files, some columns of their rows, and the sink's progress.

Reads one file after the other, some thousand rows at a time. All functions block; errors of libraries become
LakeUnavailable.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import AlwaysTrue, BooleanExpression, EqualTo
from pyiceberg.io.pyarrow import ArrowScan, _to_requested_schema, pyarrow_to_schema
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema, prune_columns
from pyiceberg.table import FileScanTask, Table
from pyiceberg.table.snapshots import Snapshot, ancestors_of
from pyiceberg.types import ListType, MapType

from app.domain.lake import KAFKA_OFFSET, KAFKA_PARTITION, LakeTable
from app.errors import LakeUnavailable
from app.lake.iceberg.catalog import lake_errors, load_table
from app.settings import Settings

# Properties that the sink writes into the summary of its snapshots: kafka.connect.offsets.<control topic>.<group>,
# commit-id, task-id, valid-through-ts. Its coordinator searches for the offsets from the current snapshot back through
# the parents, and skips records before them. If it finds none, it uses the offsets of its consumer group.
SINK_PREFIX: Final = "kafka.connect."
SINK_OFFSETS: Final = "kafka.connect.offsets."
SINK_COMMIT: Final = "kafka.connect.commit-id"
VALID_THROUGH: Final = "kafka.connect.valid-through-ts"
# 8,192 rows of about 2 KB are 16 MB of Arrow; a reader holds one batch and the compressed bytes of one row group.
BATCH_ROWS: Final = 8_192
_EPOCH: Final = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """Data file: path, size, number of rows, UTC day (ISO)."""

    path: str
    size_bytes: int
    rows: int
    day: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Time of the last commit, and the sink's progress in its newest snapshots.

    `valid_through_ms`: all records published before this time are in the table. A commit in which a partition had no
    records lacks it, so it may be absent or some commits old.
    """

    snapshot_ms: int | None
    sink_snapshot_ms: int | None
    valid_through_ms: int | None


class TableReader:
    """Reader of one table in its state at the last `open`. Not thread-safe."""

    def __init__(self, catalog: Catalog, settings: Settings, row: LakeTable) -> None:
        self._catalog, self._settings, self.row = catalog, settings, row
        self._table: Table | None = None

    def open(self) -> bool:
        """Load the present state of the table. Return False if the catalog has no table. Raises LakeUnavailable."""
        self._table = load_table(self._catalog, self._settings, self.row)
        return self._table is not None

    def require(self) -> Self:
        """Load the present state of the table. Raises LakeUnavailable also if the catalog has no table.

        For callers that must not mistake a lost table for an empty one.
        """
        if not self.open():
            raise LakeUnavailable(
                f"the catalog has no table {self.row.name}; `./sightline lake register` attaches the one that lies in "
                "the warehouse"
            )
        return self

    @property
    def table(self) -> Table:
        """Table of pyiceberg, for the other adapters. Only after `open` returned True."""
        assert self._table is not None, "open the table first"
        return self._table

    def progress(self) -> Progress:
        """Return the sink's progress."""
        metadata = self.table.metadata
        current = metadata.current_snapshot()
        commit: str | None = None
        sink_ms: int | None = None
        valid: str | None = None
        for snapshot in ancestors_of(current, metadata):
            properties = sink_properties(snapshot)
            if not properties:
                continue
            # Other snapshots repeat the sink's progress; its own commit is the oldest with the same commit id.
            same = commit is None or properties.get(SINK_COMMIT) == commit
            if same:
                commit, sink_ms = properties.get(SINK_COMMIT), snapshot.timestamp_ms
            valid = valid or properties.get(VALID_THROUGH)
            if valid is not None and not same:
                break
        return Progress(
            None if current is None else current.timestamp_ms,
            sink_ms,
            None if valid is None else int(datetime.fromisoformat(valid).timestamp() * 1000),
        )

    def files(self) -> list[StoredFile]:
        """Return all data files of the table."""
        return [stored_file(task.file) for task in self.tasks()]

    def tasks(self, matching: BooleanExpression | None = None) -> list[FileScanTask]:
        """Return the data files in which rows may match, by partition and bounds; all without `matching`."""
        with lake_errors(f"reading the manifests of {self.row.name}"):
            scan = self.table.scan(row_filter=AlwaysTrue() if matching is None else matching)
            return [task for task in scan.plan_files() if isinstance(task, FileScanTask)]

    def coordinates(self) -> Iterator[tuple[Any, Any]]:
        """Yield partitions and offsets of all rows as two arrays of integers; a row without them has -1."""
        for task in self.tasks():
            for batch in self.batches(task, (KAFKA_PARTITION, KAFKA_OFFSET)):
                yield tuple(
                    batch.column(name).fill_null(-1).cast(pa.int64()).to_numpy(zero_copy_only=False)
                    for name in (KAFKA_PARTITION, KAFKA_OFFSET)
                )

    def batches(self, task: FileScanTask, columns: Sequence[str] | None = None) -> Iterator[Any]:
        """Yield the rows of a file as record batches in the table's present schema, or some top-level columns."""
        table = self.table
        schema = table.schema() if columns is None else table.schema().select(*columns)
        with lake_errors(f"reading {task.file.file_path}"):
            if task.delete_files:
                # Another engine deleted rows. Rare; pyiceberg applies the deletion with the whole file in memory.
                yield from ArrowScan(table.metadata, table.io, schema, AlwaysTrue()).to_record_batches([task])
            else:
                yield from _parquet_batches(table, task.file.file_path, schema)


def _parquet_batches(table: Table, path: str, schema: Schema) -> Iterator[Any]:
    with table.io.new_input(path).open() as opened, pq.ParquetFile(opened) as parquet:
        written = pyarrow_to_schema(
            parquet.schema_arrow, table.metadata.name_mapping(), downcast_ns_timestamp_to_us=True
        )
        # A file from before a column was added lacks it.
        wanted = {number for number in schema.field_ids if not isinstance(schema.find_type(number), ListType | MapType)}
        present = prune_columns(written, wanted, select_full_types=False)
        names = [field.name for field in present.fields]
        for batch in parquet.iter_batches(BATCH_ROWS, columns=names):
            if not batch.num_rows:
                continue
            yield _to_requested_schema(
                schema, present, batch, downcast_ns_timestamp_to_us=True, allow_timestamp_tz_mismatch=True
            )


def equal(column: str, value: str) -> BooleanExpression:
    """Return the condition that a column has a value."""
    # The class accepts positional arguments, which its generated signature does not show.
    make: Any = EqualTo
    condition: BooleanExpression = make(column, value)
    return condition


def sink_properties(snapshot: Snapshot) -> dict[str, str]:
    """Return the sink's properties in the summary of this snapshot (written or repeated); empty without any."""
    summary = snapshot.summary
    if summary is None:
        return {}
    properties = {
        name: str(value) for name, value in summary.additional_properties.items() if name.startswith(SINK_PREFIX)
    }
    return properties if any(name.startswith(SINK_OFFSETS) for name in properties) else {}


def stored_file(file: DataFile) -> StoredFile:
    """Return path, size, row count and day of a data file."""
    return StoredFile(file.file_path, file.file_size_in_bytes, file.record_count, day_of(file))


def day_of(file: DataFile) -> str:
    """Return the UTC day of a file's partition, as ISO; empty without one."""
    number = file.partition[0] if len(file.partition) else None
    return "" if number is None else (_EPOCH + timedelta(days=int(number))).isoformat()


def moment(unix_ms: int) -> str:
    """Return a time as ISO text in UTC."""
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
