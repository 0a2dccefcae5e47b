"""What `./sightline archive` does: tell what is archived, compare it with the topics, publish it again."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from app.archive.partitions import ObjectArchive
from app.archive.reader import ArchiveReader
from app.domain.archive import Fault, faults
from app.ports.publishing import Message, Producer
from app.ports.records import SourceRecord
from app.ports.topics import AtOffsets, TopicLog
from schemas.records import Position

_EXAMPLES: Final = 5
_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class ArchivedPartition:
    """What the archive holds of one partition: offsets from `start` up to `end`, but for its faults."""

    topic: str
    partition: int
    start: int
    end: int
    files: int
    records: int
    size_bytes: int
    faults: tuple[Fault, ...]


async def archived(archive: ObjectArchive, topics: Iterable[str], prefix: str = "") -> list[ArchivedPartition]:
    """Return what is archived of `topics`, by topic and partition. Asks the store for each file."""
    found: list[ArchivedPartition] = []
    for topic in topics:
        async with aclosing(archive.files(prefix + topic)) as listing:
            files = [file async for file in listing]
        for partition, group in groupby(files, key=lambda file: file.range.partition):
            own = list(group)
            found.append(
                ArchivedPartition(
                    topic,
                    partition,
                    own[0].range.read_from,
                    max(file.range.end for file in own),
                    len(own),
                    sum(file.range.records for file in own),
                    sum(file.size_bytes for file in own),
                    tuple(faults(file.range for file in own)),
                )
            )
    return sorted(found, key=lambda each: (each.topic, each.partition))


@dataclass(slots=True)
class Comparison:
    """How the archive of one topic agrees with the topic, where the topic still holds the records.

    `missing` lie on the topic and within the archive's range, but not in the archive; `different` have other bytes or
    another time there; `foreign` are in the archive alone. `examples` are positions of some of each.
    """

    topic: str
    compared: int = 0
    missing: int = 0
    different: int = 0
    foreign: int = 0
    examples: dict[str, list[Position]] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Whether nothing is missing, different or foreign."""
        return not (self.missing or self.different or self.foreign)

    def note(self, kind: str, record: SourceRecord) -> None:
        """Count one record that does not agree."""
        setattr(self, kind, getattr(self, kind) + 1)
        examples = self.examples.setdefault(kind, [])
        if len(examples) < _EXAMPLES:
            examples.append(record.position)


class _Cursor:
    """The archive of one partition, read beside the topic."""

    def __init__(self, records: AsyncIterator[SourceRecord]) -> None:
        self._records = records
        self._head: SourceRecord | None = None
        self.begun = False

    async def up_to(self, offset: int | None) -> AsyncGenerator[SourceRecord, None]:
        """Yield and pass over what lies before `offset` (None: all)."""
        while (head := await self._peek()) is not None and (offset is None or head.offset < offset):
            self._head = None
            yield head

    async def at(self, offset: int) -> SourceRecord | None:
        """Take and return the record at `offset`, which nothing lies before; None where there is none."""
        head = await self._peek()
        if head is None or head.offset != offset:
            return None
        self._head = None
        return head

    async def _peek(self) -> SourceRecord | None:
        if self._head is None:
            self._head = await anext(self._records, None)
        return self._head


async def verify(reader: ArchiveReader, log: TopicLog, held: Iterable[ArchivedPartition], topic: str) -> Comparison:
    """Compare what is archived of `topic` with the topic, record by record, within the ranges of `held`."""
    ranges = {each.partition: each for each in held if each.topic == topic}
    found = Comparison(topic)
    if not ranges:
        return found
    async with AsyncExitStack() as opened:
        cursors: dict[int, _Cursor] = {}
        for number in ranges:
            records = await opened.enter_async_context(aclosing(reader.read(topic, partition=number)))
            cursors[number] = _Cursor(records)
        on_topic = log.scan(
            topic,
            AtOffsets({number: each.start for number, each in ranges.items()}),
            AtOffsets({number: each.end for number, each in ranges.items()}),
        )
        async with aclosing(on_topic):
            async for record in on_topic:
                cursor = cursors[record.partition]
                async for passed in cursor.up_to(record.offset):
                    # What lies before the first record of the topic was removed there by retention.
                    if cursor.begun:
                        found.note("foreign", passed)
                cursor.begun = True
                found.compared += 1
                archived_record = await cursor.at(record.offset)
                if archived_record is None:
                    found.note("missing", record)
                elif archived_record != record:
                    found.note("different", record)
        for cursor in cursors.values():
            if cursor.begun:
                async for passed in cursor.up_to(None):
                    found.note("foreign", passed)
    return found


async def replay(records: AsyncIterator[SourceRecord], producer: Producer, to: str) -> int:
    """Publish `records` to the topic `to`, same keys and bytes, and return how many; in order within a key.

    Tombstones are left out: they say nothing to a reader of a topic that is not compacted.
    """
    batch: list[Message] = []
    sent = 0
    async for record in records:
        if record.value is not None:
            batch.append((to, record.key, record.value))
        if len(batch) == _BATCH:
            await producer.send_batch(batch)
            sent += len(batch)
            batch = []
    if batch:
        await producer.send_batch(batch)
    return sent + len(batch)
