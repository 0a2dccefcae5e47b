"""What only a real broker shows of producers and scans; tests/contract/test_topic_log.py has what they promise."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from aiokafka import AIOKafkaProducer

from app.errors import BrokerUnavailable
from app.ports.records import SourceRecord
from app.settings import KafkaSettings
from app.stack.local import LocalStack
from app.systems.kafka.producer import KafkaProducer, KafkaTransactionalProducer
from app.systems.kafka.topic_log import KafkaTopicLog
from app.topics import UPLOADS

pytestmark = pytest.mark.services


def kafka_settings(stack: LocalStack, prefix: str) -> KafkaSettings:
    return KafkaSettings(bootstrap=stack.kafka, prefix=prefix, partitions=stack.options.partitions)


async def read(log: KafkaTopicLog, topic: str) -> list[SourceRecord]:
    async with aclosing(log.scan(topic)) as records:
        return [record async for record in records]


async def test_a_scan_ends_behind_the_markers_of_transactions_and_skips_what_was_aborted(
    stack: LocalStack, topics: str
) -> None:
    settings = kafka_settings(stack, topics)
    async with KafkaTransactionalProducer(settings, "scan-test") as producer:
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
    found = await read(KafkaTopicLog(settings), UPLOADS)
    assert sorted(record.value or b"" for record in found) == sorted(b"%d" % n for n in range(20) for _ in range(8))


async def test_a_scan_waits_for_a_transaction_that_is_open_before_its_end(stack: LocalStack, topics: str) -> None:
    settings = kafka_settings(stack, topics)
    raw = AIOKafkaProducer(bootstrap_servers=stack.kafka, transactional_id=f"{topics}slow")
    await raw.start()
    try:
        await raw.begin_transaction()
        await raw.send_and_wait(topics + UPLOADS, b"slow")
        reading = asyncio.create_task(read(KafkaTopicLog(settings), UPLOADS))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await asyncio.shield(reading)
        await raw.commit_transaction()
        async with asyncio.timeout(30):
            assert [record.value for record in await reading] == [b"slow"]
    finally:
        await raw.stop()


async def test_a_log_closes_its_connections_at_once(stack: LocalStack, topics: str) -> None:
    loop = asyncio.get_running_loop()
    async with KafkaTopicLog(kafka_settings(stack, topics)) as log:
        await log.ends(UPLOADS)
        began = loop.time()
    assert loop.time() - began < 5


async def test_no_broker_is_said_in_one_sentence() -> None:
    settings = KafkaSettings(bootstrap="127.0.0.1:1")
    producer = KafkaProducer(settings)
    with pytest.raises(BrokerUnavailable, match=r"Kafka at 127\.0\.0\.1:1 does not answer"):
        await producer.send_and_wait(UPLOADS, None, b"")
    with pytest.raises(BrokerUnavailable):
        await KafkaTopicLog(settings).ends(UPLOADS)
    await producer.close()
