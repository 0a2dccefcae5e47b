"""Following a topic through outages."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from app.serving.topic_watch import Following
from tests.support.eventually import eventually
from tests.support.fake_topic import FakeTopic
from tests.support.manual_clock import ManualClock


async def test_an_outage_neither_repeats_nor_skips() -> None:
    topic = FakeTopic("t")
    following = Following(topic.open, ManualClock())
    seen: list[int] = []

    async def read() -> None:
        async with aclosing(following.batches(0.01)) as batches:
            async for batch in batches:
                seen.extend(int(record.value or b"") for record in batch)

    reading = asyncio.create_task(read())
    await eventually(lambda: topic.opened == 1)
    for number in range(30):
        if number == 10:
            await eventually(lambda: len(seen) == 10)
            topic.cut()
            await eventually(lambda: following.away)
        if number == 20:
            topic.away = False
        topic.append(number % 2, b"%d" % number, holes=number % 3)
    await eventually(lambda: len(seen) >= 30)
    reading.cancel()
    assert [sorted(seen), topic.opened] == [list(range(30)), 2]


async def test_a_reader_that_hears_nothing_is_replaced() -> None:
    topic, clock = FakeTopic("t"), ManualClock()
    following = Following(topic.open, clock)
    async with aclosing(following.batches(0.001)) as batches:
        assert await anext(batches) == []
        assert await anext(batches) == []
        await clock.sleep(1_000)
        assert await anext(batches) == []
        assert topic.opened == 2
        topic.append(0, b"x")
        batch = await anext(batches)
        while not batch:
            batch = await anext(batches)
        assert [record.value for record in batch] == [b"x"]


async def test_why_nothing_comes_is_known() -> None:
    topic = FakeTopic("t")
    topic.cut()
    following = Following(topic.open, ManualClock())
    assert following.away
    async with aclosing(following.batches(0.01)) as batches:
        assert await anext(batches) == []
        assert "fake broker" in following.away
        topic.away = False
        assert await anext(batches) == []
        assert following.away == ""
