"""Ports of the bridge: the queue that bucket notifications arrive in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class QueueMessage:
    """One received message: `receipt` deletes it, `message_id` stays the same when it is delivered again."""

    message_id: str
    receipt: str
    body: str


class NotificationQueue(Protocol):
    """A queue that hands out a message again unless it is deleted within the visibility time. Every wait is bounded."""

    async def receive(self) -> Sequence[QueueMessage]:
        """Return up to ten messages; none when nothing came within the long-poll time. Raises QueueUnavailable."""
        ...

    async def delete(self, messages: Sequence[QueueMessage]) -> int:
        """Delete up to ten messages and return how many the queue confirmed. Raises QueueUnavailable."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
