"""Watching topics from outside, on a real broker."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from app.ports.records import SourceRecord
from app.settings import KafkaSettings
from app.stack.local import LocalStack
from app.systems.kafka.client import AtTime, TopicScanner, TransactionalProducer
from app.systems.kafka.follow import TopicFollower, committed_offsets
from app.topics import FLAGGED, PREDICTIONS
from tests.support.eventually import eventually


def _settings(stack: LocalStack, prefix: str) -> KafkaSettings:
    return replace(KafkaSettings(), bootstrap=stack.kafka, prefix=prefix, partitions=stack.options.partitions)


async def test_a_follower_sees_what_is_committed_after_it_came_and_nothing_before(
    stack: LocalStack, topics: str
) -> None:
    settings = _settings(stack, topics)
    async with TransactionalProducer(settings, "follow") as producer:
        await producer.publish([(PREDICTIONS, b"early", b"0")])
        async with TopicFollower(settings, (PREDICTIONS, FLAGGED)) as follower:
            await producer.publish([(PREDICTIONS, b"a", b"1"), (FLAGGED, b"b", b"2")])
            seen: list[SourceRecord] = []

            async def both() -> bool:
                seen.extend(await follower.poll(0.2))
                return len(seen) >= 2

            await eventually(both, 20)
            assert sorted((record.topic, record.key, record.value) for record in seen) == [
                (FLAGGED, b"b", b"2"),
                (PREDICTIONS, b"a", b"1"),
            ]
            assert await follower.poll(0.2) == []


async def test_a_group_that_committed_nothing_has_no_offsets(stack: LocalStack, topics: str) -> None:
    assert await committed_offsets(_settings(stack, topics), "sightline.nobody", PREDICTIONS) == {}


async def test_following_goes_on_where_another_follower_ended(stack: LocalStack, topics: str) -> None:
    settings = _settings(stack, topics)
    async with TransactionalProducer(settings, "follow") as producer:
        await producer.publish([(PREDICTIONS, b"%d" % number, b"%d" % number) for number in range(20)])
        async with TopicFollower(settings, (PREDICTIONS,), AtTime(0)) as follower:
            assert not await follower.caught_up()
            first = await _take(follower, 20)
            await eventually(lambda: _idle(follower), 20)
        assert sorted(int(record.value or b"") for record in first) == list(range(20))
        half = {(PREDICTIONS, partition): offset for (_, partition), offset in follower.begins.items()}
        for record in first[:10]:
            half[PREDICTIONS, record.partition] = record.offset + 1
        async with TopicFollower(settings, (PREDICTIONS,), half) as follower:
            assert sorted(record.offset for record in await _take(follower, 10)) == sorted(
                record.offset for record in first[10:]
            )
            await follower.reach()


async def _take(follower: TopicFollower, count: int) -> list[SourceRecord]:
    seen: list[SourceRecord] = []

    async def enough() -> bool:
        seen.extend(await follower.poll(0.2))
        return len(seen) >= count

    await eventually(enough, 20)
    return seen


async def _idle(follower: TopicFollower) -> bool:
    return await follower.poll(0.1) == [] and await follower.caught_up()


async def test_a_scanner_lets_its_connections_go_at_once(stack: LocalStack, topics: str) -> None:
    loop = asyncio.get_running_loop()
    async with TopicScanner(_settings(stack, topics)) as scanner:
        await scanner.ends(PREDICTIONS)
        began = loop.time()
    assert loop.time() - began < 5
