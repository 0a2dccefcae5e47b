"""Signs of life: given for as long as a job runs, whatever the broker does."""

from __future__ import annotations

import asyncio

import pytest

from app.domain.jobs import SIGN_EVERY_SECONDS
from app.errors import BrokerUnavailable
from app.rescoring.signs import signs_of_life
from tests.support.manual_clock import ManualClock


async def test_signs_are_given_at_once_and_until_the_end_through_a_broker_that_is_away() -> None:
    clock, given, enough = ManualClock(), [0], asyncio.Event()

    async def sign() -> None:
        given[0] += 1
        if given[0] == 4:
            enough.set()
        if given[0] == 2:
            raise BrokerUnavailable("restarting")

    async with signs_of_life(clock, sign):
        async with asyncio.timeout(5):
            await enough.wait()
    assert set(clock.sleeps) == {SIGN_EVERY_SECONDS} and len(clock.sleeps) >= 3
    ended = given[0]
    for _ in range(20):
        await clock.sleep(0)
    assert given[0] == ended


async def test_an_error_of_the_block_ends_the_signs_and_is_the_one_that_is_raised() -> None:
    async def sign() -> None:
        """Nothing is said."""

    with pytest.raises(LookupError, match="of the job"):
        async with signs_of_life(ManualClock(), sign):
            raise LookupError("of the job")
