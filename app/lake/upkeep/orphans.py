"""Files below a table's folder that nothing refers to: found for `lake verify`, deleted by `lake gc`.

Kills of Connect, expired snapshots and lost commits leave them. What might still be committed is never among them.
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
    """A file younger than `age_ms` stays; and a data file that the sink may yet commit.

    That is one written since `commit_ms` before the sink's last commit: as long as its coordinator cannot commit, files
    that it knows of wait, longer than any age one would think of.
    """

    age_ms: int
    commit_ms: int


@dataclass(frozen=True, slots=True)
class Rubbish:
    """What may go."""

    files: tuple[LakeFile, ...]
    uploads: tuple[HalfUpload, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of the files."""
        return sum(file.size_bytes for file in self.files)


async def find_rubbish(reader: TableReader, store: LakeStore, clock: Clock, bounds: Bounds) -> Rubbish:
    """Return what may go of one table; the listing is read once, page by page, and only candidates are kept.

    Raises StoreUnavailable; LakeUnavailable when the catalog has no such table or it cannot be read wholly, or when the
    folder holds files of another table: a catalog that was wiped and made anew would else cost the data that can still
    be attached again.
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
    # Read again after the listing: what was committed meanwhile is in use.
    await asyncio.to_thread(reader.open)
    in_use = await asyncio.to_thread(referenced_files, reader.table)
    uploads = [upload async for upload in store.half_uploads(folder) if now_ms - upload.begun_ms > bounds.age_ms]
    return Rubbish(tuple(file for file in orphans if file.path not in in_use), tuple(uploads))


async def remove(rubbish: Rubbish, store: LakeStore) -> None:
    """Delete the files and end the uploads. Raises StoreUnavailable; repeating it goes on where it ended."""
    await store.delete([file.path for file in rubbish.files])
    for upload in rubbish.uploads:
        await store.abort(upload)


def _may_be_committed(file: LakeFile, folder: str, sink_ms: int | None, bounds: Bounds) -> bool:
    if not file.path.startswith(f"{folder}data/"):
        return False
    return sink_ms is None or file.modified_ms > sink_ms - bounds.commit_ms
