"""`archive`: writes raw records to files on S3. An offset is committed only after a file that covers it is stored.

The records of a partition fill one file at a time. The task of a file's first record is the leader: it waits until the
file is full, stores it, and wakes the others. All records of a file stay in hand meanwhile. Therefore:

- A file closes by count, by bytes, or by age. With few records the lane waits for the age and no longer.
- A file also closes if credits run out. All partitions of a topic share the credits, so eight open files could wait
  for records for which no credit is left. When open files hold half of the credits, the largest of them is closed. The
  other half keeps records arriving while it is stored.
- While a file fills, its leader, the head of the lane, reports `waiting("file")`: the watchdog sees no stall, and a
  drain does not wait for it. Abandoned records are read again; a partial file is never written early.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from app.domain.archive import Chain
from app.errors import Retryable
from app.metrics import Meters
from app.ports.archive import Archive
from app.ports.clock import Clock
from app.ports.processing import LaneStatus
from app.ports.records import Completion, SourceRecord
from app.settings import ArchiveSettings

_FIRST_WAIT_SECONDS: Final = 0.2
_LONGEST_WAIT_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class _Waiting:
    __slots__ = ("archived", "record", "since", "size_bytes", "turn")

    def __init__(self, record: SourceRecord, since: float) -> None:
        self.record = record
        self.since = since
        self.size_bytes = len(record.key or b"") + len(record.value or b"")
        self.archived = False
        # Done when the record is archived, or when it becomes the leader.
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class _Partition:
    """The records in hand of one partition in one generation of its lane."""

    def __init__(self, topic: str, number: int, position: int) -> None:
        self.topic = topic
        self.number = number
        self.position = position
        self.chain: Chain | None = None
        self.pending: deque[_Waiting] = deque()
        self.sealed = 0
        self.filling_bytes = 0
        self.led = False
        self.short_of_room = False
        self.ripe = asyncio.Event()

    @property
    def filling(self) -> int:
        """Number of records that wait for a file to close."""
        return len(self.pending) - self.sealed

    def drop_covered(self, chain: Chain) -> int:
        """Complete the records that the archive already contains. Return their number."""
        dropped = 0
        while self.pending and chain.covers(self.pending[0].record.offset):
            waiting = self.pending.popleft()
            waiting.archived = True
            if not waiting.turn.done():
                waiting.turn.set_result(None)
            dropped += 1
        self.sealed = 0
        self.filling_bytes = sum(waiting.size_bytes for waiting in self.pending)
        return dropped

    def appoint(self) -> None:
        """Make the oldest record the leader."""
        self.led = bool(self.pending)
        if self.pending and not self.pending[0].turn.done():
            self.pending[0].turn.set_result(None)


class ArchiveProcessor:
    """A `Processor` that archives every record of its topics. It `FollowsPartitions`.

    While the store is unavailable, calls wait (`waiting("store")`), retry with growing pauses and continue by
    themselves. A lane cancels all calls of its partition or none. `prefix` is the installation's prefix of topic names.
    """

    def __init__(
        self,
        archive: Archive,
        settings: ArchiveSettings,
        clock: Clock,
        status: LaneStatus,
        meters: Meters,
        prefix: str = "",
    ) -> None:
        self._archive = archive
        self._settings = settings
        self._clock = clock
        self._status = status
        self._meters = meters
        self._prefix = prefix
        self._partitions: dict[tuple[str, int], _Partition] = {}

    def begins_at(self, topic: str, partition: int, position: int) -> None:
        """See FollowsPartitions."""
        self._partitions[topic, partition] = _Partition(topic, partition, position)

    async def process(self, record: SourceRecord) -> Completion:
        """Return an empty completion once the archive holds `record`."""
        partition = self._partitions[record.topic, record.partition]
        # No await before this line: the lane starts its records in source order, so they are appended in that order.
        waiting = _Waiting(record, self._clock.monotonic())
        partition.pending.append(waiting)
        partition.filling_bytes += waiting.size_bytes
        self._look_for_ripe(partition)
        try:
            if partition.led:
                await waiting.turn
            if not waiting.archived:
                partition.led = True
                await self._lead(partition, waiting)
        except asyncio.CancelledError:
            # The lane closes, which cancels all of its records.
            partition.pending.clear()
            if self._partitions.get((record.topic, record.partition)) is partition:
                del self._partitions[record.topic, record.partition]
            raise
        return Completion()

    def _look_for_ripe(self, partition: _Partition) -> None:
        """Close the file of `partition` if it is full, and the topic's largest file if all hold too many credits."""
        if partition.filling >= self._settings.file_records or partition.filling_bytes >= self._settings.file_bytes:
            partition.ripe.set()
        rivals = [each for each in self._partitions.values() if each.topic == partition.topic]
        if sum(each.filling for each in rivals) * 2 >= self._settings.in_flight:
            largest = max(rivals, key=lambda each: each.filling)
            largest.short_of_room = True
            largest.ripe.set()

    async def _lead(self, partition: _Partition, mine: _Waiting) -> None:
        """Store files until `mine` is archived, then appoint the next leader."""
        if partition.chain is None:
            partition.chain = await self._open_chain(partition)
        chain = partition.chain
        if there := partition.drop_covered(chain):
            self._count(partition, "there", there)
        while not mine.archived:
            await self._store(partition, chain, await self._ripened(partition))
        partition.appoint()

    async def _open_chain(self, partition: _Partition) -> Chain:
        topic = self._prefix + partition.topic
        end = await self._patiently(lambda: self._archive.end(topic, partition.number, partition.position))
        chain = Chain(end, partition.position)
        if end and chain.missing:
            _log.error(
                "%s/%d: offsets %d to %d were gone before they were archived",
                topic,
                partition.number,
                end,
                end + chain.missing,
            )
        return chain

    async def _ripened(self, partition: _Partition) -> str:
        """Wait until the partition's file must be closed. Return the cause."""
        settings = self._settings
        due = partition.pending[0].since + settings.file_seconds
        self._status.waiting("file")
        try:
            while True:
                if partition.filling >= settings.file_records:
                    return "count"
                if partition.filling_bytes >= settings.file_bytes:
                    return "bytes"
                if partition.short_of_room:
                    return "room"
                left = due - self._clock.monotonic()
                if left <= 0:
                    return "age"
                partition.ripe.clear()
                await self._either(partition.ripe, left)
        finally:
            partition.short_of_room = False
            self._status.working()

    async def _either(self, event: asyncio.Event, seconds: float) -> None:
        waits = (asyncio.ensure_future(event.wait()), asyncio.ensure_future(self._clock.sleep(seconds)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    async def _store(self, partition: _Partition, chain: Chain, closed_by: str) -> None:
        """Store one file of the oldest records, or accept the file that another writer stored under its name."""
        records: list[SourceRecord] = []
        size_bytes = 0
        for waiting in partition.pending:
            if len(records) == self._settings.file_records or (records and size_bytes >= self._settings.file_bytes):
                break
            records.append(waiting.record)
            size_bytes += waiting.size_bytes
        partition.sealed = len(records)
        partition.filling_bytes -= size_bytes
        topic = self._prefix + partition.topic
        file = chain.next_file(topic, partition.number, [record.offset for record in records])
        added = await self._patiently(lambda: self._archive.add(file, records))
        chain.goes_on_at(added.range.end)
        archived = partition.drop_covered(chain)
        if added.ours:
            self._meters.count("sightline_archive_files_total", topic=topic, closed_by=closed_by)
            self._meters.count("sightline_archive_bytes_total", added.size_bytes, topic=topic)
            self._count(partition, "written", archived)
        else:
            _log.warning("%s/%d: another writer stored %s", topic, partition.number, added.range)
            self._meters.count("sightline_archive_rivals_total", topic=topic)
            self._count(partition, "there", archived)

    def _count(self, partition: _Partition, answer: str, records: int) -> None:
        topic = self._prefix + partition.topic
        self._meters.count("sightline_archive_records_total", records, topic=topic, answer=answer)

    async def _patiently(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Return the result of `work`. Retries while the store is unavailable."""
        pause = _FIRST_WAIT_SECONDS
        away = False
        while True:
            try:
                result = await work()
            except Retryable as error:
                if not away:
                    _log.warning("the archive's store is unavailable, waiting for it: %s", error)
                    away = True
                self._status.waiting("store")
                await self._clock.sleep(pause)
                pause = min(pause * 2, _LONGEST_WAIT_SECONDS)
            else:
                break
        if away:
            _log.warning("the archive's store is available again")
            self._status.working()
        return result
