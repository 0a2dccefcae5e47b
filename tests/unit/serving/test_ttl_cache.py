"""Answers asked once for everybody."""

from __future__ import annotations

import asyncio

import pytest

from app.errors import BrokerUnavailable
from app.serving.ttl_cache import Remembered
from tests.support.manual_clock import ManualClock


class Source:
    def __init__(self) -> None:
        self.asked = 0
        self.away = False
        self.hangs = False

    async def ask(self) -> int:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.away:
            raise BrokerUnavailable("away")
        return self.asked


async def test_an_answer_is_kept_for_its_seconds_and_asked_once_for_all() -> None:
    source, clock = Source(), ManualClock()
    remembered = Remembered(source.ask, clock, seconds=5, patience_seconds=5)
    assert await asyncio.gather(*(remembered.get() for _ in range(20))) == [1] * 20
    await clock.sleep(4.9)
    assert await remembered.get() == 1
    await clock.sleep(0.2)
    assert await remembered.get() == 2


async def test_a_failure_is_kept_too_and_the_last_answer_stays_known() -> None:
    source, clock = Source(), ManualClock()
    remembered = Remembered(source.ask, clock, seconds=5, patience_seconds=5)
    assert await remembered.get() == 1
    await clock.sleep(6)
    source.away = True
    for _ in range(3):
        with pytest.raises(BrokerUnavailable):
            await remembered.get()
    assert (source.asked, remembered.known) == (2, 1)
    source.away = False
    await clock.sleep(6)
    assert await remembered.get() == 3


async def test_who_answers_too_late_is_away() -> None:
    source = Source()
    source.hangs = True
    remembered = Remembered(source.ask, ManualClock(), seconds=5, patience_seconds=0.01)
    with pytest.raises(BrokerUnavailable, match=r"0\.01 s"):
        await remembered.get()
