"""Follower of topics that lives as long as the process and survives broker outages."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from app.errors import BrokerUnavailable, StartupRefused
from app.ports.clock import Clock
from app.ports.records import SourceRecord
from app.ports.topics import Follower, Part, Since, TopicLog

logger = logging.getLogger(__name__)
_AGAIN_SECONDS: Final = 1.0
# A consumer without records for this time is replaced. That loses nothing, and ends a consumer that is stuck.
_QUIET_SECONDS: Final = 300.0


class Following:
    """Source of every record once, in the order of its partition, also after broker outages.

    `positions` are the next offsets after all records that were taken. `away` says why nothing can be read, "" while
    records can be read. `caught_up`: all records that existed at the first connection were taken.
    """

    def __init__(self, log: TopicLog, topics: Sequence[str], clock: Clock, since: Since = None) -> None:
        self._log = log
        self._topics = topics
        self._clock = clock
        self._since = since
        self.positions: dict[Part, int] = {}
        self.away = "not connected yet"
        self.caught_up = False
        self._reported = False
        self._follower: Follower | None = None

    async def batches(self, wait_seconds: float) -> AsyncGenerator[list[SourceRecord], None]:
        """Yield new records in batches, for ever. A batch counts as taken when the next one is requested.

        An empty batch follows each attempt to connect (`away` has its result), and each `wait_seconds` without a
        record. Close the iterator (`aclosing`).
        """
        while True:
            try:
                async with self._log.follow(self._topics, self.positions or self._since) as follower:
                    self._follower = follower
                    self.positions = dict(follower.begins)
                    if self._reported:
                        logger.info("following again: %s", ", ".join(sorted({topic for topic, _ in self.positions})))
                    self._reported, self.away = False, ""
                    self.caught_up = self.caught_up or await follower.caught_up()
                    yield []
                    heard_at = self._clock.monotonic()
                    while self._clock.monotonic() - heard_at < _QUIET_SECONDS:
                        batch = await follower.poll(wait_seconds)
                        self.caught_up = self.caught_up or await follower.caught_up()
                        yield batch
                        for record in batch:
                            self.positions[record.topic, record.partition] = record.offset + 1
                        if batch:
                            heard_at = self._clock.monotonic()
            except (BrokerUnavailable, StartupRefused) as error:
                if not self._reported:
                    logger.warning("cannot follow: %s", error)
                self._reported, self.away, self._follower = True, str(error), None
                yield []
                await self._clock.sleep(_AGAIN_SECONDS)

    async def reach(self) -> None:
        """Return when the broker answers over the present connection. Raises BrokerUnavailable."""
        if self._follower is None:
            raise BrokerUnavailable(self.away)
        await self._follower.reach()
