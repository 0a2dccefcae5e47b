"""Reads the archive as Kafka would be read: records in offset order, partition after partition."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from app.archive.partitions import ObjectArchive
from app.errors import ArchiveBroken
from app.ports.records import SourceRecord

# A file is written after its records; so much may the clocks of producers and store disagree.
_CLOCKS_MS: Final = 86_400_000


class ArchiveReader:
    """Topic names are without the installation's `prefix`, as in `TopicLog`. Memory: one file at a time."""

    def __init__(self, archive: ObjectArchive, prefix: str = "") -> None:
        self._archive = archive
        self._prefix = prefix

    async def read(
        self,
        topic: str,
        *,
        partition: int | None = None,
        first: int = 0,
        end: int | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> AsyncGenerator[SourceRecord, None]:
        """Yield the records of `topic` (of one `partition`) with offsets from `first` up to `end` and timestamps from
        `since_ms` up to `until_ms`, both ends exclusive.

        What no file covers is passed over: `app.domain.archive.faults` tells. Raises ArchiveBroken where two files
        cover one offset, and the store's errors. Close it (`aclosing`) when it is left early.
        """
        reached: dict[int, int] = {}
        modified_since_ms = 0 if since_ms is None else since_ms - _CLOCKS_MS
        async with aclosing(self._archive.files(self._prefix + topic, modified_since_ms, partition)) as files:
            async for file in files:
                covered = file.range
                if covered.start < reached.get(covered.partition, 0):
                    raise ArchiveBroken(f"{file.key} covers offsets that the file before it covers too")
                reached[covered.partition] = covered.end
                if covered.end <= first or (end is not None and covered.start >= end):
                    continue
                for record in await self._archive.records(file):
                    if (
                        first <= record.offset
                        and (end is None or record.offset < end)
                        and (since_ms is None or record.timestamp_ms >= since_ms)
                        and (until_ms is None or record.timestamp_ms < until_ms)
                    ):
                        yield replace(record, topic=topic)
