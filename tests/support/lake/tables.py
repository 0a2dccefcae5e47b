"""A lake of made records: rows as Kafka Connect writes them, appended by pyiceberg or given to DuckDB directly."""

from __future__ import annotations

import dataclasses
import itertools
import typing
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.io.pyarrow import write_file
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionFieldValue, PartitionKey
from pyiceberg.table import Table, WriteTask

from app.domain.lake import KAFKA_OFFSET, KAFKA_PARTITION, KAFKA_TIMESTAMP, KAFKA_TOPIC, TABLES, LakeTable, table_named
from app.lake.iceberg.catalog import create_tables, iceberg_schema, load_table, open_catalog
from app.lake.sql.duckdb_session import Duck
from app.lake.sql.session import views_of
from app.settings import LakeSettings, Settings, load_settings
from schemas.records import Record

DAY_MS: Final = 86_400_000
_DAY_MICROSECONDS: Final = DAY_MS * 1000
# A record and when it was published, Unix ms.
Published = tuple[Record, int]


def lake_in_folder(folder: Path) -> Settings:
    """Return settings of a lake in files below `folder`: what the settings refuse, and tests need no server for."""
    lake = LakeSettings(catalog_uri=str(folder / "catalog.db"), warehouse=f"file://{folder}/warehouse", sql_threads=1)
    return dataclasses.replace(load_settings({}), lake=lake)


def rows_of(table: LakeTable, records: Sequence[Published], first_offset: int = 0) -> Any:
    """Return the rows that the sink writes for records of one partition, as an Arrow table."""
    rows = []
    for offset, (record, published_ms) in enumerate(records, first_offset):
        row = _plain(record)
        row |= {
            KAFKA_TOPIC: table.topic,
            KAFKA_PARTITION: 0,
            KAFKA_OFFSET: offset,
            KAFKA_TIMESTAMP: _time(published_ms),
        }
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=iceberg_schema(table).as_arrow())


def _plain(record: Record) -> dict[str, Any]:
    hints = typing.get_type_hints(type(record))
    row = dataclasses.asdict(record)
    return {
        name: _time(value) if name.endswith("_ms") and hints[name] in (int, int | None) else value
        for name, value in row.items()
    }


def _time(moment_ms: int | None) -> datetime | None:
    return None if moment_ms is None else datetime.fromtimestamp(moment_ms / 1000, UTC)


class MadeLake:
    """The five tables in a catalog and a warehouse, filled by a test."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.catalog = open_catalog(settings)
        create_tables(self.catalog, settings)
        self._offsets: dict[str, int] = {}

    def table(self, name: str) -> Table:
        """Return a table as it is."""
        found = load_table(self.catalog, self.settings, table_named(name))
        assert found is not None
        return found

    def append(self, name: str, records: Sequence[Published]) -> int:
        """Append rows in one snapshot, one file for each day of publication; returns the snapshot's id."""
        first = self._offsets.get(name, 0)
        self._offsets[name] = first + len(records)
        self.append_rows(name, rows_of(table_named(name), records, first))
        snapshot = self.table(name).current_snapshot()
        assert snapshot is not None
        return snapshot.snapshot_id

    def append_rows(self, name: str, rows: Any) -> None:
        """Append rows as they are: also those that are there already."""
        table = self.table(name)
        with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
            for file in write_by_day(table, rows):
                append.append_data_file(file)

    def replace_day(self, name: str, day_ms: int, rows: Any) -> None:
        """Put rows in the place of all that were published on a UTC day, in one overwriting snapshot."""
        table = self.table(name)
        old = [task.file for task in table.scan().plan_files() if task.file.partition[0] == day_ms // DAY_MS]
        with table.transaction() as transaction, transaction.update_snapshot().overwrite() as change:
            for file in old:
                change.delete_data_file(file)
            for file in write_by_day(table, rows):
                change.append_data_file(file)

    def fill(self, records: Mapping[str, Sequence[Published]]) -> None:
        """Append the records of every table, by name."""
        for name, published in records.items():
            self.append(name, published)


def write_by_day(table: Table, rows: Any) -> list[DataFile]:
    """Write one file for each UTC day of publication; pyiceberg's own way needs a package that is not pinned."""
    spec = table.spec()
    field = spec.fields[0]
    days = pc.floor(pc.divide(rows[KAFKA_TIMESTAMP].cast(pa.int64()).cast(pa.float64()), float(_DAY_MICROSECONDS)))
    days = days.cast(pa.int32())
    numbers = itertools.count()

    def tasks() -> Iterator[WriteTask]:
        for day in sorted(pc.unique(days).to_pylist()):
            part = rows.filter(pc.equal(days, day)).combine_chunks()
            key = PartitionKey([PartitionFieldValue(field, day)], spec, table.schema())
            yield WriteTask(
                write_uuid=uuid.uuid4(),
                task_id=next(numbers),
                schema=table.schema(),
                record_batches=part.to_batches(),
                partition_key=key,
            )

    return list(write_file(table.io, table.metadata, tasks()))


def lake_in_memory(records: Mapping[str, Sequence[Published]], settings: Settings | None = None) -> Duck:
    """Return DuckDB with the views over these records, without files and catalog; the caller closes it."""
    settings = load_settings({}) if settings is None else settings
    duck = Duck(settings.lake, settings.s3)
    for table in TABLES:
        duck.add_rows(table, rows_of(table, records.get(table.name, ())))
    for view in views_of(settings):
        duck.define(view.statement())
    return duck


def rows_by_name(duck: Duck, sql: str) -> list[dict[str, Any]]:
    """Return the rows of a query, each by the names of its columns."""
    answer = duck.query(sql)
    names = [column.name for column in answer.columns]
    return [dict(zip(names, row, strict=True)) for row in answer.rows()]
