"""Publishing records outside of a lane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from schemas.records import Position


class Producer(Protocol):
    """Publishes outside of a lane (bridge, reconcile, rescore, redrive)."""

    async def send_and_wait(self, topic: str, key: bytes | None, value: bytes) -> Position:
        """Publish one record and return its position after the broker acknowledged it (acks=all, idempotent).

        Raises BrokerUnavailable.
        """
        ...

    async def send_batch(self, records: Sequence[tuple[str, bytes | None, bytes]]) -> None:
        """Publish records (topic, key, value) and return when all are acknowledged. Raises BrokerUnavailable."""
        ...

    async def close(self) -> None:
        """Flush and release connections."""
        ...
