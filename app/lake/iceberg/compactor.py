"""Compaction of a day: its small files are read, sorted on disk, rewritten and replaced in one snapshot.

Memory: 32 bytes per row of a group (its sort keys) and some row groups. The rows themselves are sorted with files in a
temporary folder. Equality of the rows is verified on what was written, not on what was planned.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.conversions import from_bytes
from pyiceberg.exceptions import CommitFailedException, ValidationException
from pyiceberg.manifest import DataFile
from pyiceberg.table import FileScanTask
from pyiceberg.types import PrimitiveType

from app.domain.compaction import Candidate, Group
from app.domain.lake import KAFKA_OFFSET, KAFKA_PARTITION
from app.errors import LakeUnavailable
from app.lake.iceberg.catalog import lake_errors
from app.lake.iceberg.commit import delete_files, replace_files
from app.lake.iceberg.read import TableReader, day_of
from app.lake.iceberg.write import FileWriter

# A row has about 2 KB in Arrow: 128 MB while a row group is sorted and written.
_GROUP_ROWS: Final = 65_536
_EVENT_TIME: Final = "event_time_ms"
_RANK: Final = "__rank"
_Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Joined:
    """Result for one group."""

    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    rows: int


class Compactor:
    """Compactor of files of one table. All methods block and raise LakeUnavailable."""

    def __init__(self, reader: TableReader, spill_dir: Path | None = None) -> None:
        self._reader = reader
        self._spill_dir = spill_dir
        self._tasks: dict[str, FileScanTask] = {}

    def days(self) -> dict[str, list[Candidate]]:
        """Return the present files of the table, by day.

        Excludes files of a former partition layout, and files from which another engine deleted rows.
        """
        self._reader.require()
        spec = self._reader.table.metadata.default_spec_id
        self._tasks = {
            task.file.file_path: task
            for task in self._reader.tasks()
            if task.file.spec_id == spec and not task.delete_files
        }
        by_day: dict[str, list[Candidate]] = {}
        for path, task in self._tasks.items():
            by_day.setdefault(day_of(task.file), []).append(
                Candidate(path, task.file.file_size_in_bytes, self._begin(task.file))
            )
        return by_day

    def join(self, group: Group) -> Joined | None:
        """Replace the files of a group by new ones. Return None if one of them was removed concurrently.

        Changes nothing else in the table, and nothing at all if it fails.
        """
        tasks = [self._tasks[path] for path in group.paths]
        table = self._reader.table
        with lake_errors(f"joining {len(tasks)} files of {self._reader.row.name}"):
            added, rows = self._rewritten(tasks, group.outputs)
            try:
                table.refresh()
                replace_files(table, [task.file for task in tasks], added, same_rows=True)
            except ValidationException:
                delete_files(table, added)
                return None
            except CommitFailedException:
                delete_files(table, added)
                raise
        return Joined(
            len(tasks),
            len(added),
            sum(task.file.file_size_in_bytes for task in tasks),
            sum(file.file_size_in_bytes for file in added),
            rows,
        )

    def _rewritten(self, tasks: Sequence[FileScanTask], outputs: int) -> tuple[list[DataFile], int]:
        before, rank = self._ranks(tasks)
        rows = len(rank)
        each = -(-rows // outputs)
        bucket = -(-each // max(1, -(-each // _GROUP_ROWS)))
        added: list[DataFile] = []
        writer: FileWriter | None = None
        with tempfile.TemporaryDirectory(prefix="lake-compact-", dir=self._spill_dir) as folder:
            try:
                for number, part in enumerate(self._sorted(tasks, rank, bucket, Path(folder))):
                    if writer is not None and number * bucket // each != (number - 1) * bucket // each:
                        added.append(writer.close())
                        writer = None
                    if writer is None:
                        writer = FileWriter(self._reader.table, tasks[0].file.partition)
                    writer.write(part)
                if writer is not None:
                    added.append(writer.close())
                    writer = None
                after = self._digest_of(FileScanTask(file) for file in added)
                if after != before:
                    raise LakeUnavailable(
                        f"{rows} rows of {self._reader.row.name} were not the same after they were written; nothing "
                        "was changed"
                    )
            except BaseException:
                if writer is not None:
                    writer.abandon()
                delete_files(self._reader.table, added)
                raise
        return added, rows

    def _ranks(self, tasks: Sequence[FileScanTask]) -> tuple[int, _Numbers]:
        """Return the checksum of the rows, and for each row in reading order its position in the sorted order."""
        event_time = self._event_time()
        columns = [KAFKA_PARTITION, KAFKA_OFFSET, *([event_time] if event_time else [])]
        parts: list[list[_Numbers]] = [[] for _ in columns]
        for task in tasks:
            for batch in self._reader.batches(task, columns):
                for values, name in zip(parts, columns, strict=True):
                    values.append(_numbers(batch.column(name)))
        keys = [np.concatenate(values) if values else np.empty(0, np.int64) for values in parts]
        digest = _digest(keys[0], keys[1])
        # The last key has the highest rank: event time if there is one, then partition and offset.
        order = np.lexsort([keys[1], keys[0], *keys[2:]])
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order), dtype=np.int64)
        return digest, rank

    def _sorted(self, tasks: Sequence[FileScanTask], rank: _Numbers, bucket: int, folder: Path) -> Iterator[Any]:
        """Yield the rows in order, `bucket` at a time. First they are distributed to one file per bucket."""
        writers: dict[int, Any] = {}
        position = 0
        try:
            for task in tasks:
                for batch in self._reader.batches(task):
                    places = rank[position : position + batch.num_rows]
                    position += batch.num_rows
                    ranked = pa.Table.from_batches([batch]).append_column(_RANK, pa.array(places))
                    for number in np.unique(places // bucket):
                        some = ranked.filter(pa.array(places // bucket == number))
                        if number not in writers:
                            options = pa.ipc.IpcWriteOptions(compression="zstd")
                            writers[number] = pa.ipc.new_stream(
                                str(folder / str(number)), ranked.schema, options=options
                            )
                        writers[number].write_table(some)
        finally:
            for writer in writers.values():
                writer.close()
        for number in sorted(writers):
            file = folder / str(number)
            with pa.ipc.open_stream(str(file)) as stream:
                part = stream.read_all()
            file.unlink()
            yield part.take(pc.sort_indices(part.column(_RANK))).drop_columns([_RANK])

    def _digest_of(self, tasks: Iterator[FileScanTask]) -> int:
        total = 0
        for task in tasks:
            for batch in self._reader.batches(task, (KAFKA_PARTITION, KAFKA_OFFSET)):
                total += _digest(_numbers(batch.column(KAFKA_PARTITION)), _numbers(batch.column(KAFKA_OFFSET)))
        return total & _WHOLE

    def _event_time(self) -> str | None:
        return _EVENT_TIME if _EVENT_TIME in self._reader.table.schema().column_names else None

    def _begin(self, file: DataFile) -> int:
        field = self._reader.table.schema().find_field(self._event_time() or KAFKA_OFFSET)
        bound = (file.lower_bounds or {}).get(field.field_id)
        if bound is None or not isinstance(field.field_type, PrimitiveType):
            return 0
        return int(from_bytes(field.field_type, bound))


_WHOLE: Final = (1 << 64) - 1


def _numbers(column: Any) -> _Numbers:
    plain = column.cast(pa.int64()) if pa.types.is_timestamp(column.type) or column.type != pa.int64() else column
    numbers: _Numbers = plain.fill_null(-1).to_numpy(zero_copy_only=False)
    return numbers


def _digest(partitions: _Numbers, offsets: _Numbers) -> int:
    """Return a checksum of coordinates that is independent of order and changes if a row is lost, doubled or exchanged.

    It adds splitmix64 of each pair; a plain sum would not notice two offsets that changed in opposite directions.
    """
    with np.errstate(over="ignore"):
        value = offsets.astype(np.uint64) + partitions.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        value ^= value >> np.uint64(31)
        return int(value.sum(dtype=np.uint64)) + len(offsets) & _WHOLE
