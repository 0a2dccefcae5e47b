"""Budgets: shared bounded quantities (threads, bytes), granted in order of request, live before backfill."""

from __future__ import annotations

import asyncio
from collections import deque

from app.domain.batching import Priority


class Ticket:
    """Priority of one upload in all queues. It may rise while the upload waits."""

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
    """A fair semaphore of `total` units with two priorities. Belongs to one event loop.

    Within a priority the order is strict, so small requests do not starve a large one. A request larger than `total` is
    granted when all units are free.
    """

    def __init__(self, total: int) -> None:
        self.total = max(1, total)
        self.free = self.total
        self._waiting: tuple[deque[_Waiter], deque[_Waiter]] = (deque(), deque())

    @property
    def waiting(self) -> int:
        """Number of waiting requests."""
        return sum(map(len, self._waiting))

    async def take(self, amount: int, ticket: Ticket) -> int:
        """Take `amount` units; wait for them in turn. Return the number to give back, at most `total`.

        Cancellable: a cancelled caller holds no units, even if it was cancelled at the moment of its turn.
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
        """Give back `amount` units."""
        self.free += amount
        self._serve()

    def promote(self, ticket: Ticket) -> None:
        """Move the ticket's waiting requests to the live queue. Call before the ticket's priority changes."""
        backfill = self._waiting[Priority.BACKFILL]
        for waiter in [waiter for waiter in backfill if waiter.ticket is ticket]:
            backfill.remove(waiter)
            self._waiting[Priority.LIVE].append(waiter)

    def _forget(self, waiter: _Waiter) -> None:
        # `give` may have removed the waiter already, between its cancellation and this line.
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
    """Units of a budget held by one owner and given back once."""

    __slots__ = ("_amount", "_budget")

    def __init__(self, budget: Budget, amount: int) -> None:
        self._budget = budget
        self._amount = amount

    def keep(self, amount: int) -> None:
        """Give back the units beyond `amount`."""
        if amount < self._amount:
            self._budget.give(self._amount - amount)
            self._amount = amount

    def release(self) -> None:
        """Release everything. Idempotent."""
        self.keep(0)
