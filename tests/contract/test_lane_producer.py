"""One suite for the producers of lanes: the memory twin, and transactions on real Kafka."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from typing import Protocol

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition

from app.errors import Fenced
from app.settings import KafkaSettings
from app.stack.local import LocalStack
from app.streaming.ports import LaneProducer, SourcePartition, WireOutput
from app.systems.kafka.transactions import KafkaLaneProducers
from app.topics import PREDICTIONS, TASKS
from tests.support.memory.streams import MemoryLog
from tests.support.stack import TestNames

GROUP = "contract"


class LogUnderTest(Protocol):
    source: SourcePartition
    target: str

    def create(self) -> LaneProducer: ...

    async def outputs(self) -> list[bytes]: ...

    async def offset(self) -> int | None: ...


class Memory:
    def __init__(self) -> None:
        self.log = MemoryLog()
        self.source = SourcePartition(TASKS, 0)
        self.target = PREDICTIONS

    def create(self) -> LaneProducer:
        return self.log.create(self.source)

    async def outputs(self) -> list[bytes]:
        return [output.value for output in self.log.outputs]

    async def offset(self) -> int | None:
        return self.log.offsets.get(self.source)


class Kafka:
    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.bootstrap = bootstrap
        self.group = prefix + GROUP
        self.source = SourcePartition(prefix + TASKS, 0)
        self.target = prefix + PREDICTIONS
        self.producers = KafkaLaneProducers(KafkaSettings(bootstrap=bootstrap), self.group)

    def create(self) -> LaneProducer:
        return self.producers.create(self.source)

    async def outputs(self) -> list[bytes]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, isolation_level="read_committed", auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            tps = [TopicPartition(self.target, number) for number in range(4)]
            consumer.assign(tps)
            await consumer.seek_to_beginning(*tps)
            found: list[bytes] = []
            for tp, end in (await consumer.end_offsets(tps)).items():
                while await consumer.position(tp) < end:
                    found += [record.value for record in (await consumer.getmany(tp, timeout_ms=500)).get(tp, [])]
            return found
        finally:
            await consumer.stop()

    async def offset(self) -> int | None:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, group_id=self.group, enable_auto_commit=False)
        await consumer.start()
        try:
            committed: int | None = await consumer.committed(TopicPartition(*self.source))
            return committed
        finally:
            await consumer.stop()


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.services)])
def servers(request: pytest.FixtureRequest) -> LocalStack | None:
    """The stack, only where it is needed."""
    if request.param == "memory":
        return None
    stack: LocalStack = request.getfixturevalue("stack")
    return stack


@pytest_asyncio.fixture
async def log(servers: LocalStack | None, names: TestNames) -> AsyncIterator[LogUnderTest]:
    if servers is None:
        yield Memory()
    else:
        await servers.create_topics(names.prefix)
        yield Kafka(servers.kafka, names.prefix)
        # aiokafka leaves a future with its error behind when a producer is fenced; let it complain here, where it is
        # known, and not from inside whatever runs when it is collected.
        gc.collect()


def output(log: LogUnderTest, text: str) -> WireOutput:
    return WireOutput(log.target, b"key", text.encode())


async def test_outputs_and_offset_are_published_together(log: LogUnderTest) -> None:
    producer = log.create()
    await producer.start()
    assert await log.offset() is None
    await producer.publish([output(log, "a"), output(log, "b")], 5)
    await producer.publish([], 9)
    await producer.close()
    assert await log.outputs() == [b"a", b"b"]
    assert await log.offset() == 9


async def test_a_new_owner_fences_the_old_one_whose_outputs_do_not_appear(log: LogUnderTest) -> None:
    old, new = log.create(), log.create()
    await old.start()
    await old.publish([output(log, "old")], 1)
    await new.start()
    with pytest.raises(Fenced):
        await old.publish([output(log, "late")], 2)
    await new.publish([output(log, "new")], 2)
    await old.close()
    await new.close()
    assert await log.outputs() == [b"old", b"new"]
    assert await log.offset() == 2
