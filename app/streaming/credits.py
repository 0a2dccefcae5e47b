"""Credits bound what one worker has in hand; the gate lets live uploads go before backfill."""

from __future__ import annotations

import asyncio
from collections import deque


class Credits:
    """A counting pool. `take` waits in turn; memory per credit is what one record in hand costs."""

    def __init__(self, total: int) -> None:
        if total < 1:
            raise ValueError("a pool without credits would never move")
        self.total = total
        self.taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def exhausted(self) -> bool:
        """Whether somebody waits for a credit."""
        return bool(self._waiting)

    async def take(self) -> None:
        """Return with one credit taken. Cancellable: a cancelled waiter takes none, also in the moment of its turn."""
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
                # A `give` between the cancellation and this moment has dropped it already.
                self._waiting.remove(turn)
            raise

    def give(self) -> None:
        """Return one credit; it goes straight to whoever has waited longest."""
        if self.taken < 1:
            raise ValueError("more credits given back than taken")
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.taken -= 1


class LiveGate:
    """Opens for backfill only while live work leaves room.

    Live work is in the way when a live record waits for a credit, or when more than an eighth of the live credits are
    taken: that much is enough to keep batches full, so backfill beside it would only make live uploads wait.
    """

    _POLL_SECONDS = 0.05

    def __init__(self, live: Credits) -> None:
        self._live = live
        self._enough = max(1, live.total // 8)
        self.yielding = False

    @property
    def busy(self) -> bool:
        """Whether backfill must wait."""
        return self._live.exhausted or self._live.taken > self._enough

    async def passed(self) -> None:
        """Return when live work leaves room."""
        try:
            while self.busy:
                self.yielding = True
                await asyncio.sleep(self._POLL_SECONDS)
        finally:
            self.yielding = False
