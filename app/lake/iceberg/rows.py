"""Kafka records as rows of their table, with the same values as Kafka Connect writes.

A column that the record's version lacks is null, even if a later version has a default, because Connect sees only what
was written. Times become timestamps in UTC; nested records and arrays become structs and lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import pyarrow as pa
from pyiceberg.exceptions import CommitFailedException, ValidationException
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from app.domain.lake import KAFKA_OFFSET, KAFKA_PARTITION, KAFKA_TIMESTAMP, KAFKA_TOPIC
from app.lake.iceberg.catalog import lake_errors
from app.lake.iceberg.commit import Beside, append_files, delete_files
from app.lake.iceberg.write import write_rows
from app.ports.records import SourceRecord
from app.systems.registry.avro import Codec

_MICROSECONDS: Final = 1_000


def rows_of(schema: Schema, records: Iterable[SourceRecord], codec: Codec, prefix: str) -> Any:
    """Return records of one topic as an Arrow table in the columns of `schema`.

    `prefix` is the installation's prefix of topic names; a row contains the name on the broker. Raises Poison.
    """
    rows = []
    for record in records:
        _, fields = codec.fields(record.value)
        rows.append(
            {
                **fields,
                KAFKA_TOPIC: prefix + record.topic,
                KAFKA_PARTITION: record.partition,
                KAFKA_OFFSET: record.offset,
                KAFKA_TIMESTAMP: record.timestamp_ms,
            }
        )
    columns = schema_to_pyarrow(schema, include_field_ids=False)
    return pa.table(
        [pa.array([_value(row.get(field.name), field.type) for row in rows], field.type) for field in columns],
        schema=columns,
    )


class RowAppender:
    """Appender of rows to a table in its state at creation: writes in parts, commits once.

    All methods block and raise LakeUnavailable. Files of a failed commit are deleted.
    """

    def __init__(self, table: Table, codec: Codec, prefix: str) -> None:
        self._table, self._codec, self._prefix = table, codec, prefix
        self._files: list[DataFile] = []
        self.rows = 0

    def write(self, records: Sequence[SourceRecord]) -> None:
        """Write the rows of some records into files of their days. Raises Poison too."""
        if not records:
            return
        rows = rows_of(self._table.schema(), records, self._codec, self._prefix)
        with lake_errors(f"writing {rows.num_rows} rows of {'.'.join(self._table.name())}"):
            self._files += write_rows(self._table, rows)
        self.rows += rows.num_rows

    def commit(self, beside: Beside = Beside.ANYONE) -> None:
        """Commit all rows in one snapshot, or none."""
        if not self._files:
            return
        with lake_errors(f"appending {self.rows} rows to {'.'.join(self._table.name())}"):
            try:
                append_files(self._table, self._files, beside)
            except (CommitFailedException, ValidationException):
                # After any other failure it is unknown whether the commit succeeded.
                self.abandon()
                raise

    def abandon(self) -> None:
        """Delete what was written."""
        delete_files(self._table, self._files)
        self._files, self.rows = [], 0


def _value(value: Any, kind: Any) -> Any:
    if value is None:
        return None
    if pa.types.is_timestamp(kind):
        return value * _MICROSECONDS
    if pa.types.is_struct(kind):
        return {field.name: _value(value.get(field.name), field.type) for field in kind}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [_value(part, kind.value_type) for part in value]
    return value
