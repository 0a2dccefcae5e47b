"""Redis goes away under load."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from app.pipeline.index import IndexProcessor
from app.ports.records import Completion
from app.systems.clock import SystemClock
from app.systems.redis.index import RedisIndex
from app.systems.registry.avro import Codec
from tests.support.eventually import eventually
from tests.support.manual_clock import LaneStatusLog
from tests.support.outcomes import facts_in, prediction, source_record
from tests.support.redis_process import RedisProcess

CODEC = Codec()
RECORDS = 3_000


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisProcess]:
    running = RedisProcess(tmp_path)
    await running.start()
    yield running
    await running.close()


async def test_redis_killed_under_load_holds_the_lane_and_loses_nothing_that_was_not_answered(
    server: RedisProcess,
) -> None:
    """Guarantee: while Redis is away no offset leaves; when it is back the index goes on by itself."""
    index = RedisIndex(server.settings(), CODEC)
    status = LaneStatusLog()
    processor = IndexProcessor(CODEC, facts_in(index), SystemClock(), status, max_batch=64)
    credits = asyncio.Semaphore(128)
    finished: list[int] = []

    async def handle(number: int) -> None:
        async with credits:
            wire = CODEC.encode(prediction(key=f"{number}.jpg", upload_id=str(number), sha256=f"{number:064x}"))
            assert await processor.process(source_record(wire, offset=number)) == Completion()
            finished.append(number)

    work = [asyncio.create_task(handle(number)) for number in range(RECORDS)]
    await eventually(lambda: len(finished) > 500, 30)
    await server.kill()
    await eventually(lambda: "waiting:index" in status.said, 30)
    held = len(finished)
    # Several rounds of tries against a dead port.
    await eventually(lambda: status.said.count("waiting:index") >= 5, 60)
    assert len(finished) == held
    await server.start()
    async with asyncio.timeout(120):
        await asyncio.gather(*work)
    assert sorted(finished) == list(range(RECORDS))
    assert status.said[-1] == "working"
    # The server lost its memory with the kill; everything answered since its return is there.
    for number in finished[held:]:
        found = await index.image("images", f"{number}.jpg")
        assert found is not None and found.prediction is not None
    await index.close()


async def test_scripts_that_the_server_forgot_are_loaded_again(server: RedisProcess) -> None:
    index = RedisIndex(server.settings(), CODEC)
    processor = IndexProcessor(CODEC, facts_in(index), SystemClock(), LaneStatusLog())
    await processor.process(source_record(CODEC.encode(prediction(key="before.jpg"))))
    await server.kill()
    await server.start()
    await processor.process(source_record(CODEC.encode(prediction(key="after.jpg"))))
    assert await index.image("images", "after.jpg") is not None
    await index.close()


async def test_a_frozen_redis_is_waited_for_too(server: RedisProcess) -> None:
    """Guarantee: a server that accepts and never answers counts as away after a bounded time."""
    index = RedisIndex(server.settings(), CODEC)
    status = LaneStatusLog()
    processor = IndexProcessor(CODEC, facts_in(index), SystemClock(), status)
    await processor.process(source_record(CODEC.encode(prediction(key="before.jpg"))))
    server.freeze()
    task = asyncio.create_task(processor.process(source_record(CODEC.encode(prediction(key="during.jpg")))))
    try:
        await eventually(lambda: "waiting:index" in status.said, 20)
        assert not task.done()
    finally:
        server.thaw()
    async with asyncio.timeout(30):
        await task
    assert await index.image("images", "during.jpg") is not None
    await index.close()
