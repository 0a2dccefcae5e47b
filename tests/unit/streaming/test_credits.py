"""Credits: in turn, and none lost or doubled whatever is cancelled at whatever moment."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.streaming.credits import Credits


async def settled() -> None:
    """Let every task that can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def taken_by(pool: Credits, count: int) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(pool.take()) for _ in range(count)]
    await settled()
    return tasks


async def test_a_waiter_that_is_dropped_by_a_give_between_its_cancellation_and_its_end_is_cancelled() -> None:
    pool = Credits(1)
    await pool.take()
    (waiter,) = await taken_by(pool, 1)
    waiter.cancel()
    pool.give()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert (pool.taken, pool.exhausted) == (0, False)
    await pool.take()


async def test_a_waiter_that_is_cancelled_in_the_moment_of_its_turn_gives_it_back() -> None:
    pool = Credits(1)
    await pool.take()
    first, second = await taken_by(pool, 2)
    pool.give()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await second
    assert pool.taken == 1
    pool.give()
    assert (pool.taken, pool.exhausted) == (0, False)


async def test_more_cannot_be_given_back_than_was_taken() -> None:
    with pytest.raises(ValueError, match="more credits"):
        Credits(1).give()


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 3), st.lists(st.sampled_from(["take", "give", "cancel", "run"]), max_size=40), st.integers())
def test_no_credit_is_lost_or_doubled(total: int, steps: Sequence[str], seed: int) -> None:
    asyncio.run(_walk(total, steps, random.Random(seed)))


async def _walk(total: int, steps: Sequence[str], chance: random.Random) -> None:
    pool = Credits(total)
    held = 0
    waiting: list[asyncio.Task[None]] = []

    async def take() -> None:
        nonlocal held
        await pool.take()
        held += 1

    for step in steps:
        match step:
            case "take":
                waiting.append(asyncio.create_task(take()))
            case "give" if held:
                held -= 1
                pool.give()
            case "cancel" if waiting:
                chance.choice(waiting).cancel()
            case _:
                await asyncio.sleep(0)
        assert pool.taken <= total
    for task in waiting:
        task.cancel()
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(error) for error in ended} <= {type(None), asyncio.CancelledError}
    assert pool.taken == held and not pool.exhausted
