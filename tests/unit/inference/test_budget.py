"""Budget: in order of asking, live before backfill, and nothing lost whatever is cancelled at whatever moment."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.batching import Priority
from app.inference.budget import Budget, Ticket


async def settled() -> None:
    """Let every task that can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_waiter_that_is_dropped_by_a_give_between_its_cancellation_and_its_end_is_cancelled() -> None:
    budget = Budget(2)
    held = await budget.take(2, Ticket())
    waiter = asyncio.create_task(budget.take(1, Ticket()))
    await settled()
    waiter.cancel()
    budget.give(held)
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert (budget.free, budget.waiting) == (2, 0)


async def test_a_waiter_that_is_cancelled_in_the_moment_of_its_turn_gives_it_to_the_next() -> None:
    budget = Budget(2)
    held = await budget.take(2, Ticket())
    first, second = (asyncio.create_task(budget.take(2, Ticket())) for _ in range(2))
    await settled()
    budget.give(held)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second == 2
    assert (budget.free, budget.waiting) == (0, 0)


async def test_a_large_request_that_is_given_up_lets_the_small_ones_behind_it_pass() -> None:
    budget = Budget(2)
    await budget.take(1, Ticket())
    large = asyncio.create_task(budget.take(2, Ticket()))
    small = asyncio.create_task(budget.take(1, Ticket()))
    await settled()
    assert not small.done(), "nobody overtakes"
    large.cancel()
    assert await small == 1


async def test_a_promoted_waiter_can_be_cancelled() -> None:
    budget = Budget(1)
    await budget.take(1, Ticket())
    ticket = Ticket(Priority.BACKFILL)
    waiter = asyncio.create_task(budget.take(1, ticket))
    await settled()
    budget.promote(ticket)
    ticket.priority = Priority.LIVE
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    budget.give(1)
    assert (budget.free, budget.waiting) == (1, 0)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 4),
    st.lists(
        st.tuples(st.sampled_from(["live", "backfill", "give", "promote", "cancel", "run"]), st.integers(0, 5)),
        max_size=40,
    ),
    st.integers(),
)
def test_no_unit_is_lost_or_doubled(total: int, steps: Sequence[tuple[str, int]], seed: int) -> None:
    asyncio.run(_walk(total, steps, random.Random(seed)))


async def _walk(total: int, steps: Sequence[tuple[str, int]], chance: random.Random) -> None:
    budget = Budget(total)
    held: list[int] = []
    waiting: list[tuple[asyncio.Task[None], Ticket]] = []

    async def take(amount: int, ticket: Ticket) -> None:
        held.append(await budget.take(amount, ticket))

    for step, amount in steps:
        match step:
            case "live" | "backfill":
                ticket = Ticket(Priority.LIVE if step == "live" else Priority.BACKFILL)
                waiting.append((asyncio.create_task(take(amount, ticket)), ticket))
            case "give" if held:
                budget.give(held.pop())
            case "promote" if waiting:
                ticket = chance.choice(waiting)[1]
                budget.promote(ticket)
                ticket.priority = Priority.LIVE
            case "cancel" if waiting:
                chance.choice(waiting)[0].cancel()
            case _:
                await asyncio.sleep(0)
        assert 0 <= budget.free <= total
    tasks = [task for task, _ in waiting]
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(error) for error in ended} <= {type(None), asyncio.CancelledError}
    assert (budget.free + sum(held), budget.waiting) == (total, 0)
