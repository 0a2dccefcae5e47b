"""The delivery check: the pump gets exactly the messages that the consumer handed over, in that order.

Offsets of transactional topics have holes, so "the next number" proves nothing; instead the consumer notes each
message as it hands it over, and the pump compares.
"""

from __future__ import annotations

from collections import deque

from app.errors import DeliveryGap
from app.streaming.ports import SourcePartition


class DeliveryLog:
    """Both ends run on the main loop. Memory: one integer for each message between consumer and pump."""

    def __init__(self) -> None:
        self._epochs: dict[SourcePartition, int] = {}
        self._noted: dict[SourcePartition, deque[int]] = {}

    def opened(self, source: SourcePartition, epoch: int) -> None:
        """Begin an epoch of `source`; what was noted before is forgotten."""
        self._epochs[source] = epoch
        self._noted[source] = deque()

    def closed(self) -> None:
        """End all epochs."""
        self._epochs.clear()
        self._noted.clear()

    def handed(self, source: SourcePartition, epoch: int, offset: int) -> None:
        """Note that the consumer hands over a message."""
        if self._epochs.get(source) == epoch:
            self._noted[source].append(offset)

    def taken(self, source: SourcePartition, epoch: int, offset: int) -> bool:
        """Return whether the message is of the running epoch (else it is dropped, its offset is read again).

        Raises DeliveryGap when a message before it went missing.
        """
        if self._epochs.get(source) != epoch:
            return False
        noted = self._noted[source]
        expected = noted.popleft() if noted else None
        if expected != offset:
            raise DeliveryGap(f"{source}: got offset {offset} where {expected} was handed over")
        return True

    def between(self, source: SourcePartition) -> int:
        """Return how many messages lie between consumer and pump."""
        return len(self._noted.get(source, ()))
