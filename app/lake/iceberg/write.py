"""Writer of data files, row group by row group, with the statistics for a manifest.

pyiceberg writes a file in one piece and needs a native library for day partitions; this writes rows as they arrive.
"""

from __future__ import annotations

import uuid
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.io.pyarrow import ParquetFormatModel, _to_requested_schema
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table
from pyiceberg.typedef import Record

from app.domain.lake import KAFKA_TIMESTAMP

_MODEL: Final = ParquetFormatModel()


class FileWriter:
    """Writer of one data file in the partition `partition` (of the table's present spec). Blocks.

    Nothing refers to the file before `close` and a commit. Call `abandon` for a writer that is not closed.
    """

    def __init__(self, table: Table, partition: Record) -> None:
        self._table, self._partition = table, partition
        self._schema = table.schema()
        spec = table.spec()
        folder = spec.partition_to_path(partition, self._schema)
        name = f"{folder}/{uuid.uuid4()}.parquet" if folder else f"{uuid.uuid4()}.parquet"
        self.path = table.location_provider().new_data_location(name)
        self._output = table.io.new_output(self.path)
        self._writer = _MODEL.create_writer(self._output, self._schema, table.properties)

    def write(self, rows: Any) -> None:
        """Write an Arrow table in the table's schema as separate row groups."""
        batches = [
            _to_requested_schema(self._schema, self._schema, batch, include_field_ids=True, format_model=_MODEL)
            for batch in rows.to_batches()
        ]
        self._writer.write(pa.Table.from_batches(batches))

    def close(self) -> DataFile:
        """Finish the file and return its entry for a commit."""
        statistics = self._writer.close()
        return DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=self.path,
            file_format=FileFormat.PARQUET,
            partition=self._partition,
            file_size_in_bytes=len(self._output),
            sort_order_id=None,
            spec_id=self._table.metadata.default_spec_id,
            equality_ids=None,
            key_metadata=None,
            **statistics.to_serialized_dict(),
        )

    def abandon(self) -> None:
        """Delete what was written. Does not raise during an outage of the store (`lake gc` deletes the file)."""
        try:
            self._writer.close()
        except (OSError, ValueError):
            return
        try:
            self._table.io.delete(self.path)
        except OSError:
            return


def write_rows(table: Table, rows: Any) -> list[DataFile]:
    """Write an Arrow table into one file per day (into a single file if the table has no day partitions)."""
    files = []
    if table.spec().is_unpartitioned():
        parts = [(Record(), rows)]
    else:
        days = pc.cast(pc.floor_temporal(rows.column(KAFKA_TIMESTAMP), unit="day"), pa.date32())
        numbers = pc.cast(days, pa.int32())
        parts = [
            (Record(number.as_py()), rows.filter(pc.equal(numbers, number) if number.is_valid else pc.is_null(numbers)))
            for number in pc.unique(numbers)
        ]
    for partition, part in parts:
        writer = FileWriter(table, partition)
        writer.write(part)
        files.append(writer.close())
    return files
