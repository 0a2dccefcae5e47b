"""The pump: takes messages from the consumer's stream, one by one, and hands each to its lane.

It takes a credit first, so memory is bounded and a full engine pauses the partition.
"""

from __future__ import annotations

import asyncio

from app.streaming.credits import Credits, LiveGate
from app.streaming.delivery import DeliveryLog
from app.streaming.lanes import Lanes
from app.streaming.ports import Delivered


class Pump:
    """One for each topic. `gate` is set for topics that yield to live work."""

    def __init__(self, lanes: Lanes, pool: Credits, deliveries: DeliveryLog, gate: LiveGate | None = None) -> None:
        self.pool = pool
        self.gate = gate
        self._lanes = lanes
        self._deliveries = deliveries

    async def put(self, message: Delivered) -> None:
        """Return when the message is in hand, or known to be of an epoch that has ended (it is then read again).

        Raises DeliveryGap.
        """
        if self.gate is not None:
            await self.gate.passed()
        await self.pool.take()
        source = message.source
        try:
            await self._lanes.suspects.admitted(source, message.record.offset)
        except asyncio.CancelledError:
            self.pool.give()
            raise
        # No await from here on: what was admitted alone must be in hand before anything else is.
        lane = self._lanes.lane(source)
        if lane is None or lane.epoch != message.epoch:
            self.pool.give()
            return
        if self._deliveries.taken(source, message.epoch, message.record.offset):
            lane.offer(message.record, self.pool.give)
        else:
            self.pool.give()
