"""Producers and scans against a real broker."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from aiokafka import AIOKafkaProducer

from app.errors import BrokerUnavailable, Fenced, StartupRefused
from app.ports.records import SourceRecord
from app.settings import KafkaSettings
from app.stack.local import LocalStack
from app.systems.kafka.client import AtOffsets, AtTime, Bound, KafkaProducer, TopicScanner, TransactionalProducer
from app.topics import TASKS, UPLOADS

pytestmark = pytest.mark.services


def kafka_settings(stack: LocalStack, prefix: str) -> KafkaSettings:
    return KafkaSettings(bootstrap=stack.kafka, prefix=prefix, partitions=stack.options.partitions)


async def read(
    scanner: TopicScanner, topic: str, start: Bound | None = None, end: Bound | None = None
) -> list[SourceRecord]:
    async with aclosing(scanner.scan(topic, start, end)) as records:
        return [record async for record in records]


async def test_what_was_sent_is_scanned_in_order_within_a_partition(stack: LocalStack, topics: str) -> None:
    settings = kafka_settings(stack, topics)
    producer = KafkaProducer(settings)
    try:
        await producer.send_batch([(UPLOADS, b"k%d" % (n % 7), b"%d" % n) for n in range(3_000)])
        position = await producer.send_and_wait(UPLOADS, None, b"last")
    finally:
        await producer.close()
    found = await read(TopicScanner(settings), UPLOADS)
    assert sorted(record.value or b"" for record in found) == sorted([*(b"%d" % n for n in range(3_000)), b"last"])
    assert {record.topic for record in found} == {UPLOADS}
    for partition in range(stack.options.partitions):
        offsets = [record.offset for record in found if record.partition == partition]
        assert offsets == sorted(offsets)
    assert [record.position for record in found if record.value == b"last"] == [position]


async def test_an_empty_topic_and_a_missing_one(stack: LocalStack, topics: str) -> None:
    scanner = TopicScanner(kafka_settings(stack, topics))
    assert await read(scanner, TASKS) == []
    assert await scanner.count(TASKS) == 0
    with pytest.raises(StartupRefused, match=f"{topics}no.such.topic"):
        await read(scanner, "no.such.topic")


async def test_bounds_by_offset_and_by_time(stack: LocalStack, topics: str) -> None:
    settings = kafka_settings(stack, topics)
    scanner = TopicScanner(settings)
    producer = KafkaProducer(settings)
    try:
        await producer.send_batch([(UPLOADS, b"%d" % n, b"before") for n in range(100)])
        middle = await scanner.ends(UPLOADS)
        last_before = max(record.timestamp_ms for record in await read(scanner, UPLOADS))
        # Timestamps are the broker's milliseconds: the first of the second half must lie after the last of the first.
        while (later := await producer.send_and_wait(UPLOADS, b"0", b"after")) is not None:
            newest = next(r for r in await read(scanner, UPLOADS) if r.position == later).timestamp_ms
            if newest > last_before:
                break
    finally:
        await producer.close()
    assert {r.value for r in await read(scanner, UPLOADS, AtOffsets(middle))} == {b"after"}
    assert {r.value for r in await read(scanner, UPLOADS, None, AtOffsets(middle))} == {b"before"}
    assert {r.value for r in await read(scanner, UPLOADS, AtTime(last_before + 1))} == {b"after"}
    assert {r.value for r in await read(scanner, UPLOADS, None, AtTime(last_before + 1))} == {b"before"}
    assert await read(scanner, UPLOADS, AtTime(2**42)) == []


async def test_a_scan_ends_behind_the_markers_of_transactions_and_skips_what_was_aborted(
    stack: LocalStack, topics: str
) -> None:
    settings = kafka_settings(stack, topics)
    async with TransactionalProducer(settings, "scan-test") as producer:
        for n in range(20):
            await producer.publish([(UPLOADS, b"%d" % key, b"%d" % n) for key in range(8)])
    raw = AIOKafkaProducer(bootstrap_servers=stack.kafka, transactional_id=f"{topics}aborts")
    await raw.start()
    try:
        await raw.begin_transaction()
        await asyncio.gather(*[await raw.send(topics + UPLOADS, b"aborted", b"%d" % key) for key in range(8)])
        await raw.abort_transaction()
    finally:
        await raw.stop()
    found = await read(TopicScanner(settings), UPLOADS)
    assert sorted(record.value or b"" for record in found) == sorted(b"%d" % n for n in range(20) for _ in range(8))


async def test_a_scan_waits_for_a_transaction_that_is_open_before_its_end(stack: LocalStack, topics: str) -> None:
    settings = kafka_settings(stack, topics)
    raw = AIOKafkaProducer(bootstrap_servers=stack.kafka, transactional_id=f"{topics}slow")
    await raw.start()
    try:
        await raw.begin_transaction()
        await raw.send_and_wait(topics + UPLOADS, b"slow")
        reading = asyncio.create_task(read(TopicScanner(settings), UPLOADS))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await asyncio.shield(reading)
        await raw.commit_transaction()
        async with asyncio.timeout(30):
            assert [record.value for record in await reading] == [b"slow"]
    finally:
        await raw.stop()


async def test_a_younger_producer_of_the_same_id_fences_the_older(stack: LocalStack, topics: str) -> None:
    settings = kafka_settings(stack, topics)
    async with TransactionalProducer(settings, "same") as older:
        await older.publish([(UPLOADS, None, b"one")])
        async with TransactionalProducer(settings, "same") as younger:
            await younger.publish([(UPLOADS, None, b"two")])
            with pytest.raises(Fenced):
                await older.publish([(UPLOADS, None, b"three")])
    assert sorted(r.value or b"" for r in await read(TopicScanner(settings), UPLOADS)) == [b"one", b"two"]


async def test_no_broker_is_said_in_one_sentence() -> None:
    settings = KafkaSettings(bootstrap="127.0.0.1:1")
    producer = KafkaProducer(settings)
    with pytest.raises(BrokerUnavailable, match=r"Kafka at 127\.0\.0\.1:1 does not answer"):
        await producer.send_and_wait(UPLOADS, None, b"")
    with pytest.raises(BrokerUnavailable):
        await TopicScanner(settings).ends(UPLOADS)
    await producer.close()
