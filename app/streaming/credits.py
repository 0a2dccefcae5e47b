"""Backpressure: credits bound the records that a worker has in hand; the gate gives live uploads priority."""

from __future__ import annotations

import asyncio
from collections import deque


class Credits:
    """A fair counting semaphore. One credit stands for the memory of one record in hand."""

    def __init__(self, total: int) -> None:
        if total < 1:
            raise ValueError("a pool without credits would never move")
        self.total = total
        self.taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def exhausted(self) -> bool:
        """Return whether a caller waits for a credit."""
        return bool(self._waiting)

    async def take(self) -> None:
        """Take one credit; wait for it in order of arrival. Cancellable: a cancelled caller holds no credit, even if it
        was cancelled at the moment of its turn.
        """
        if self.taken < self.total and not self._waiting:
            self.taken += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give()
            elif turn in self._waiting:
                # `give` removes waiters too, possibly between the cancellation and this line.
                self._waiting.remove(turn)
            raise

    def give(self) -> None:
        """Return one credit. The caller that has waited longest gets it."""
        if self.taken < 1:
            raise ValueError("more credits given back than taken")
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.taken -= 1


class LiveGate:
    """Gate for backfill: open only while live work leaves capacity.

    It is closed while a live record waits for a credit, or while more than an eighth of the live credits are taken.
    That many keep the batches full, so backfill beside them would only delay live uploads.
    """

    _POLL_SECONDS = 0.05

    def __init__(self, live: Credits) -> None:
        self._live = live
        self._enough = max(1, live.total // 8)
        self.yielding = False

    @property
    def busy(self) -> bool:
        """Return whether backfill must wait."""
        return self._live.exhausted or self._live.taken > self._enough

    async def passed(self) -> None:
        """Wait until live work leaves capacity."""
        try:
            while self.busy:
                self.yielding = True
                await asyncio.sleep(self._POLL_SECONDS)
        finally:
            self.yielding = False
