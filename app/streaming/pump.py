"""Pump: takes messages from the consumer's stream and passes each to its lane.

It takes a credit for each message first. This bounds memory, and a busy engine pauses the partition (backpressure).
"""

from __future__ import annotations

import asyncio

from app.streaming.credits import Credits, LiveGate
from app.streaming.delivery import DeliveryLog
from app.streaming.lanes import Lanes
from app.streaming.ports import Delivered


class Pump:
    """Pump of one topic. `gate` is set for topics with lower priority than live work."""

    def __init__(self, lanes: Lanes, pool: Credits, deliveries: DeliveryLog, gate: LiveGate | None = None) -> None:
        self.pool = pool
        self.gate = gate
        self._lanes = lanes
        self._deliveries = deliveries

    async def put(self, message: Delivered) -> None:
        """Pass `message` to its lane. Drop it if its epoch has ended: it will be read again.

        Returns when the lane has the message. Raises DeliveryGap.
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
        # No await below: a record that was admitted alone must be in hand before any other.
        lane = self._lanes.lane(source)
        if lane is None or lane.epoch != message.epoch:
            self.pool.give()
            return
        if self._deliveries.taken(source, message.epoch, message.record.offset):
            lane.offer(message.record, self.pool.give)
        else:
            self.pool.give()
