"""The archive agent on the real broker and real stores: what is archived, resumed, verified, and refused."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import aclosing
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from app.stack.local import LocalStack
from app.systems.kafka.producer import KafkaProducer, KafkaTransactionalProducer
from app.systems.kafka.topic_log import KafkaTopicLog
from app.systems.s3.admin import StoreAccess
from app.topics import FLAGGED, PREDICTIONS
from tests.support.eventually import eventually
from tests.support.lake.archive import ArchiveRig, archive_rig, archive_rig_on
from tests.support.stack import TEST_PARTITIONS, TestNames
from tests.support.stores.ignoring import IgnoringStore
from tests.support.streaming.driver import feed

pytestmark = [pytest.mark.services, pytest.mark.timeout(180)]

RECORDS = 4_000


@pytest.fixture(params=["ministack", "versitygw"])
def access(request: pytest.FixtureRequest, stack: LocalStack) -> StoreAccess:
    """How to reach each store."""
    if request.param == "ministack":
        return stack.s3
    found: StoreAccess = request.getfixturevalue("versitygw")
    return found


async def published_in_transactions(rig: ArchiveRig, count: int) -> None:
    """Publish records in transactions, whose markers make holes in the offsets."""
    async with KafkaTransactionalProducer(rig.settings.kafka, "archive-test") as producer:
        for first in range(0, count, 50):
            group = [(PREDICTIONS, f"k{n}".encode(), f"in transaction {n}".encode()) for n in range(first, first + 50)]
            await producer.publish(group)


async def test_every_record_is_archived_once_and_a_second_start_goes_on(
    stack: LocalStack, topics: str, names: TestNames, tmp_path: Path, access: StoreAccess
) -> None:
    rig = await archive_rig_on(
        access,
        stack,
        names,
        tmp_path,
        TEST_PARTITIONS,
        ARCHIVE_TOPICS=f"{PREDICTIONS},{FLAGGED}",
        ARCHIVE_FILE_RECORDS="300",
        ARCHIVE_FILE_SECONDS="2",
    )
    await rig.feed(f"value {number}" for number in range(RECORDS))
    await feed(stack.kafka, names.topic(FLAGGED), (f"flag {number}" for number in range(50)))
    worker = rig.worker()
    worker.start()
    try:
        await rig.until(RECORDS, 60)
        await published_in_transactions(rig, 1_000)
        await rig.until(RECORDS + 1_000, 30)
        await worker.end(signal.SIGTERM)
        files = sum(each.files for each in await rig.held())
        await rig.feed(f"later {number}" for number in range(500))
        worker.start()
        await rig.until(RECORDS + 1_500, 30)
        # Nothing was written again: the four partitions' new files are all there is more.
        assert sum(each.files for each in await rig.held()) <= files + 2 * TEST_PARTITIONS
    finally:
        await worker.end()
    assert await rig.in_archive() == await rig.on_topic()
    code, told = await rig.verb("ls", "--json")
    shown = json.loads(told.splitlines()[-1])["partitions"]
    assert code == 0, told
    assert sum(each["records"] for each in shown) == RECORDS + 1_550 and not any(each["faults"] for each in shown)
    code, told = await rig.verb("verify", "--json")
    assert code == 0, told
    compared = {each["topic"]: each["compared"] for each in json.loads(told.splitlines()[-1])["topics"]}
    assert compared == {PREDICTIONS: RECORDS + 1_500, FLAGGED: 50}


async def test_a_stop_while_a_file_fills_is_quick_and_nothing_is_committed(
    stack: LocalStack, topics: str, names: TestNames, tmp_path: Path
) -> None:
    # Longer than a lane may work without progress, and than the drain.
    rig = await archive_rig(stack, names, tmp_path, TEST_PARTITIONS, ARCHIVE_FILE_SECONDS="600", LANE_STALL_SECONDS="2")
    await rig.feed(f"value {number}" for number in range(40))
    worker = rig.worker()
    worker.start()
    try:

        def filling() -> bool:
            lanes = worker.health().get("lanes", {}).values()
            return sum(lane["in_flight"] for lane in lanes) == 40 and {lane["state"] for lane in lanes} == {
                "filling-a-file"
            }

        await eventually(filling, 30)
        await eventually(lambda: min(lane["still_seconds"] for lane in worker.health()["lanes"].values()) > 4, 15)
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await worker.end(signal.SIGTERM) == 0
        assert loop.time() - began < 5
        assert "given up to be read again" in worker.log()
        assert await rig.records() == 0
    finally:
        if worker.alive:
            await worker.end()


async def test_a_replay_publishes_what_is_archived_and_what_lacks_is_told(
    stack: LocalStack, topics: str, names: TestNames, tmp_path: Path
) -> None:
    from app.systems.s3.admin import _client

    rig = await archive_rig(
        stack, names, tmp_path, TEST_PARTITIONS, ARCHIVE_FILE_RECORDS="50", ARCHIVE_FILE_SECONDS="1"
    )
    worker = rig.worker()
    # Before the start: the first files are then full.
    await rig.feed(f"value {number}" for number in range(1_000))
    worker.start()
    try:
        await rig.until(1_000, 60)
    finally:
        await worker.end()
    code, told = await rig.verb("replay", "--topic", PREDICTIONS, "--to", PREDICTIONS)
    assert code == 2 and "would take every record for a new one" in told
    elsewhere = names.topic("elsewhere")
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka)
    await admin.start()
    await admin.create_topics([NewTopic(elsewhere, TEST_PARTITIONS, 1)])
    code, told = await rig.verb("replay", "--topic", PREDICTIONS, "--to", "elsewhere")
    assert code == 0 and "1000 records published to elsewhere" in told
    async with KafkaTopicLog(rig.settings.kafka) as log, aclosing(log.scan("elsewhere")) as records:
        replayed = [(record.partition, record.key, record.value) async for record in records]
    await admin.delete_topics([elsewhere])
    await admin.close()
    on_topic = await rig.on_topic()
    # The same keys lie in the same partitions, in the same order.
    assert replayed != [] and {
        number: [(key, value) for _, key, value in rows] for number, rows in on_topic.items()
    } == {number: [(key, value) for lies, key, value in replayed if lies == number] for number in on_topic}
    held = await rig.held()
    middle = next(each for each in held if each.files > 2)
    async with _client("s3", stack.s3) as client:
        folder = f"archive/topic={rig.topic}/partition={middle.partition}/"
        listed = await client.list_objects_v2(Bucket=names.bucket, Prefix=folder)
        # A name holds the first offset of its file. On a busy machine a file may close by age, before it is full.
        files = [stored["Key"] for stored in listed["Contents"]]
        start, end = (int(Path(file).stem) for file in files[1:3])
        await client.delete_object(Bucket=names.bucket, Key=files[1])
    code, told = await rig.verb("ls")
    assert code == 1 and f"  hole: offsets {start} to {end}" in told
    code, told = await rig.verb("verify")
    assert code == 1 and f"missing={end - start} different=0 foreign=0" in told


async def test_refusals_are_one_sentence(stack: LocalStack, topics: str, names: TestNames, tmp_path: Path) -> None:
    async def refused(rig: ArchiveRig) -> str:
        worker = rig.worker()
        worker.start()
        assert worker.process is not None
        assert await asyncio.to_thread(worker.process.wait, 60) == 2
        line = worker.log().strip().splitlines()[-1]
        worker.log_file.unlink()
        return line

    rig = await archive_rig(stack, names, tmp_path, TEST_PARTITIONS, ARCHIVE_TOPICS=f"{FLAGGED},image.flags")
    assert "must name at least one of image.predictions.v1, image.flagged.v1" in await refused(rig)
    rig = await archive_rig(stack, names, tmp_path, TEST_PARTITIONS, LAKE_ARCHIVE="s3://no-such-bucket-yet/archive")
    assert "./sightline stack bucket no-such-bucket-yet" in await refused(rig)
    async with IgnoringStore() as ignoring:
        rig = await archive_rig(stack, names, tmp_path, TEST_PARTITIONS, S3_ENDPOINT=ignoring.endpoint)
        assert "ignores If-None-Match" in await refused(rig)
        assert ignoring.puts == 2


async def test_a_topic_that_was_made_anew_is_refused(
    stack: LocalStack, topics: str, names: TestNames, tmp_path: Path
) -> None:
    from app.systems.kafka.admin import delete_topics

    rig = await archive_rig(stack, names, tmp_path, TEST_PARTITIONS, ARCHIVE_FILE_SECONDS="0.5")
    worker = rig.worker()
    worker.start()
    try:
        await rig.feed(["only"])
        await rig.until(1, 30)
        await worker.end(signal.SIGTERM)
        await delete_topics(stack.kafka, [rig.topic])
        await stack.create_topics(names.prefix)
        worker.start()
        assert worker.process is not None
        assert await asyncio.to_thread(worker.process.wait, 60) == 2
        assert "was made anew since" in worker.log()
    finally:
        if worker.alive:
            await worker.end()


async def test_records_that_retention_removed_are_told(
    stack: LocalStack, topics: str, names: TestNames, tmp_path: Path
) -> None:
    rig = await archive_rig(stack, names, tmp_path, TEST_PARTITIONS, ARCHIVE_FILE_SECONDS="0.5")
    worker = rig.worker()

    async def publish(words: str) -> None:
        producer = KafkaProducer(rig.settings.kafka)
        await producer.send_batch([(PREDICTIONS, b"one key", f"{words} {number}".encode()) for number in range(100)])
        await producer.close()

    worker.start()
    try:
        await publish("archived")
        await rig.until(100, 30)
        await worker.end(signal.SIGTERM)
        await publish("too late")
        [held] = await rig.held()
        admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka)
        await admin.start()
        await admin.delete_records({TopicPartition(rig.topic, held.partition): RecordsToDelete(before_offset=150)})
        await admin.close()
        worker.start()
        await rig.until(150, 30)
    finally:
        await worker.end()
    assert "offsets 100 to 150 were gone before they were archived" in worker.log()
    code, told = await rig.verb("ls")
    assert code == 1 and "  gone: offsets 100 to 150" in told
    code, told = await rig.verb("verify")
    assert code == 1 and "50 records compared, missing=0 different=0 foreign=0" in told
