"""Following a topic through outages."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from app.serving.topic_watch import Following
from app.topics import PREDICTIONS
from tests.support.eventually import eventually
from tests.support.manual_clock import ManualClock
from tests.support.memory.topics import MemoryTopicLog


async def test_an_outage_neither_repeats_nor_skips() -> None:
    log = MemoryTopicLog(partitions=2)
    following = Following(log, (PREDICTIONS,), ManualClock())
    seen: list[int] = []

    async def read() -> None:
        async with aclosing(following.batches(0.01)) as batches:
            async for batch in batches:
                seen.extend(int(record.value or b"") for record in batch)

    reading = asyncio.create_task(read())
    await eventually(lambda: log.opened == 1)
    for number in range(30):
        if number == 10:
            await eventually(lambda: len(seen) == 10)
            log.disconnect()
            await eventually(lambda: following.away)
        if number == 20:
            log.connect()
        log.append(PREDICTIONS, b"%d" % number, partition=number % 2, holes=number % 3)
    await eventually(lambda: len(seen) >= 30)
    reading.cancel()
    assert [sorted(seen), log.opened] == [list(range(30)), 2]


async def test_a_reader_that_hears_nothing_is_replaced() -> None:
    log, clock = MemoryTopicLog(partitions=2), ManualClock()
    following = Following(log, (PREDICTIONS,), clock)
    async with aclosing(following.batches(0.001)) as batches:
        assert await anext(batches) == []
        assert await anext(batches) == []
        await clock.sleep(1_000)
        assert await anext(batches) == []
        assert log.opened == 2
        log.append(PREDICTIONS, b"x", partition=0)
        batch = await anext(batches)
        while not batch:
            batch = await anext(batches)
        assert [record.value for record in batch] == [b"x"]


async def test_why_nothing_comes_is_known() -> None:
    log = MemoryTopicLog(partitions=2)
    log.disconnect()
    following = Following(log, (PREDICTIONS,), ManualClock())
    assert following.away
    async with aclosing(following.batches(0.01)) as batches:
        assert await anext(batches) == []
        assert "broker in memory" in following.away
        log.connect()
        assert await anext(batches) == []
        assert following.away == ""
