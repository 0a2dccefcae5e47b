"""Orphans: files below a table's folder that nothing refers to. `lake verify` counts them, `lake gc` deletes them.

They result from kills of Connect, expired snapshots and lost commits. Files that may still be committed are excluded.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from app.errors import LakeUnavailable
from app.lake.iceberg.read import TableReader
from app.lake.iceberg.references import (
    METADATA_ENDING,
    other_locations,
    referenced_files,
    strangers,
    table_location,
)
from app.ports.clock import Clock
from app.systems.s3.files import HalfUpload, LakeFile, LakeStore


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits: a file younger than `age_ms` stays, and so does a data file that the sink may still commit.

    That is a file written since `commit_ms` before the sink's last commit: while its coordinator cannot commit, its
    files wait, possibly for longer than `age_ms`.
    """

    age_ms: int
    commit_ms: int


@dataclass(frozen=True, slots=True)
class Rubbish:
    """Files and uploads that may be deleted."""

    files: tuple[LakeFile, ...]
    uploads: tuple[HalfUpload, ...]

    @property
    def size_bytes(self) -> int:
        """Total size of the files."""
        return sum(file.size_bytes for file in self.files)


async def find_rubbish(reader: TableReader, store: LakeStore, clock: Clock, bounds: Bounds) -> Rubbish:
    """Return the orphans of one table. The listing is read once, in pages, and only candidates are kept in memory.

    Raises StoreUnavailable. Raises LakeUnavailable if the catalog has no such table, if the table cannot be read
    completely, or if the folder contains files of another table: after the loss of a catalog, deletion would destroy
    tables that can still be registered.
    """
    await asyncio.to_thread(reader.require)
    folder = table_location(reader.table)
    in_use = await asyncio.to_thread(referenced_files, reader.table)
    others = await asyncio.to_thread(other_locations, reader.table)
    progress = await asyncio.to_thread(reader.progress)
    now_ms = clock.now_ms()
    orphans = [
        file
        async for file in store.list(folder)
        if file.path not in in_use
        and now_ms - file.modified_ms > bounds.age_ms
        and not file.path.startswith(others)
        and not _may_be_committed(file, folder, progress.sink_snapshot_ms, bounds)
    ]
    foreign = [file.path for file in orphans if file.path.endswith(METADATA_ENDING)]
    foreign = await asyncio.to_thread(strangers, reader.table, foreign)
    if foreign:
        raise LakeUnavailable(
            f"{folder} holds {len(foreign)} metadata files of another table, such as {foreign[0]}: was the catalog "
            "wiped and the table made anew? Attach the former one with `./sightline lake register`, or delete its "
            "files by hand; nothing was deleted"
        )
    # Read again after the listing, because files may have been committed in the meantime.
    await asyncio.to_thread(reader.open)
    in_use = await asyncio.to_thread(referenced_files, reader.table)
    uploads = [upload async for upload in store.half_uploads(folder) if now_ms - upload.begun_ms > bounds.age_ms]
    return Rubbish(tuple(file for file in orphans if file.path not in in_use), tuple(uploads))


async def remove(rubbish: Rubbish, store: LakeStore) -> None:
    """Delete the files and abort the uploads. Can be repeated after a failure. Raises StoreUnavailable."""
    await store.delete([file.path for file in rubbish.files])
    for upload in rubbish.uploads:
        await store.abort(upload)


def _may_be_committed(file: LakeFile, folder: str, sink_ms: int | None, bounds: Bounds) -> bool:
    if not file.path.startswith(f"{folder}data/"):
        return False
    return sink_ms is None or file.modified_ms > sink_ms - bounds.commit_ms
