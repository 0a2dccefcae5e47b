"""All lanes of one worker: opened after a rebalance, closed before the next.

Rebalances are eager: every assignment is followed by a revocation of everything, so lanes live for one generation.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping
from typing import Final

from app.errors import Fatal, Retryable
from app.streaming.lane import Lane, LaneParts
from app.streaming.ports import LaneProducer, LaneProducers, SourceControl, SourcePartition

logger = logging.getLogger(__name__)
_CLOSE_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 1.0


class Lanes:
    """The owner of the lanes. All methods run on the main loop."""

    def __init__(self, parts: LaneParts, producers: LaneProducers, control: SourceControl) -> None:
        self._parts = parts
        self._producers = producers
        self._control = control
        self._lanes: dict[SourcePartition, Lane] = {}
        self._pending: frozenset[SourcePartition] = frozenset()
        self._opening: asyncio.Task[None] | None = None
        self._stopped = False
        self.opening_since: float | None = None
        self.generations = 0
        self.suspects = parts.suspects

    def lane(self, source: SourcePartition) -> Lane | None:
        """Return the open lane of `source`."""
        return self._lanes.get(source)

    def open_lanes(self) -> Mapping[SourcePartition, Lane]:
        """Return all open lanes."""
        return self._lanes

    @property
    def assigned(self) -> frozenset[SourcePartition]:
        """The partitions of this generation, open or about to be."""
        return self._pending

    def assign(self, sources: Iterable[SourcePartition]) -> None:
        """Note what this worker owns from here on; `ready` opens it. Quick: runs inside a rebalance callback."""
        self._pending = frozenset(sources)
        self.opening_since = self._parts.clock.monotonic() if self._pending else None

    def ready(self) -> None:
        """Open the lanes of the noted partitions, in a task of their own; a revocation meanwhile takes it back."""
        if self._stopped or not self._pending or self._opening is not None:
            return
        self._opening = asyncio.create_task(self._open(self._pending), name="open lanes")
        self._opening.add_done_callback(self._opened)

    async def _open(self, sources: frozenset[SourcePartition]) -> None:
        producers: dict[SourcePartition, LaneProducer] = {}
        try:
            for source in sources:
                producers[source] = self._producers.create(source)
            await asyncio.gather(*(self._start(producer) for producer in producers.values()))
            while True:
                try:
                    opened = await self._control.locate(sources)
                    break
                except Retryable as error:
                    logger.warning("cannot open the lanes yet, trying again: %s", error)
                    await self._parts.clock.sleep(_RETRY_SECONDS)
        except BaseException:
            await _close_all(producers.values())
            raise
        for source, producer in producers.items():
            if opened[source].lost_records:
                logger.error(
                    "%s: %d records were removed by retention before they were read",
                    source,
                    opened[source].lost_records,
                )
            self._lanes[source] = Lane(source, opened[source], producer, self._parts)
        self._control.begin(opened)
        self.generations += 1
        self.opening_since = None
        logger.info("lanes open: %s", ", ".join(sorted(f"{source}@{opened[source].position}" for source in sources)))

    async def _start(self, producer: LaneProducer) -> None:
        while True:
            try:
                return await producer.start()
            except Retryable as error:
                logger.warning("cannot start a transactional producer yet, trying again: %s", error)
                await self._parts.clock.sleep(_RETRY_SECONDS)

    def _opened(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._parts.on_failure(error)

    async def revoke(self, seconds: float) -> None:
        """Finish or give up everything within `seconds` and some more to close; afterwards no lane is left.

        Raises Fatal when a producer cannot be closed in time: the next generation must not start beside it.
        """
        self._pending = frozenset()
        self.opening_since = None
        opening, self._opening = self._opening, None
        if opening is not None and not opening.done():
            opening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await opening
        self._control.close()
        lanes = list(self._lanes.values())
        if not lanes:
            return
        in_hand = sum(lane.in_hand for lane in lanes)
        await asyncio.gather(*(lane.drain(seconds) for lane in lanes))
        given_up = sum(lane.in_hand for lane in lanes)
        self._lanes.clear()
        await _close_all(lanes)
        logger.info("lanes closed: %d records finished, %d given up to be read again", in_hand - given_up, given_up)

    async def stop(self, seconds: float) -> None:
        """Revoke, and open nothing any more."""
        self._stopped = True
        await self.revoke(seconds)


async def _close_all(closing: Iterable[Lane] | Iterable[LaneProducer]) -> None:
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await asyncio.gather(*(each.close() for each in closing))
    except TimeoutError as error:
        raise Fatal("a transactional producer did not close in time; the process exits to end it") from error
