"""One suite on topics in memory and on a real broker: what reading, publishing and consumer groups promise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from functools import partial

import pytest
import pytest_asyncio
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from app.errors import BrokerUnavailable, Fenced, StartupRefused
from app.ports.publishing import Producer, Transactions
from app.ports.records import SourceRecord
from app.ports.topics import AtOffsets, AtTime, Bound, ConsumerGroups, Follower, TopicLog
from app.settings import KafkaSettings
from app.stack.local import LocalStack
from app.systems.clock import SystemClock
from app.systems.kafka.groups import KafkaGroups
from app.systems.kafka.producer import KafkaProducer, KafkaTransactionalProducer
from app.systems.kafka.topic_log import KafkaTopicLog
from app.topics import CONTROL, FLAGGED, PREDICTIONS, UPLOADS
from tests.support.eventually import eventually
from tests.support.ingest import commit_offsets
from tests.support.memory.topics import MemoryGroups, MemoryProducer, MemoryTopicLog, memory_transactions
from tests.support.stack import TEST_PARTITIONS

UNKNOWN = "no.such.topic"


class Topics:
    """What is under test, in memory."""

    def __init__(self) -> None:
        self._memory = MemoryTopicLog(SystemClock(), partitions=TEST_PARTITIONS)
        self._groups = MemoryGroups(self._memory)
        self.log: TopicLog = self._memory
        self.groups: ConsumerGroups = self._groups
        self.producer: Producer = MemoryProducer(self._memory)
        self.transactions: Transactions = memory_transactions(self._memory)

    async def commit(self, group: str, topic: str, offsets: dict[int, int]) -> None:
        self._groups.commit(group, topic, offsets)

    async def forget(self, topic: str, offsets: Mapping[int, int]) -> None:
        for partition, offset in offsets.items():
            self._memory.forget_before(topic, partition, offset)

    def unreachable(self) -> tuple[TopicLog, ConsumerGroups, Producer]:
        self._memory.disconnect()
        return self.log, self.groups, self.producer

    async def close(self) -> None:
        await self.producer.close()


class KafkaTopics(Topics):
    """What is under test, on a broker."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self.log = KafkaTopicLog(settings)
        self.groups = KafkaGroups(settings)
        self.producer = KafkaProducer(settings)
        self.transactions = partial(KafkaTransactionalProducer, settings)

    async def commit(self, group: str, topic: str, offsets: dict[int, int]) -> None:
        await commit_offsets(self._settings, group, topic, offsets)

    async def forget(self, topic: str, offsets: Mapping[int, int]) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._settings.bootstrap)
        await admin.start()
        name = self._settings.prefix + topic
        await admin.delete_records(
            {TopicPartition(name, at): RecordsToDelete(offset) for at, offset in offsets.items()}
        )
        await admin.close()

    def unreachable(self) -> tuple[TopicLog, ConsumerGroups, Producer]:
        settings = replace(self._settings, bootstrap="127.0.0.1:1")
        return KafkaTopicLog(settings), KafkaGroups(settings), KafkaProducer(settings)


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.services)])
def kafka(request: pytest.FixtureRequest) -> KafkaSettings | None:
    """The settings of a broker with empty topics; None for topics in memory."""
    if request.param == "memory":
        return None
    stack: LocalStack = request.getfixturevalue("stack")
    return KafkaSettings(stack.kafka, request.getfixturevalue("topics"), TEST_PARTITIONS)


@pytest_asyncio.fixture
async def topics_of(kafka: KafkaSettings | None) -> AsyncIterator[Topics]:
    under_test = Topics() if kafka is None else KafkaTopics(kafka)
    yield under_test
    await under_test.close()


async def scanned(
    log: TopicLog, topic: str, start: Bound | None = None, end: Bound | None = None
) -> list[SourceRecord]:
    async with aclosing(log.scan(topic, start, end)) as records:
        return [record async for record in records]


async def values(log: TopicLog, topic: str, start: Bound | None = None, end: Bound | None = None) -> list[bytes]:
    return sorted(record.value or b"" for record in await scanned(log, topic, start, end))


async def taken(follower: Follower, count: int) -> list[SourceRecord]:
    records: list[SourceRecord] = []

    async def enough() -> bool:
        records.extend(await follower.poll(0.1))
        return len(records) >= count

    await eventually(enough, 20, every_seconds=0)
    return records


def numbered(count: int, *, first: int = 0) -> list[tuple[str, bytes | None, bytes]]:
    return [(UPLOADS, b"key %d" % (number % 7), b"%04d" % number) for number in range(first, first + count)]


def texts(numbers: range) -> list[bytes]:
    return [b"%04d" % number for number in numbers]


async def test_an_empty_topic_has_its_partitions_and_nothing_else(topics_of: Topics) -> None:
    log = topics_of.log
    assert await log.starts(UPLOADS) == await log.ends(UPLOADS) == dict.fromkeys(range(TEST_PARTITIONS), 0)
    assert await log.ends(CONTROL) == {0: 0}
    assert (await log.count(UPLOADS), await scanned(log, UPLOADS)) == (0, [])


async def test_a_topic_that_does_not_exist_is_refused(topics_of: Topics) -> None:
    log = topics_of.log
    for refused in (log.starts(UNKNOWN), log.ends(UNKNOWN), log.count(UNKNOWN), scanned(log, UNKNOWN)):
        with pytest.raises(StartupRefused, match=UNKNOWN):
            await refused
    with pytest.raises(StartupRefused, match=UNKNOWN):
        async with log.follow((UPLOADS, UNKNOWN)):
            pass


async def test_records_come_in_the_order_of_their_partition_which_follows_their_key(topics_of: Topics) -> None:
    log = topics_of.log
    await topics_of.producer.send_batch(numbered(3_000))
    position = await topics_of.producer.send_and_wait(UPLOADS, b"last", b"last")
    records = await scanned(log, UPLOADS)
    assert sorted(record.value or b"" for record in records) == [*texts(range(3_000)), b"last"]
    assert {record.topic for record in records} == {UPLOADS}
    for record in records:
        assert record.key is not None
        assert record.partition == log.partition_of(record.key, TEST_PARTITIONS)
    for number in range(TEST_PARTITIONS):
        own = [record for record in records if record.partition == number]
        assert [record.offset for record in own] == list(range(len(own)))
        assert [record.value for record in own if record.value != b"last"] == sorted(
            record.value for record in own if record.value and record.value != b"last"
        )
    assert [record.position for record in records if record.value == b"last"] == [position]
    assert await log.count(UPLOADS) == 3_001


async def test_bounds_by_offset(topics_of: Topics) -> None:
    log = topics_of.log
    await topics_of.producer.send_batch(numbered(50))
    middle = await log.ends(UPLOADS)
    await topics_of.producer.send_batch(numbered(50, first=50))
    assert await values(log, UPLOADS, AtOffsets(middle)) == texts(range(50, 100))
    assert await values(log, UPLOADS, None, AtOffsets(middle)) == texts(range(50))
    assert await log.count(UPLOADS, AtOffsets(middle)) == 50
    # A partition without an offset counts from its start, and is skipped where it has no end.
    only = max(middle, key=lambda number: middle[number])
    records = await scanned(log, UPLOADS, AtOffsets({only: middle[only]}))
    assert len(records) == 100 - middle[only]
    records = await scanned(log, UPLOADS, None, AtOffsets({only: middle[only]}))
    assert {record.partition for record in records} == {only} and len(records) == middle[only]
    # Offsets that are not there are those that are nearest.
    beyond = AtOffsets({number: end + 1_000 for number, end in middle.items()})
    assert await scanned(log, UPLOADS, beyond) == []
    assert len(await scanned(log, UPLOADS, None, beyond)) == 100


async def test_bounds_by_time(topics_of: Topics) -> None:
    log = topics_of.log
    await topics_of.producer.send_batch(numbered(20))
    before_ms = max(record.timestamp_ms for record in await scanned(log, UPLOADS))

    async def later() -> bool:
        position = await topics_of.producer.send_and_wait(UPLOADS, b"k", b"later")
        at, after = {position.partition: position.offset}, {position.partition: position.offset + 1}
        (record,) = await scanned(log, UPLOADS, AtOffsets(at), AtOffsets(after))
        return record.timestamp_ms > before_ms

    await eventually(later, every_seconds=0.001)
    bound = AtTime(before_ms + 1)
    assert set(await values(log, UPLOADS, bound)) == {b"later"}
    assert set(texts(range(20))) <= set(await values(log, UPLOADS, None, bound))
    whole = await log.count(UPLOADS, bound) + await log.count(UPLOADS, None, bound)
    assert whole == await log.count(UPLOADS) == len(await scanned(log, UPLOADS))
    assert await scanned(log, UPLOADS, AtTime(2**42)) == []


async def test_a_transaction_is_seen_whole_and_leaves_a_hole(topics_of: Topics) -> None:
    log = topics_of.log
    async with topics_of.transactions("one") as producer:
        await producer.publish(numbered(20))
        await producer.publish([*numbered(20, first=20), (FLAGGED, b"k", b"flag")])
    assert await values(log, UPLOADS) == texts(range(40))
    assert await values(log, FLAGGED) == [b"flag"]
    assert await log.count(UPLOADS) > 40
    # The last offset of each partition is a marker: a scan ends there, and another begins there.
    assert await scanned(log, UPLOADS, AtOffsets(await log.ends(UPLOADS))) == []


async def test_a_younger_producer_of_the_same_id_fences_the_older(topics_of: Topics) -> None:
    async with topics_of.transactions("same") as older:
        await older.publish([(UPLOADS, b"k", b"1")])
        async with topics_of.transactions("same") as younger:
            await younger.publish([(UPLOADS, b"k", b"2")])
            with pytest.raises(Fenced):
                await older.publish([(UPLOADS, b"k", b"3")])
    assert await values(topics_of.log, UPLOADS) == [b"1", b"2"]


async def test_forgotten_records_move_the_start(topics_of: Topics) -> None:
    log = topics_of.log
    await topics_of.producer.send_batch(numbered(60))
    ends = await log.ends(UPLOADS)
    starts = {number: end // 2 for number, end in ends.items()}
    await topics_of.forget(UPLOADS, starts)
    assert await log.starts(UPLOADS) == starts
    assert await log.count(UPLOADS) == len(await scanned(log, UPLOADS)) == sum(ends.values()) - sum(starts.values())
    assert len(await scanned(log, UPLOADS, AtOffsets(dict.fromkeys(ends, 0)))) == await log.count(UPLOADS)
    async with log.follow((UPLOADS,), {(UPLOADS, number): 0 for number in ends}) as follower:
        assert follower.begins == {(UPLOADS, number): start for number, start in starts.items()}


async def test_a_follower_sees_what_is_committed_after_it_was_entered(topics_of: Topics) -> None:
    async with topics_of.transactions("writer") as producer:
        await producer.publish([(PREDICTIONS, b"early", b"0")])
        ends = await topics_of.log.ends(PREDICTIONS)
        async with topics_of.log.follow((PREDICTIONS, FLAGGED)) as follower:
            assert await follower.caught_up()
            assert {number: follower.begins[PREDICTIONS, number] for number in ends} == ends
            assert await follower.poll(0.05) == []
            await producer.publish([(PREDICTIONS, b"a", b"1"), (FLAGGED, b"b", b"2")])
            records = await taken(follower, 2)
            assert sorted((record.topic, record.key, record.value) for record in records) == [
                (FLAGGED, b"b", b"2"),
                (PREDICTIONS, b"a", b"1"),
            ]
            assert await follower.poll(0.05) == []
            await follower.reach()


async def test_a_follower_is_caught_up_with_what_was_there_when_it_was_asked_last(topics_of: Topics) -> None:
    await topics_of.producer.send_batch(numbered(30))
    async with topics_of.log.follow((UPLOADS,), AtTime(0)) as follower:
        assert not await follower.caught_up()
        assert len(await taken(follower, 30)) == 30
        await eventually(follower.caught_up)
        await topics_of.producer.send_batch(numbered(10, first=30))
        assert await follower.caught_up()
        await follower.aim()
        assert not await follower.caught_up()
        await taken(follower, 10)
        await eventually(follower.caught_up)


async def test_following_goes_on_where_another_follower_ended(topics_of: Topics) -> None:
    await topics_of.producer.send_batch(numbered(30))
    async with topics_of.log.follow((UPLOADS,), AtTime(0)) as follower:
        first = await taken(follower, 30)
        positions = dict(follower.begins)
    for record in first[:10]:
        positions[UPLOADS, record.partition] = record.offset + 1
    async with topics_of.log.follow((UPLOADS,), positions) as follower:
        second = await taken(follower, 20)
        assert sorted(record.value or b"" for record in second) == sorted(record.value or b"" for record in first[10:])
        assert await follower.poll(0.05) == []


async def test_the_progress_of_a_group(topics_of: Topics) -> None:
    groups, pairs = topics_of.groups, (("mine", UPLOADS), ("mine", UNKNOWN), ("other", UPLOADS))
    assert await groups.committed(("mine", "other")) == {"mine": {}, "other": {}}
    assert [backlog.records for backlog in await groups.backlogs(pairs)] == [0, 0]
    await topics_of.producer.send_batch(numbered(40))
    records = await scanned(topics_of.log, UPLOADS)
    ends = await topics_of.log.ends(UPLOADS)
    behind = {number: max(0, end - 1) for number, end in ends.items()}
    await topics_of.commit("mine", UPLOADS, behind)
    committed = await groups.committed(("mine", "other"))
    assert committed == {"mine": {(UPLOADS, number): offset for number, offset in behind.items()}, "other": {}}
    mine, other = await groups.backlogs(pairs)
    last_ms = [record.timestamp_ms for record in records if record.offset >= behind[record.partition]]
    assert (mine.group, mine.topic, mine.records, mine.oldest_ms) == ("mine", UPLOADS, len(last_ms), min(last_ms))
    assert (other.group, other.records, other.oldest_ms) == ("other", 40, min(each.timestamp_ms for each in records))
    # Only the marker of a transaction lies behind the group: nothing waits.
    async with topics_of.transactions("one") as producer:
        await producer.publish([(FLAGGED, b"k", b"flag")])
    (flag,) = await scanned(topics_of.log, FLAGGED)
    await topics_of.commit("mine", FLAGGED, {flag.partition: flag.offset + 1})
    (backlog,) = await groups.backlogs((("mine", FLAGGED),))
    assert (backlog.records, backlog.oldest_ms) == (0, None)


async def test_without_a_broker_everything_is_unavailable(topics_of: Topics) -> None:
    log, groups, producer = topics_of.unreachable()
    async with asyncio.timeout(60):
        for failing in (
            log.starts(UPLOADS),
            log.ends(UPLOADS),
            log.count(UPLOADS),
            scanned(log, UPLOADS),
            groups.committed(("mine",)),
            groups.backlogs((("mine", UPLOADS),)),
            producer.send_and_wait(UPLOADS, b"k", b"x"),
            producer.send_batch(numbered(1)),
        ):
            with pytest.raises(BrokerUnavailable):
                await failing
        with pytest.raises(BrokerUnavailable):
            async with log.follow((UPLOADS,)):
                pass
    await producer.close()
