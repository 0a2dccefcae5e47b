"""Workers as processes on real Kafka: start-up refusals, cold tables, the dead-letter ceiling, metrics."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from app.errors import StartupRefused
from app.exit_codes import ExitCode
from app.settings import ROOT, EngineSettings
from app.stack.local import LocalStack
from app.systems.kafka.admin import delete_topics, topic_ids, topic_partitions
from app.topics import BACKFILL, CONTENTS_TABLE, PREDICTIONS, TASKS, TOPICS, UPLOADS, changelog_of
from tests.support.eventually import eventually
from tests.support.stack import TEST_PARTITIONS
from tests.support.streaming.driver import CLEAN, Fleet, WorkerProcess, committed_reader, feed, ledger

pytestmark = [pytest.mark.services, pytest.mark.timeout(180)]
# More than what is left to Faust's own replay, in each partition.
COLD_RECORDS = 25_000
# More than a worker takes in hand (64) and lets wait before its pump (1,024), from several partitions.
QUEUED = 3_000


@pytest.fixture
def fleet(stack: LocalStack, topics: str, tmp_path: Path) -> Fleet:
    return Fleet(stack.kafka, topics, tmp_path, TEST_PARTITIONS)


def refusal(fleet: Fleet, **settings: str) -> tuple[int, str]:
    """Run the command line's worker and return its exit code and what it said."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SIGHTLINE_")},
        **fleet.worker("identify").environment,
        **{f"SIGHTLINE_{name}": value for name, value in settings.items()},
    }
    done = subprocess.run(
        [sys.executable, "-m", "app", "worker", "identify"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr.strip().splitlines()[-1]


async def test_a_worker_refuses_to_start_with_one_sentence(fleet: Fleet) -> None:
    assert await asyncio.to_thread(refusal, fleet, KAFKA_PARTITIONS="7") == (
        2,
        f"sightline: topic {fleet.prefix}{UPLOADS} has {TEST_PARTITIONS} partitions, expected 7; set "
        "SIGHTLINE_KAFKA_PARTITIONS to the true count, or delete the topic and run `./sightline stack init` (tables "
        "are partitioned with it, so a count is never changed in place)",
    )
    code, said = await asyncio.to_thread(refusal, fleet, KAFKA_PREFIX="absent.")
    assert (code, f"topic absent.{UPLOADS} does not exist" in said) == (2, True)
    code, said = await asyncio.to_thread(refusal, fleet, KAFKA_BOOTSTRAP="127.0.0.1:1")
    assert (code, "127.0.0.1:1 does not answer" in said) == (2, True)
    code, said = await asyncio.to_thread(refusal, fleet, REGISTRY_URL="http://127.0.0.1:1")
    assert (code, "schema registry" in said) == (2, True)


async def test_a_second_worker_of_one_id_is_refused_and_the_first_goes_on(fleet: Fleet) -> None:
    first = fleet.worker("identify", 0, WORKER_ID="one")
    first.start()
    try:
        await eventually(lambda: first.health().get("lanes"), 60, every_seconds=0.5)
        code, said = await asyncio.to_thread(refusal, fleet, WORKER_ID="one")
        assert (code, "already runs" in said) == (2, True)
        assert first.alive
    finally:
        assert await first.end(signal.SIGTERM) == 0


async def test_cold_tables_are_loaded_in_bulk_before_the_first_record(fleet: Fleet) -> None:
    values = [f"upload-{number}" for number in range(COLD_RECORDS * TEST_PARTITIONS)]
    await remember(fleet, values)
    worker = fleet.worker("score")
    worker.start()
    try:
        sample = values[:: len(values) // 500]
        await feed(fleet.bootstrap, fleet.prefix + TASKS, sample)
        async with committed_reader(fleet.bootstrap, fleet.prefix + PREDICTIONS) as reader:
            await reader.until(len(sample), 90)
            assert ledger(sample, reader.uploads) == CLEAN
            assert reader.cached == len(sample), "every content was known"
        await eventually(lambda: (worker.metric("sightline_table_loaded_records") or 0) >= len(values))
    finally:
        assert await worker.end(signal.SIGTERM) == 0


async def test_tables_of_changelogs_that_were_made_anew_are_not_used(
    fleet: Fleet, stack: LocalStack, tmp_path: Path
) -> None:
    values = [f"upload-{number}" for number in range(200)]
    created = [fleet.prefix + spec.name for spec in TOPICS]
    await outcomes_of(fleet, values)
    await delete_topics(stack.kafka, created)
    await eventually(lambda: gone(stack.kafka, *created))
    await stack.create_topics(fleet.prefix)
    # Every upload lies elsewhere than before: by the claims of old each would be a repeat.
    await outcomes_of(fleet, values[::-1])
    (tables,) = (tmp_path / "data").glob("*/tables-*")
    assert "exist no more" in fleet.worker("score").log() and fleet.prefix in tables.parent.name


async def test_topics_have_ids_that_end_with_them(stack: LocalStack, topics: str) -> None:
    name = topics + changelog_of(CONTENTS_TABLE)
    before = await topic_ids(stack.kafka, [name])
    assert await topic_ids(stack.kafka, [name]) == before and before[0] and before[1][name]
    await delete_topics(stack.kafka, [name])
    await eventually(lambda: gone(stack.kafka, name))
    with pytest.raises(StartupRefused, match="does not exist"):
        await topic_ids(stack.kafka, [name])
    await stack.create_topics(topics)
    after = await topic_ids(stack.kafka, [name])
    assert after[0] == before[0] and after[1][name] not in ("", before[1][name])


async def gone(bootstrap: str, *names: str) -> bool:
    return not set(names) & set(await topic_partitions(bootstrap))


async def outcomes_of(fleet: Fleet, values: list[str]) -> None:
    """Let one worker start, publish the outcomes of `values`, each once, and end."""
    await feed(fleet.bootstrap, fleet.prefix + TASKS, values)
    worker = fleet.worker("score")
    worker.start()
    try:
        async with committed_reader(fleet.bootstrap, fleet.prefix + PREDICTIONS) as reader:
            await reader.until(len(values), 60)
            assert ledger(values, reader.uploads) == CLEAN
    finally:
        assert await worker.end(signal.SIGTERM) == 0


async def remember(fleet: Fleet, values: list[str]) -> None:
    """Write the changelog of `contents` as an earlier worker left it, each entry beside the task of its key."""
    producer = AIOKafkaProducer(bootstrap_servers=fleet.bootstrap, linger_ms=20, max_batch_size=256 * 1024)
    await producer.start()
    try:
        for start in range(0, len(values), 5000):
            sent = [
                await producer.send(fleet.prefix + changelog_of(CONTENTS_TABLE), b"scores", key=value.encode())
                for value in values[start : start + 5000]
            ]
            await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def test_a_live_record_is_read_while_more_backfill_waits_than_a_worker_holds(fleet: Fleet) -> None:
    """Guarantee: backfill that does not get on, however much of it is queued, keeps no live record from being read."""
    held = [f"held-{number}" for number in range(QUEUED)]
    await feed(fleet.bootstrap, fleet.prefix + BACKFILL, held)
    worker = fleet.worker("score")
    worker.start()
    try:
        await eventually(lambda: in_hand(worker) == EngineSettings().backfill_in_flight, 60, every_seconds=0.5)
        async with committed_reader(fleet.bootstrap, fleet.prefix + PREDICTIONS) as reader:
            # What is held goes on only when this one was handled.
            await feed(fleet.bootstrap, fleet.prefix + TASKS, ["open"])
            await reader.until(1, 60)
            assert reader.uploads, worker.health()
            await reader.until(1 + QUEUED, 90)
            assert ledger(["open", *held], reader.uploads) == CLEAN
    finally:
        assert await worker.end(signal.SIGTERM) == 0


def in_hand(worker: WorkerProcess) -> int:
    lanes: dict[str, dict[str, int]] = worker.health().get("lanes", {})
    return sum(lane["in_flight"] for lane in lanes.values())


async def test_too_many_dead_letters_stop_the_worker_before_they_are_committed(fleet: Fleet) -> None:
    worker = fleet.worker("identify", LANE_DEAD_LETTER_RUN="30")
    await feed(fleet.bootstrap, fleet.prefix + UPLOADS, [f"poison-{number}" for number in range(500)])
    worker.start()
    await eventually(lambda: not worker.alive, 60, every_seconds=0.5)
    assert worker.exit_code == ExitCode.CEILING
    assert "DeadLetterCeiling: 31 records in a row became dead letters" in worker.log()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=fleet.bootstrap, group_id=f"{fleet.prefix}sightline.identify", enable_auto_commit=False
    )
    await consumer.start()
    try:
        tps = [TopicPartition(fleet.prefix + UPLOADS, number) for number in range(TEST_PARTITIONS)]
        committed = [await consumer.committed(tp) or 0 for tp in tps]
    finally:
        await consumer.stop()
    assert sum(committed) <= 30
