"""Publishing records outside of a lane. Topic names are without the installation's prefix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from schemas.records import Position

# A record to publish: topic, key and value. The partition follows the key.
Message = tuple[str, bytes | None, bytes]


class Producer(Protocol):
    """Publishes outside of a lane (bridge, reconcile, rescore, parking)."""

    async def send_and_wait(self, topic: str, key: bytes | None, value: bytes) -> Position:
        """Publish one record and return its position after the broker acknowledged it (acks=all, idempotent).

        Raises BrokerUnavailable.
        """
        ...

    async def send_batch(self, records: Sequence[Message]) -> None:
        """Publish records and return when all are acknowledged. Raises BrokerUnavailable."""
        ...

    async def close(self) -> None:
        """Flush and release connections."""
        ...


class TransactionalProducer(Protocol):
    """Publishes groups of records, each group in one transaction: all of them, or none."""

    async def publish(self, records: Sequence[Message]) -> None:
        """Publish `records` in one transaction and return after its commit.

        Raises Fenced when a younger producer has the same id; BrokerUnavailable when it is unknown whether the
        transaction was committed: end the process or start a new producer, and read the topics.
        """
        ...


# Starts a producer by its transactional id. Entering it fences every older producer of the same id, so of two
# processes with one id only the younger goes on. Raises BrokerUnavailable.
Transactions = Callable[[str], AbstractAsyncContextManager[TransactionalProducer]]
