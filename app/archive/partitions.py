"""The archive in an object store: chains of Parquet files, each written once, found again by listing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from app.archive.parquet import decode, encode
from app.domain.archive import FileRange, folder_of, name_of, place_of, range_of
from app.errors import ArchiveBroken, BucketUnavailable, ObjectUnavailable, StartupRefused
from app.ports.archive import AddedFile
from app.ports.objects import FetchedObject, ObjectRef, WriteOnceStore
from app.ports.records import SourceRecord

# Where a writer reads on lies in a file or at its end, and most files are within a page of names (1,000) from there.
_LOOK_BACK: Final = 1_000
_LOOK_BACK_FACTOR: Final = 16
# HEADs under way at once while files are told: some milliseconds each.
_HEADS: Final = 32
_TOPIC_ID: Final = "topic-id"
_PROBE: Final = "conditional-put-probe"
# More than any file: its bytes are bounded before compression (SIGHTLINE_ARCHIVE_FILE_BYTES and one record more).
_MAX_FILE_BYTES: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file as the store tells it."""

    range: FileRange
    key: str
    size_bytes: int
    modified_ms: int


class ObjectArchive:
    """Archive on a WriteOnceStore. `topic_ids` are what Kafka calls the topics: a chain belongs to one of them."""

    def __init__(
        self, store: WriteOnceStore, bucket: str, prefix: str, topic_ids: Mapping[str, str] | None = None
    ) -> None:
        self._store = store
        self._bucket = bucket
        self._prefix = prefix
        self._topic_ids = topic_ids or {}

    async def check(self) -> None:
        """Return when the store writes objects once and what it holds is of these very topics.

        Everything here rests on that: a store that ignores `If-None-Match` would let a writer that woke up late
        replace what others wrote. Raises StartupRefused, or what `add` raises.
        """
        key = f"{self._prefix.strip('/')}/{_PROBE}"
        told = {"holds": "what the archive asks the store with, before each start, whether it heeds If-None-Match"}
        # The first may find the probe of an earlier start; whatever it says, the second must be refused.
        try:
            await self._store.put_new(self._bucket, key, b"sightline", told)
        except BucketUnavailable as error:
            raise StartupRefused(
                f"cannot write to s3://{self._bucket}/{self._prefix} ({error}): make the bucket with "
                f"`./sightline stack bucket {self._bucket}`, or name another place in SIGHTLINE_LAKE_ARCHIVE"
            ) from error
        if await self._store.put_new(self._bucket, key, b"sightline", told):
            raise StartupRefused(
                f"the object store of s3://{self._bucket} ignores If-None-Match: it replaced {key} where it must "
                "answer 412; the archive would not be exact there, choose another store (or a newer release of it)"
            )
        for topic in self._topic_ids:
            async with aclosing(self._names(folder_of(self._prefix, topic))) as keys:
                async for key in keys:
                    await self._told(key)
                    break

    async def end(self, topic: str, partition: int, position: int) -> int:
        """See Archive. Lists from some way before `position` on, further back only where there is nothing."""
        folder = folder_of(self._prefix, topic, partition)
        back = _LOOK_BACK
        while True:
            start = position - back
            after = name_of(self._prefix, topic, partition, start - 1) if start > 0 else ""
            last = None
            async with aclosing(self._names(folder, after)) as keys:
                async for key in keys:
                    last = key
            if last is not None:
                return (await self._told(last))[0].end
            if start <= 0:
                return 0
            back *= _LOOK_BACK_FACTOR

    async def add(self, file: FileRange, records: Sequence[SourceRecord]) -> AddedFile:
        """See Archive. Encodes in a thread."""
        metadata = file.metadata()
        if topic_id := self._topic_ids.get(file.topic):
            metadata[_TOPIC_ID] = topic_id
        body = await asyncio.to_thread(encode, records, metadata)
        key = name_of(self._prefix, file.topic, file.partition, file.start)
        if await self._store.put_new(self._bucket, key, body, metadata):
            return AddedFile(file, True, len(body))
        found, told = await self._told(key)
        # An answer that was lost on its way makes our own file look like a rival's; it stands, and that is all.
        return AddedFile(found, told == metadata, len(body))

    async def files(
        self, topic: str, modified_since_ms: int = 0, partition: int | None = None
    ) -> AsyncGenerator[StoredFile, None]:
        """Yield the files of a topic (of one `partition`) by partition and start.

        Without those that were written before `modified_since_ms`. Close it (`aclosing`) when it is left early.
        """
        async with aclosing(self._listed(folder_of(self._prefix, topic, partition))) as rows:
            batch: list[tuple[str, int, int]] = []
            async for key, size_bytes, modified_ms in rows:
                if modified_ms >= modified_since_ms:
                    batch.append((key, size_bytes, modified_ms))
                if len(batch) == _HEADS:
                    for stored in await self._all_told(batch):
                        yield stored
                    batch = []
            for stored in await self._all_told(batch):
                yield stored

    async def records(self, file: StoredFile) -> list[SourceRecord]:
        """Return the records of a file, in offset order; their topic is named as Kafka knows it.

        Raises ArchiveBroken where they are not what the file tells of itself.
        """
        found = await self._store.fetch(ObjectRef(self._bucket, file.key, None, None, None), max_bytes=_MAX_FILE_BYTES)
        if not isinstance(found, FetchedObject):
            raise ArchiveBroken(f"{file.key} cannot be read: {found.reason} ({found.detail})")
        told, records = await asyncio.to_thread(decode, found.body, file.range.topic, file.range.partition)
        offsets = [record.offset for record in records]
        if (
            range_of(told, file.key) != file.range
            or len(records) != file.range.records
            or any(after <= before for before, after in pairwise(offsets))
            or (offsets and not file.range.read_from <= offsets[0] <= offsets[-1] == file.range.end - 1)
        ):
            raise ArchiveBroken(f"{file.key} holds other records than it tells: {file.range}")
        return records

    async def _all_told(self, rows: Sequence[tuple[str, int, int]]) -> list[StoredFile]:
        ranges = await asyncio.gather(*(self._told(key) for key, _, _ in rows))
        return [StoredFile(told[0], *row) for told, row in zip(ranges, rows, strict=True)]

    async def _told(self, key: str) -> tuple[FileRange, Mapping[str, str]]:
        metadata = await self._store.metadata(self._bucket, key)
        if metadata is None:
            raise ObjectUnavailable(f"s3://{self._bucket}/{key} was there and is not")
        found = range_of(metadata, key)
        theirs, ours = metadata.get(_TOPIC_ID), self._topic_ids.get(found.topic)
        if theirs and ours and theirs != ours:
            raise ArchiveBroken(
                f"s3://{self._bucket}/{key} is of an earlier topic {found.topic} (id {theirs}; it was made anew since "
                f"as {ours}): set SIGHTLINE_LAKE_ARCHIVE to another prefix, or move the old archive away"
            )
        return found, metadata

    async def _names(self, folder: str, after: str = "") -> AsyncGenerator[str, None]:
        async with aclosing(self._listed(folder, after)) as rows:
            async for key, _, _ in rows:
                yield key

    async def _listed(self, folder: str, after: str = "") -> AsyncGenerator[tuple[str, int, int], None]:
        async for row in self._store.list(self._bucket, folder, after):
            if place_of(row.key) is not None:
                yield row.key, row.size_bytes, row.modified_ms
