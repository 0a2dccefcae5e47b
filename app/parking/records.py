"""The parked records of one agent, as its workers follow them on `control.v1`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Final

from app.errors import BrokerUnavailable, Poison, StartupRefused
from app.parking.parked import PARKED_KIND, park_of
from app.ports.clock import Clock
from app.ports.records import RecordCodec
from app.ports.topics import AtOffsets, Bound, TopicLog
from app.topics import CONTROL
from schemas.records import ControlRecord

logger = logging.getLogger(__name__)
FOLLOW_SECONDS: Final = 5.0


class ParkedRecords:
    """The parks of one agent, followed from the beginning of `control.v1`.

    `ids` are the ids of the topics that the agent reads, `changed` is called with all parks after every change.
    """

    def __init__(
        self,
        log: TopicLog,
        codec: RecordCodec,
        clock: Clock,
        agent: str,
        ids: Mapping[str, str],
        changed: Callable[[Mapping[tuple[str, int, int], str]], None],
    ) -> None:
        self._log = log
        self._codec = codec
        self._clock = clock
        self._agent = agent
        self._ids = ids
        self._changed = changed
        self._next: Mapping[int, int] | None = None
        self._parked: dict[tuple[str, int, int], str] = {}

    async def read(self) -> None:
        """Read the records that were written since the last call. Raises BrokerUnavailable, StartupRefused."""
        ends = await self._log.ends(CONTROL)
        if self._next == ends:
            return
        start: Bound | None = AtOffsets(self._next) if self._next is not None else None
        parked = dict(self._parked)
        async with aclosing(self._log.scan(CONTROL, start, AtOffsets(ends))) as records:
            async for record in records:
                try:
                    control = self._codec.decode_as(record.value, ControlRecord)
                except Poison:
                    continue
                park = park_of(control) if control.kind == PARKED_KIND else None
                if park is None or park.agent != self._agent or park.topic_id != self._ids.get(park.topic):
                    continue
                place = (park.topic, park.partition, park.offset)
                if park.parked:
                    parked[place] = f"parked by {park.by}"
                else:
                    parked.pop(place, None)
        self._next = ends
        if parked != self._parked:
            self._parked = parked
            logger.info(
                "parked: %s", ", ".join(f"{topic}/{number}@{at}" for topic, number, at in sorted(parked)) or "none"
            )
            self._changed(parked)

    async def follow(self) -> None:
        """Read again and again. A broker that is away is waited for."""
        away = False
        while True:
            await self._clock.sleep(FOLLOW_SECONDS)
            try:
                await self.read()
            except (BrokerUnavailable, StartupRefused) as error:
                if not away:
                    logger.warning("cannot read which records are parked, trying again: %s", error)
                away = True
            else:
                away = False
