"""`index`: outcomes, removals and flags into the index; an offset leaves only after the index has answered."""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import Final

from app.errors import IndexUnavailable, Poison
from app.pipeline.dead_letters import POISON, dead_letter
from app.ports import Clock, Completion, Index, IndexEntry, LaneStatus, RecordCodec, SourceRecord
from schemas.records import FlaggedImage, ImagePrediction, ImageRemoved

AGENT: Final = "index"
# One round trip carries at most so many records: 512 of 1.5 KB are 0.8 MB, milliseconds on loopback, and far below the
# socket's deadline on any network.
MAX_BATCH: Final = 512
_FIRST_WAIT_SECONDS: Final = 0.2
_LONGEST_WAIT_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)


class _Waiting:
    __slots__ = ("entry", "stored")

    def __init__(self, entry: IndexEntry) -> None:
        self.entry = entry
        self.stored = False


class IndexProcessor:
    """Stores every record of the predictions, removed and flagged topics. A `Processor`.

    Calls that arrive while a round trip is under way share the next one. While the index is away, calls wait
    (`waiting("index")`), try again with growing pauses and go on by themselves; nothing is given up.
    """

    def __init__(
        self, codec: RecordCodec, index: Index, clock: Clock, status: LaneStatus, *, max_batch: int = MAX_BATCH
    ) -> None:
        self._codec = codec
        self._index = index
        self._clock = clock
        self._status = status
        self._max_batch = max_batch
        self._pending: dict[_Waiting, None] = {}
        self._turn = asyncio.Lock()

    async def process(self, record: SourceRecord) -> Completion:
        """Return an empty completion once the index holds `record`."""
        try:
            decoded = self._codec.decode(record.value)
            if not isinstance(decoded, ImagePrediction | ImageRemoved | FlaggedImage):
                raise Poison("unexpected_record", f"a {type(decoded).__name__} is nothing for the index")
        except Poison as poison:
            letter = dead_letter(
                record,
                agent=AGENT,
                kind=POISON,
                reason=poison.reason,
                detail=poison.detail,
                now_ms=self._clock.now_ms(),
            )
            return Completion(outputs=(letter,), dead_letters=1)
        assert record.value is not None  # it decoded
        waiting = _Waiting(IndexEntry(decoded, record.value))
        self._pending[waiting] = None
        try:
            async with self._turn:
                while not waiting.stored:
                    await self._store_batch()
        finally:
            self._pending.pop(waiting, None)
        return Completion()

    async def _store_batch(self) -> None:
        """Store the oldest pending records. Cancelled, it leaves them for the next caller in turn."""
        batch = list(itertools.islice(self._pending, self._max_batch))
        pause = _FIRST_WAIT_SECONDS
        away = False
        while True:
            try:
                await self._index.apply([waiting.entry for waiting in batch])
            except IndexUnavailable as error:
                if not away:
                    _log.warning("the index is away, waiting for it: %s", error)
                    away = True
                self._status.waiting("index")
                await self._clock.sleep(pause)
                pause = min(pause * 2, _LONGEST_WAIT_SECONDS)
            else:
                break
        if away:
            _log.warning("the index is back")
        self._status.working()
        for waiting in batch:
            waiting.stored = True
            self._pending.pop(waiting, None)
