"""Kafka Connect killed at the worst moments: rows = distinct outcomes, every time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from app.stack.local import CONNECT
from app.topics import PREDICTIONS
from tests.support.eventually import eventually
from tests.support.lake.connect import LakeInstallation, made_predictions

pytestmark = pytest.mark.services

# A killed sink is noticed after its session of 10 s; then everything is read again and committed.
_RECOVERY_SECONDS = 120.0


async def _equal(lake: LakeInstallation, expected: set[tuple[int, int]]) -> bool:
    """Whether the rows are the outcomes, each once. More rows than outcomes fail at once: no wait mends them."""
    rows = await lake.rows("predictions")
    doubled = {place: count for place, count in rows.items() if count > 1}
    if doubled or not set(rows) <= expected:
        pytest.fail(f"{len(doubled)} rows doubled, {len(set(rows) - expected)} of no outcome")
    assert len(rows) == len(expected), f"{len(expected) - len(rows)} of {len(expected)} outcomes have no row"
    return True


async def _first_data_complete(lake: LakeInstallation) -> None:
    """Return when a task has said that all its files of a commit are written: the coordinator commits next."""
    part = TopicPartition(lake.topic("lake.control.predictions.v1"), 0)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=lake.settings.kafka.bootstrap, isolation_level="read_committed", enable_auto_commit=False
    )
    await consumer.start()
    try:
        consumer.assign([part])
        await consumer.seek_to_beginning(part)
        async with asyncio.timeout(90):
            while True:
                for messages in (await consumer.getmany(timeout_ms=20)).values():
                    if any(b"DataComplete" in (message.value or b"") for message in messages):
                        return
    finally:
        await consumer.stop()


@pytest.mark.timeout(300)
async def test_connect_killed_before_its_first_commit_loses_no_outcome(lake: LakeInstallation) -> None:
    """The sink's default begins behind the files that it had announced: 3 of 4 such kills lost everything."""
    await lake.publish(PREDICTIONS, list(made_predictions(20_000)))
    expected = await lake.published(PREDICTIONS)
    await lake.apply("predictions")
    await _first_data_complete(lake)
    await lake.stack.kill(CONNECT)
    assert not await lake.rows("predictions"), "killed too late: the first commit was through"
    await lake.stack.restart(CONNECT)
    await eventually(lambda: _equal(lake, expected), _RECOVERY_SECONDS, every_seconds=2.0)


@pytest.mark.timeout(600)
async def test_connect_killed_five_times_during_a_burst_keeps_every_outcome_once(lake: LakeInstallation) -> None:
    await lake.apply("predictions")
    await lake.publish(PREDICTIONS, list(made_predictions(2_000)))
    await eventually(_grows(lake, 0), 90, every_seconds=1.0)

    published = 2_000
    killing = True

    async def burst() -> None:
        nonlocal published
        while killing:
            more = made_predictions(500, published, lane="backfill", job_id="rescore-1")
            await lake.publish(PREDICTIONS, list(more))
            published += 500
            await asyncio.sleep(0.2)

    bursting = asyncio.create_task(burst())
    for _ in range(5):
        await eventually(_grows(lake, await _row_count(lake)), 120, every_seconds=0.5)
        await lake.stack.kill(CONNECT)
        await lake.stack.restart(CONNECT)
    killing = False
    await bursting
    expected = await lake.published(PREDICTIONS)
    assert len(expected) == published
    await eventually(lambda: _equal(lake, expected), _RECOVERY_SECONDS, every_seconds=2.0)


async def _row_count(lake: LakeInstallation) -> int:
    return sum((await lake.rows("predictions")).values())


def _grows(lake: LakeInstallation, beyond: int) -> Callable[[], Awaitable[bool]]:
    async def grown() -> bool:
        return await _row_count(lake) > beyond

    return grown
