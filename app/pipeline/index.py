"""`index`: writes records about images to the index and to the queue of moderators.

An offset is committed after both have answered.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Collection, Sequence
from typing import Final

from app.domain.identity import declared_topic
from app.domain.moderation import Waiting, waiting, waits
from app.errors import Poison, RedisUnavailable
from app.pipeline.dead_letters import DeadLetters
from app.ports.clock import Clock
from app.ports.index import Image, Index, IndexedRecord, IndexEntry
from app.ports.moderation import ModerationQueue
from app.ports.processing import LaneStatus
from app.ports.records import Completion, RecordCodec, SourceRecord
from app.topics import TASKS

AGENT: Final = "index"
# Upper bound of the records in one round trip: 512 of 1.5 KB are 0.8 MB, which takes milliseconds on loopback and stays
# far below the socket's deadline on any network.
MAX_BATCH: Final = 512
_FIRST_WAIT_SECONDS: Final = 0.2
_LONGEST_WAIT_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)


class _Unstored:
    __slots__ = ("entry", "stored")

    def __init__(self, entry: IndexEntry) -> None:
        self.entry = entry
        self.stored = False


class ImageFacts:
    """Index and queue as one sink: the queue follows the state of the index."""

    def __init__(self, index: Index, queue: ModerationQueue, actions: Collection[str]) -> None:
        self.index = index
        self.queue = queue
        self._actions = frozenset(actions)

    async def store(self, entries: Sequence[IndexEntry]) -> None:
        """Store `entries` in the index and update the queue. Idempotent: repeat the call after RedisUnavailable."""
        touched = await self.index.apply(entries)
        if not touched:
            return
        images = await self.index.images(touched)
        states: list[tuple[Image, Waiting | None]] = []
        for image, known in zip(touched, images, strict=True):
            flag, decision = (known.flag, known.decision) if known is not None else (None, None)
            states.append((image, waiting(flag) if waits(flag, decision, self._actions) else None))
        await self.queue.put(states)


class IndexProcessor:
    """A `Processor` that stores every record of its topics.

    Calls that arrive during a round trip share the next one. While the index is unavailable, calls wait
    (`waiting("index")`), retry with growing pauses and continue by themselves; no record is given up.
    """

    def __init__(
        self, codec: RecordCodec, facts: ImageFacts, clock: Clock, status: LaneStatus, *, max_batch: int = MAX_BATCH
    ) -> None:
        self._codec = codec
        self._letters = DeadLetters(AGENT, codec, clock)
        self._facts = facts
        self._clock = clock
        self._status = status
        self._max_batch = max_batch
        self._pending: dict[_Unstored, None] = {}
        self._turn = asyncio.Lock()

    async def process(self, record: SourceRecord) -> Completion:
        """Return an empty completion once the index holds `record`."""
        try:
            decoded = self._codec.decode(record.value)
            if not isinstance(decoded, IndexedRecord):
                raise Poison("unexpected_record", f"a {type(decoded).__name__} is nothing for the index")
        except Poison as poison:
            if declared_topic(record.topic) == TASKS:
                # `score`, which owns this topic, writes the dead letter.
                return Completion()
            return self._letters.poison(record, poison)
        assert record.value is not None  # it was decoded above
        mine = _Unstored(IndexEntry(decoded, record.value))
        self._pending[mine] = None
        try:
            async with self._turn:
                while not mine.stored:
                    await self._store_batch()
        finally:
            self._pending.pop(mine, None)
        return Completion()

    async def _store_batch(self) -> None:
        """Store the oldest pending records. If cancelled, they stay pending for the next caller."""
        batch = list(itertools.islice(self._pending, self._max_batch))
        pause = _FIRST_WAIT_SECONDS
        away = False
        while True:
            try:
                await self._facts.store([pending.entry for pending in batch])
            except RedisUnavailable as error:
                if not away:
                    _log.warning("the index is unavailable, waiting for it: %s", error)
                    away = True
                self._status.waiting("index")
                await self._clock.sleep(pause)
                pause = min(pause * 2, _LONGEST_WAIT_SECONDS)
            else:
                break
        if away:
            _log.warning("the index is available again")
        self._status.working()
        for pending in batch:
            pending.stored = True
            self._pending.pop(pending, None)
