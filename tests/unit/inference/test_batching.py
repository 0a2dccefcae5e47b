"""The micro-batch queue as a state machine against a plain model of it, and the budget under cancellation."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.domain.batching import BatchQueue, BatchRule, Priority
from app.inference.budget import Budget, Ticket

MAX_BATCH, DELAY = 4, 0.025


class Batching(RuleBasedStateMachine):
    """Members are numbers; the model is a list of (member, priority, since)."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: BatchQueue[int] = BatchQueue(BatchRule(MAX_BATCH, DELAY))
        self.model: list[tuple[int, Priority, float]] = []
        self.now = 0.0
        self.next = 0

    @rule(priority=st.sampled_from(Priority), step=st.floats(0, 0.05))
    def add(self, priority: Priority, step: float) -> None:
        self.now += step
        self.queue.add(self.next, priority, self.now)
        self.model.append((self.next, priority, self.now))
        self.next += 1

    @precondition(lambda self: self.model)
    @rule(pick=st.integers(0, 99))
    def promote(self, pick: int) -> None:
        at = pick % len(self.model)
        member, priority, since = self.model[at]
        self.queue.promote(lambda one: one == member)
        if priority is Priority.BACKFILL:
            # It stands behind the live ones that wait, and keeps its age.
            del self.model[at]
            self.model.append((member, Priority.LIVE, since))

    @precondition(lambda self: self.model)
    @rule(pick=st.integers(0, 99))
    def discard(self, pick: int) -> None:
        member = self.model.pop(pick % len(self.model))[0]
        self.queue.discard(member)
        self.queue.discard(member)

    @rule()
    def take(self) -> None:
        ordered = sorted(self.model, key=lambda one: one[1])  # stable: live first, each in order
        batch = self.queue.take()
        assert batch == [member for member, _, _ in ordered[:MAX_BATCH]]
        self.model = [one for one in self.model if one[0] not in batch]

    @invariant()
    def agrees(self) -> None:
        assert len(self.queue) == len(self.model)
        assert self.queue.urgent == any(priority is Priority.LIVE for _, priority, _ in self.model)
        due_at = self.queue.due_at()
        if not self.model:
            assert due_at is None
        elif len(self.model) >= MAX_BATCH:
            assert due_at is not None and due_at <= self.now
        else:
            assert due_at == min(since for _, _, since in self.model) + DELAY


TestBatching = Batching.TestCase
TestBatching.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


async def test_a_budget_is_taken_in_order_live_before_backfill() -> None:
    budget = Budget(10)
    order: list[str] = []

    async def run(name: str, amount: int, priority: Priority) -> None:
        taken = await budget.take(amount, Ticket(priority))
        order.append(name)
        await asyncio.sleep(0)
        budget.give(taken)

    held = await budget.take(10, Ticket())
    waiting = [
        asyncio.create_task(run("backfill", 1, Priority.BACKFILL)),
        asyncio.create_task(run("large", 9, Priority.LIVE)),
        asyncio.create_task(run("small", 2, Priority.LIVE)),
    ]
    await asyncio.sleep(0)
    assert budget.waiting == 3
    budget.give(held)
    await asyncio.gather(*waiting)
    assert order == ["large", "small", "backfill"] and budget.free == 10


async def test_more_than_everything_is_given_when_all_is_free() -> None:
    budget = Budget(10)
    assert await budget.take(99, Ticket()) == 10 and budget.free == 0


@pytest.mark.parametrize("given_first", [True, False])
async def test_a_cancelled_waiter_holds_nothing_and_holds_up_nobody(given_first: bool) -> None:
    budget = Budget(10)
    held = await budget.take(8, Ticket())
    large = asyncio.create_task(budget.take(9, Ticket()))
    small = asyncio.create_task(budget.take(2, Ticket()))
    await asyncio.sleep(0)
    assert not small.done(), "nobody overtakes"
    if given_first:
        budget.give(held)
        held = 0
    large.cancel()
    await asyncio.wait([large])
    assert await small == 2
    budget.give(2 + held)
    assert budget.free == 10 and budget.waiting == 0


async def test_a_promoted_ticket_moves_its_request() -> None:
    budget = Budget(1)
    held = await budget.take(1, Ticket())
    first, second = Ticket(Priority.BACKFILL), Ticket(Priority.BACKFILL)
    one = asyncio.create_task(budget.take(1, first))
    two = asyncio.create_task(budget.take(1, second))
    await asyncio.sleep(0)
    budget.promote(second)
    second.priority = Priority.LIVE
    budget.give(held)
    assert await two == 1 and not one.done()
    one.cancel()
