"""Commits concurrent with the sink: files are replaced or added in one snapshot that repeats the sink's progress.

Kafka Connect's coordinator searches for its progress in snapshot summaries, from the current one back through the
parents. Each snapshot made here repeats the progress of the parent on which it is committed, even after a concurrent
commit. So expiry of earlier snapshots never loses the progress, and older progress never hides newer progress.
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

# The sink commits every few minutes and takes about a second, so ten consecutive attempts cannot all collide with it.
ATTEMPTS: Final = 10
_T = TypeVar("_T")


def replace_files(table: Table, removed: Sequence[DataFile], added: Sequence[DataFile], *, same_rows: bool) -> None:
    """Replace `removed` by `added` in one snapshot. Concurrently added files stay.

    `same_rows`: the snapshot is a `replace` (readers of changes skip it), else an `overwrite`. Raises
    ValidationException if one of `removed` is no longer in the table, CommitFailedException after ten collisions. Then
    the table is unchanged, and the caller must delete the files of `added`.
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
    """Writers whose rows may have been added since the table was read on which an append was planned."""

    ANYONE = "anyone"
    SINK = "the sink"
    NOBODY = "nobody"


def append_files(table: Table, added: Sequence[DataFile], beside: Beside = Beside.ANYONE) -> None:
    """Add files in one snapshot. Without files, the snapshot only drops manifests without live files.

    Raises ValidationException after additions that `beside` does not allow: the rows may already be in the table.
    """
    transaction = table.transaction()
    producer = _Append(Operation.APPEND, transaction, table.io)
    producer.beside = beside
    for file in added:
        producer.append_data_file(file)
    producer.commit()
    transaction.commit_transaction()


def delete_files(table: Table, files: Sequence[DataFile]) -> None:
    """Delete data files that were never committed. Ignores failures; `lake gc` deletes the rest."""
    for file in files:
        try:
            table.io.delete(file.file_path)
        except OSError:
            continue


def with_fresh_table(table: Table, change: Callable[[Table], _T]) -> _T:
    """Return the result of `change`, which is repeated with the new state of the table after each collision.

    For changes that plan again at each attempt. Raises LakeUnavailable after ten attempts.
    """
    last: Exception | None = None
    for _ in range(ATTEMPTS):
        table.refresh()
        try:
            return change(table)
        except (CommitFailedException, ValidationException) as error:
            last = error
    raise LakeUnavailable(
        f"others committed to {'.'.join(table.name())} {ATTEMPTS} times in the meantime, nothing was changed; try again"
    ) from last


def progress_behind(metadata: TableMetadata, snapshot_id: int | None) -> dict[str, str]:
    """Return the sink's properties of the nearest snapshot that has them, from `snapshot_id` back.

    If that snapshot lacks the time of completeness, it is taken from an earlier one.
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
    """Snapshot whose summary repeats the sink's properties of its parent; created again for each attempt."""

    def _summary(self, snapshot_properties: dict[str, str] = EMPTY_DICT) -> Summary:
        kept = progress_behind(self._transaction.table_metadata, self._parent_snapshot_id)
        return super()._summary({**kept, **snapshot_properties})


class _Append(_KeepsProgress, _FastAppendFiles):
    """Append that keeps the sink's progress."""

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
            # The snapshot is the sink's own if it contains a commit id that no earlier snapshot has.
            behind = progress_behind(metadata, snapshot.parent_snapshot_id)
            own = progress and progress.get(SINK_COMMIT) != behind.get(SINK_COMMIT)
            if not (own and self.beside is Beside.SINK):
                raise ValidationException(
                    f"rows were added to the table in the meantime, in snapshot {snapshot.snapshot_id}"
                )


class _Replace(_KeepsProgress, _OverwriteFiles):
    """Replacement of exactly the named files. Concurrent appends are no conflict."""

    same_rows = False

    def _summary(self, snapshot_properties: dict[str, str] = EMPTY_DICT) -> Summary:
        summary = super()._summary(snapshot_properties)
        if not self.same_rows:
            return summary
        # pyiceberg computes totals for overwrites only; those of a replace are the same.
        return Summary(operation=Operation.REPLACE, **summary.additional_properties)

    def _validate_concurrency(self) -> None:
        """Refuse concurrent row deletions. Each attempt checks that the files to be replaced exist."""
        from pyiceberg.table.update.validate import _validate_no_new_deletes_for_data_files

        window = self._commit_window
        if window is None or window.is_empty() or window.head is None:
            return
        _validate_no_new_deletes_for_data_files(
            self._transaction._table, window.head, None, self._deleted_data_files, window.base
        )
