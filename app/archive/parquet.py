"""Files of the archive as Parquet, by pyarrow: raw keys and values by offset. Blocks; call it in a thread."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from app.errors import ArchiveBroken
from app.ports.records import SourceRecord

_SCHEMA: Final = pa.schema(
    [
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("timestamp_ms", pa.int64(), nullable=False),
        pa.field("key", pa.binary()),
        # The bytes as on the topic: Avro behind the five bytes of Confluent's framing.
        pa.field("value", pa.binary()),
    ]
)


def encode(records: Sequence[SourceRecord], metadata: Mapping[str, str]) -> bytes:
    """Return a file of `records` that carries `metadata`."""
    table = pa.table(
        {
            "offset": pa.array([record.offset for record in records], pa.int64()),
            "timestamp_ms": pa.array([record.timestamp_ms for record in records], pa.int64()),
            "key": pa.array([record.key for record in records], pa.binary()),
            "value": pa.array([record.value for record in records], pa.binary()),
        },
        schema=_SCHEMA.with_metadata({f"sightline.{name}": value for name, value in metadata.items()}),
    )
    # Keys and values are nearly all different: a dictionary of them would only be given up half-way.
    held = io.BytesIO()
    pq.write_table(table, held, compression="zstd", use_dictionary=False)
    return held.getvalue()


def decode(body: bytes, topic: str, partition: int) -> tuple[dict[str, str], list[SourceRecord]]:
    """Return the metadata and the records of a file. Raises ArchiveBroken where it is none."""
    try:
        table = pq.read_table(pa.BufferReader(body))
        columns: list[list[Any]] = [table.column(field.name).to_pylist() for field in _SCHEMA]
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ArchiveBroken(f"a file of {topic}/{partition} is no Parquet file of the archive: {error}") from error
    metadata = {
        name.decode().removeprefix("sightline."): value.decode()
        for name, value in (table.schema.metadata or {}).items()
        if name.startswith(b"sightline.")
    }
    return metadata, [SourceRecord(topic, partition, *row) for row in zip(*columns, strict=True)]
