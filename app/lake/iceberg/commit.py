"""Commits beside the sink: files replaced or added in one snapshot that carries the sink's own progress on.

Kafka Connect's coordinator finds its progress in snapshot summaries, from the current one back through the parents.
Each snapshot of ours repeats what its parent line says, taken from the very parent that it is committed on, also when
another commit came in between: so expiry of what lies behind it never makes the coordinator forget, and an older word
never stands before a newer one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Final, TypeVar

from pyiceberg.exceptions import CommitFailedException, ValidationException
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation, Summary, ancestors_of
from pyiceberg.table.update.snapshot import _FastAppendFiles, _OverwriteFiles, _SnapshotProducer
from pyiceberg.typedef import EMPTY_DICT

from app.errors import LakeUnavailable
from app.lake.iceberg.read import SINK_COMMIT, VALID_THROUGH, sink_properties

# The sink commits every few minutes and takes a second or so; ten tries in a row lose to nobody who is well.
ATTEMPTS: Final = 10
_T = TypeVar("_T")


def replace_files(table: Table, removed: Sequence[DataFile], added: Sequence[DataFile], *, same_rows: bool) -> None:
    """Put `added` in the place of `removed`, in one snapshot; files that others add meanwhile stay.

    `same_rows`: the snapshot is a `replace` (readers of changes skip it), else an `overwrite`. Raises
    ValidationException when one of `removed` is no longer in the table, CommitFailedException when others were faster
    ten times; then nothing is changed, and the files of `added` are the caller's to delete.
    """
    transaction = table.transaction()
    producer = _Replace(Operation.OVERWRITE, transaction, table.io)
    producer.same_rows = same_rows
    for file in removed:
        producer.delete_data_file(file)
    for file in added:
        producer.append_data_file(file)
    producer.commit()
    transaction.commit_transaction()


class Beside(Enum):
    """Whose rows may have come into the table since `table` was read, for an append that was planned on that."""

    ANYONE = "anyone"
    SINK = "the sink"
    NOBODY = "nobody"


def append_files(table: Table, added: Sequence[DataFile], beside: Beside = Beside.ANYONE) -> None:
    """Add files in one snapshot; none is a snapshot that only drops manifests in which no file lives.

    Raises ValidationException when rows came that `beside` does not allow: what was to be added may be there now.
    """
    transaction = table.transaction()
    producer = _Append(Operation.APPEND, transaction, table.io)
    producer.beside = beside
    for file in added:
        producer.append_data_file(file)
    producer.commit()
    transaction.commit_transaction()


def delete_files(table: Table, files: Sequence[DataFile]) -> None:
    """Delete data files that were never committed, as far as the store lets us; `lake gc` finds the rest."""
    for file in files:
        try:
            table.io.delete(file.file_path)
        except OSError:
            continue


def with_fresh_table(table: Table, change: Callable[[Table], _T]) -> _T:
    """Return what `change` returns, called again with the table as it is whenever another commit was in its way.

    For changes that plan anew each time. Raises LakeUnavailable after ten tries.
    """
    last: Exception | None = None
    for _ in range(ATTEMPTS):
        table.refresh()
        try:
            return change(table)
        except (CommitFailedException, ValidationException) as error:
            last = error
    raise LakeUnavailable(
        f"others committed to {'.'.join(table.name())} {ATTEMPTS} times meanwhile, nothing was changed; try again"
    ) from last


def progress_behind(metadata: TableMetadata, snapshot_id: int | None) -> dict[str, str]:
    """Return the sink's properties of the nearest snapshot that has them, from `snapshot_id` back.

    With the moment up to which it last called itself complete, should that snapshot not say one.
    """
    start = None if snapshot_id is None else metadata.snapshot_by_id(snapshot_id)
    kept: dict[str, str] = {}
    for snapshot in ancestors_of(start, metadata):
        properties = sink_properties(snapshot)
        kept = kept or properties
        if VALID_THROUGH in properties:
            return {**kept, VALID_THROUGH: properties[VALID_THROUGH]}
    return kept


class _KeepsProgress(_SnapshotProducer[Any]):
    """A snapshot whose summary repeats the sink's properties of its parent; made anew for each attempt."""

    def _summary(self, snapshot_properties: dict[str, str] = EMPTY_DICT) -> Summary:
        kept = progress_behind(self._transaction.table_metadata, self._parent_snapshot_id)
        return super()._summary({**kept, **snapshot_properties})


class _Append(_KeepsProgress, _FastAppendFiles):
    """An append that keeps the sink's progress."""

    beside = Beside.ANYONE

    def _validate_concurrency(self) -> None:
        window = self._commit_window
        if self.beside is Beside.ANYONE or window is None or window.head is None:
            return
        metadata = self._transaction._table.metadata
        for snapshot in ancestors_of(window.head, metadata):
            if window.base is not None and snapshot.snapshot_id == window.base.snapshot_id:
                return
            if snapshot.summary is not None and snapshot.summary.operation is Operation.REPLACE:
                continue
            progress = sink_properties(snapshot)
            # The sink's own: it says what no snapshot behind it said.
            behind = progress_behind(metadata, snapshot.parent_snapshot_id)
            own = progress and progress.get(SINK_COMMIT) != behind.get(SINK_COMMIT)
            if not (own and self.beside is Beside.SINK):
                raise ValidationException(f"rows came into the table meanwhile, in snapshot {snapshot.snapshot_id}")


class _Replace(_KeepsProgress, _OverwriteFiles):
    """Replaces exactly the named files. What others append meanwhile is no conflict: we took nothing of it away."""

    same_rows = False

    def _summary(self, snapshot_properties: dict[str, str] = EMPTY_DICT) -> Summary:
        summary = super()._summary(snapshot_properties)
        if not self.same_rows:
            return summary
        # pyiceberg sums the totals for overwrites only; both operations have the same.
        return Summary(operation=Operation.REPLACE, **summary.additional_properties)

    def _validate_concurrency(self) -> None:
        """Refuse row deletions that came meanwhile; that the files to replace are there is checked at each attempt."""
        from pyiceberg.table.update.validate import _validate_no_new_deletes_for_data_files

        window = self._commit_window
        if window is None or window.is_empty() or window.head is None:
            return
        _validate_no_new_deletes_for_data_files(
            self._transaction._table, window.head, None, self._deleted_data_files, window.base
        )
