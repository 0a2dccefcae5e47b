"""Delivery check: the pump gets exactly the messages that the consumer delivered, in the same order.

Offsets of transactional topics have holes, so consecutive numbers cannot be checked. Instead the consumer records each
message that it delivers, and the pump compares.
"""

from __future__ import annotations

from collections import deque

from app.errors import DeliveryGap
from app.streaming.ports import SourcePartition


class DeliveryLog:
    """Log of deliveries, used by consumer and pump on the main loop. Memory: an integer for each message in transit."""

    def __init__(self) -> None:
        self._epochs: dict[SourcePartition, int] = {}
        self._noted: dict[SourcePartition, deque[int]] = {}

    def opened(self, source: SourcePartition, epoch: int) -> None:
        """Begin an epoch of `source` and drop its earlier entries."""
        self._epochs[source] = epoch
        self._noted[source] = deque()

    def closed(self) -> None:
        """End all epochs."""
        self._epochs.clear()
        self._noted.clear()

    def handed(self, source: SourcePartition, epoch: int, offset: int) -> None:
        """Record that the consumer delivers a message."""
        if self._epochs.get(source) == epoch:
            self._noted[source].append(offset)

    def taken(self, source: SourcePartition, epoch: int, offset: int) -> bool:
        """Return whether the message belongs to the current epoch. If not, drop it: its offset will be read again.

        Raises DeliveryGap if an earlier message is missing.
        """
        if self._epochs.get(source) != epoch:
            return False
        noted = self._noted[source]
        expected = noted.popleft() if noted else None
        if expected != offset:
            raise DeliveryGap(f"{source}: got offset {offset} where {expected} was handed over")
        return True

    def between(self, source: SourcePartition) -> int:
        """Return the number of messages between consumer and pump."""
        return len(self._noted.get(source, ()))
