"""The memory twin of the notification queue."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Sequence

from app.bridge.ports import QueueMessage
from app.errors import QueueUnavailable
from app.ports.clock import Clock


class MemoryNotificationQueue:
    """NotificationQueue (ports) in memory: hands a message out again when its visibility time is over.

    `away`: receiving and deleting fail. An empty queue waits `wait_seconds` on the clock.
    """

    def __init__(self, clock: Clock, *, visibility_seconds: float = 60, wait_seconds: float = 10) -> None:
        self.away = False
        self._clock = clock
        self._visibility_seconds = visibility_seconds
        self._wait_seconds = wait_seconds
        self._waiting: deque[tuple[str, str]] = deque()
        self._hidden: dict[str, tuple[float, tuple[str, str]]] = {}
        self._numbers = itertools.count()

    def put(self, bodies: Iterable[str]) -> None:
        """Add messages."""
        self._waiting.extend((f"message-{next(self._numbers)}", body) for body in bodies)

    def __len__(self) -> int:
        return len(self._waiting) + len(self._hidden)

    async def receive(self) -> Sequence[QueueMessage]:
        """See NotificationQueue."""
        self._fail_when_away()
        self._show_again()
        if not self._waiting:
            await self._clock.sleep(self._wait_seconds)
            self._fail_when_away()
            self._show_again()
        found: list[QueueMessage] = []
        while self._waiting and len(found) < 10:
            message_id, body = self._waiting.popleft()
            receipt = f"receipt-{next(self._numbers)}"
            self._hidden[receipt] = (self._clock.monotonic() + self._visibility_seconds, (message_id, body))
            found.append(QueueMessage(message_id, receipt, body))
        return found

    async def delete(self, messages: Sequence[QueueMessage]) -> int:
        """See NotificationQueue."""
        self._fail_when_away()
        return sum(self._hidden.pop(message.receipt, None) is not None for message in messages)

    async def close(self) -> None:
        """See NotificationQueue."""

    def _fail_when_away(self) -> None:
        if self.away:
            raise QueueUnavailable("the queue is away")

    def _show_again(self) -> None:
        now = self._clock.monotonic()
        for receipt, (until, message) in list(self._hidden.items()):
            if until <= now:
                del self._hidden[receipt]
                self._waiting.append(message)
