"""Kafka records as rows of their table, with the same values as Kafka Connect makes of them.

A column that a record's version did not have is null, also where a later version has a default: Connect sees only what
was written. Times become timestamps in UTC; records and arrays within records become structs and lists.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import pyarrow as pa
from pyiceberg.exceptions import CommitFailedException, ValidationException
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from app.adapters.avro import Codec
from app.adapters.iceberg_commit import append_files, delete_files
from app.adapters.iceberg_read import lake_errors
from app.adapters.iceberg_write import write_rows
from app.domain.lake import KAFKA_OFFSET, KAFKA_PARTITION, KAFKA_TIMESTAMP, KAFKA_TOPIC
from app.ports import SourceRecord

_MICROSECONDS: Final = 1_000


def rows_of(schema: Schema, records: Iterable[SourceRecord], codec: Codec, prefix: str) -> Any:
    """Return records of one topic as an Arrow table in the columns of `schema`.

    `prefix` is what the installation puts before topic names: a row tells the name on the broker. Raises Poison.
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


def append_rows(table: Table, rows: Any) -> None:
    """Append rows to their days, in one snapshot beside whatever others commit. Blocks. Raises LakeUnavailable.

    All or none: what was written for a commit that failed is deleted.
    """
    if not rows.num_rows:
        return
    with lake_errors(f"appending {rows.num_rows} rows to {'.'.join(table.name())}"):
        written = write_rows(table, rows)
        try:
            append_files(table, written)
        except (CommitFailedException, ValidationException):
            # Of any other failure it is not known whether the commit came through.
            delete_files(table, written)
            raise


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
