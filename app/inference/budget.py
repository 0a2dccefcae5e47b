"""A bounded quantity (threads, bytes) shared by many: taken in order of asking, live before backfill."""

from __future__ import annotations

import asyncio
from collections import deque

from app.domain.batching import Priority


class Ticket:
    """One upload's place in every queue it stands in. `Priority` may rise while it waits."""

    __slots__ = ("priority",)

    def __init__(self, priority: Priority = Priority.LIVE) -> None:
        self.priority = priority


class _Waiter:
    __slots__ = ("amount", "ticket", "turn")

    def __init__(self, amount: int, ticket: Ticket, turn: asyncio.Future[None]) -> None:
        self.amount = amount
        self.ticket = ticket
        self.turn = turn


class Budget:
    """`total` units. Belongs to one event loop.

    Nobody overtakes within a priority, so a large request is not starved by small ones; what exceeds `total` is given
    when everything is free.
    """

    def __init__(self, total: int) -> None:
        self.total = max(1, total)
        self.free = self.total
        self._waiting: tuple[deque[_Waiter], deque[_Waiter]] = (deque(), deque())

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting))

    async def take(self, amount: int, ticket: Ticket) -> int:
        """Return, with that many units taken, when it is the ticket's turn; the return value is what to give back.

        Cancellable: a cancelled waiter holds nothing, also when it was cancelled in the moment of its turn.
        """
        amount = min(max(0, amount), self.total)
        if amount <= self.free and not any(self._waiting[: ticket.priority + 1]):
            self.free -= amount
            return amount
        waiter = _Waiter(amount, ticket, asyncio.get_running_loop().create_future())
        self._waiting[ticket.priority].append(waiter)
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if waiter.turn.done() and not waiter.turn.cancelled():
                self.give(amount)
            else:
                self._forget(waiter)
                self._serve()
            raise
        return amount

    def give(self, amount: int) -> None:
        """Return units."""
        self.free += amount
        self._serve()

    def promote(self, ticket: Ticket) -> None:
        """Move the ticket's waiting requests to the live queue. Call it before the ticket's priority is changed."""
        backfill = self._waiting[Priority.BACKFILL]
        for waiter in [waiter for waiter in backfill if waiter.ticket is ticket]:
            backfill.remove(waiter)
            self._waiting[Priority.LIVE].append(waiter)

    def _forget(self, waiter: _Waiter) -> None:
        # Between its cancellation and this moment a `give` may have met the waiter in the queue and dropped it.
        for waiting in self._waiting:
            if waiter in waiting:
                waiting.remove(waiter)

    def _serve(self) -> None:
        for waiting in self._waiting:
            while waiting:
                if waiting[0].amount > self.free:
                    return
                waiter = waiting.popleft()
                if not waiter.turn.done():
                    self.free -= waiter.amount
                    waiter.turn.set_result(None)


class Held:
    """Units taken from a budget by one owner; given back once."""

    __slots__ = ("_amount", "_budget")

    def __init__(self, budget: Budget, amount: int) -> None:
        self._budget = budget
        self._amount = amount

    def keep(self, amount: int) -> None:
        """Give back what is held beyond `amount`."""
        if amount < self._amount:
            self._budget.give(self._amount - amount)
            self._amount = amount

    def release(self) -> None:
        """Give everything back; again is nothing."""
        self.keep(0)
