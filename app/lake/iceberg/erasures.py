"""The table `erasures`: the coordinates of erased rows, and nothing of their content.

`lake verify` counts those coordinates as erased instead of missing, and `lake repair` does not restore them. Blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog import Catalog
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import IntegerType, LongType, NestedField, StringType, TimestamptzType

from app.domain.lake import KAFKA_OFFSET, KAFKA_PARTITION, LakeTable
from app.lake.iceberg.catalog import full_name, lake_errors, load_table, make_namespace
from app.lake.iceberg.commit import append_files
from app.lake.iceberg.read import TableReader, equal
from app.lake.iceberg.write import write_rows
from app.settings import Settings

# It has no topic, so it is not among the lake's tables, and no connector writes it.
ERASURES: Final = LakeTable("erasures", "", "")
_SCHEMA: Final = Schema(
    NestedField(1, "table_name", StringType(), doc="The table that the row was in."),
    NestedField(2, KAFKA_PARTITION, IntegerType(), doc="The partition that it had come from."),
    NestedField(3, KAFKA_OFFSET, LongType(), doc="Its offset there."),
    NestedField(4, "erased_at", TimestamptzType(), doc="When it was erased."),
)
_ARROW: Final = pa.schema(
    [
        ("table_name", pa.string()),
        (KAFKA_PARTITION, pa.int32()),
        (KAFKA_OFFSET, pa.int64()),
        ("erased_at", pa.timestamp("us", "UTC")),
    ]
)


class Erasures:
    """Record of erased rows, by table."""

    def __init__(self, catalog: Catalog, settings: Settings) -> None:
        self._catalog, self._settings = catalog, settings

    def of(self, table_name: str) -> Iterator[tuple[Any, Any]]:
        """Yield partitions and offsets of the erased rows of one table. Raises LakeUnavailable."""
        reader = TableReader(self._catalog, self._settings, ERASURES)
        if not reader.open():
            return
        for task in reader.tasks(equal("table_name", table_name)):
            for batch in reader.batches(task):
                rows = batch.filter(pc.equal(batch.column("table_name"), table_name))
                yield (
                    rows.column(KAFKA_PARTITION).cast(pa.int64()).to_numpy(zero_copy_only=False),
                    rows.column(KAFKA_OFFSET).to_numpy(zero_copy_only=False),
                )

    def record(self, table_name: str, coordinates: Sequence[tuple[int, int]], at_ms: int) -> None:
        """Record that rows of `table_name` are erased. Raises LakeUnavailable."""
        table = self._made()
        at = datetime.fromtimestamp(at_ms / 1000, UTC)
        rows = pa.Table.from_pylist(
            [
                {"table_name": table_name, KAFKA_PARTITION: partition, KAFKA_OFFSET: offset, "erased_at": at}
                for partition, offset in coordinates
            ],
            schema=_ARROW,
        )
        with lake_errors("noting what was erased"):
            append_files(table, write_rows(table, rows))

    def _made(self) -> Table:
        settings = self._settings
        table = load_table(self._catalog, settings, ERASURES)
        if table is not None:
            return table
        with lake_errors("creating the table erasures"):
            make_namespace(self._catalog, settings)
            return self._catalog.create_table_if_not_exists(full_name(settings, ERASURES), _SCHEMA)
