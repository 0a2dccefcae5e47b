"""Watching topics from outside, on a real broker."""

from __future__ import annotations

from dataclasses import replace

from app.adapters.kafka import TransactionalProducer
from app.adapters.kafka_follow import TopicFollower, committed_offsets
from app.ports import SourceRecord
from app.settings import KafkaSettings
from app.stack.local import LocalStack
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
