"""Removal of rows: their files are rewritten without them and replaced in one snapshot.

Copy on write needs no support in readers, and the rows' bytes disappear with the snapshots of the old files. Blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.exceptions import CommitFailedException, ValidationException
from pyiceberg.expressions import BooleanExpression
from pyiceberg.manifest import DataFile
from pyiceberg.table import FileScanTask

from app.domain.lake import KAFKA_OFFSET, KAFKA_PARTITION
from app.errors import LakeUnavailable
from app.lake.iceberg.catalog import lake_errors
from app.lake.iceberg.commit import ATTEMPTS, delete_files, replace_files
from app.lake.iceberg.read import TableReader
from app.lake.iceberg.write import FileWriter

# A row group has about 130 MB in Arrow.
_GROUP_ROWS: Final = 65_536
Mask = npt.NDArray[np.bool_]
# Selection of rows in a batch. May keep state; created again for each pass over the table.
Choice = Callable[[Any], Mask]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Selected rows of one file."""

    task: FileScanTask
    mask: Mask
    coordinates: tuple[tuple[int, int], ...]

    @property
    def whole(self) -> bool:
        """True if all rows of the file are selected."""
        return bool(self.mask.all())


def choose(
    reader: TableReader, columns: Sequence[str], choice: Choice, matching: BooleanExpression | None = None
) -> list[Chosen]:
    """Return the files with rows that `choice` selects, among files that `matching` admits. Raises LakeUnavailable.

    Memory: one byte per row of those files, and the coordinates of the selected rows.
    """
    names = list(dict.fromkeys((*columns, KAFKA_PARTITION, KAFKA_OFFSET)))
    chosen = []
    for task in reader.tasks(matching):
        masks: list[Mask] = []
        coordinates: list[tuple[int, int]] = []
        for batch in reader.batches(task, names):
            mask = choice(batch)
            masks.append(mask)
            if mask.any():
                rows = batch.filter(pa.array(mask))
                coordinates += zip(
                    rows.column(KAFKA_PARTITION).to_pylist(), rows.column(KAFKA_OFFSET).to_pylist(), strict=True
                )
        if coordinates:
            chosen.append(Chosen(task, np.concatenate(masks), tuple(coordinates)))
    return chosen


def remove_rows(reader: TableReader, look: Callable[[], list[Chosen]]) -> list[tuple[int, int]]:
    """Remove the rows that `look` selects. Return their coordinates.

    Repeats until `look` selects nothing, which covers concurrent changes. A pass whose commit fails changes nothing.
    Raises LakeUnavailable.
    """
    gone: list[tuple[int, int]] = []
    for _ in range(ATTEMPTS):
        reader.require()
        chosen = look()
        if not chosen:
            return gone
        if _exchanged(reader, chosen):
            gone += [place for each in chosen for place in each.coordinates]
    raise LakeUnavailable(f"others changed {reader.row.name} {ATTEMPTS} times in the meantime; try again")


def _exchanged(reader: TableReader, chosen: Sequence[Chosen]) -> bool:
    table = reader.table
    spec = table.metadata.default_spec_id
    if any(each.task.file.spec_id != spec for each in chosen):
        raise LakeUnavailable(
            f"{reader.row.name} has files of a former partition layout; rewrite them with your engine"
        )
    added: list[DataFile] = []
    with lake_errors(f"taking rows out of {reader.row.name}"):
        try:
            added += [_without(reader, each) for each in chosen if not each.whole]
            replace_files(table, [each.task.file for each in chosen], added, same_rows=False)
        except ValidationException:
            # One of the files was replaced concurrently; the next pass finds the rows in their new file.
            delete_files(table, added)
            return False
        except CommitFailedException:
            delete_files(table, added)
            raise
    return True


def _without(reader: TableReader, chosen: Chosen) -> DataFile:
    writer = FileWriter(reader.table, chosen.task.file.partition)
    position, waiting, rows = 0, [], 0
    try:
        for batch in reader.batches(chosen.task):
            kept = ~chosen.mask[position : position + batch.num_rows]
            position += batch.num_rows
            waiting.append(batch.filter(pa.array(kept)))
            rows += waiting[-1].num_rows
            if rows >= _GROUP_ROWS:
                writer.write(pa.Table.from_batches(waiting))
                waiting, rows = [], 0
        if rows:
            writer.write(pa.Table.from_batches(waiting))
        return writer.close()
    except BaseException:
        writer.abandon()
        raise


def is_any(batch: Any, column: str, values: frozenset[str]) -> Mask:
    """Return a mask of the rows with one of `values` in a text column; all false if the table lacks the column."""
    if column not in batch.schema.names:
        return np.zeros(batch.num_rows, np.bool_)
    matches: Mask = (
        pc.is_in(batch.column(column), value_set=pa.array(sorted(values), batch.column(column).type))
        .fill_null(False)
        .to_numpy(zero_copy_only=False)
    )
    return matches
