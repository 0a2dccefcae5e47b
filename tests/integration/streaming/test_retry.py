"""The retry agent as it ships: deferred tasks wait in their lane without a stall, then go to their lane of origin."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from app.settings import ROOT
from app.stack.local import LocalStack
from app.systems.registry.avro import Codec
from app.topics import RETRIES_30S, TASKS
from schemas.records import ImageTask
from tests.support.eventually import eventually
from tests.support.schema_examples import example_paths, example_record
from tests.support.stack import TEST_PARTITIONS
from tests.support.streaming.driver import Fleet, WorkerProcess

pytestmark = [pytest.mark.services, pytest.mark.timeout(120)]
SOON_MS = 15_000
FAR_MS = 1_500_000


def task_due_in(milliseconds: int) -> bytes:
    path = [path for path in example_paths() if path.name.startswith("ImageTask.")][-1]
    task = example_record("ImageTask", path.read_text())
    assert isinstance(task, ImageTask)
    due_ms = time.time_ns() // 1_000_000 + milliseconds
    return Codec().encode(dataclasses.replace(task, lane="live", attempt=1, not_before_ms=due_ms, job_id=None))


class RetryWorker(WorkerProcess):
    """The command line's own worker, not the one of the tests."""

    def start(self) -> None:
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app", "worker", "retry"],
                cwd=ROOT,
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=subprocess.STDOUT,
            )


async def test_a_deferred_task_waits_until_it_is_due_and_a_stop_does_not_wait_for_it(
    stack: LocalStack, topics: str, tmp_path: Path
) -> None:
    fleet = Fleet(stack.kafka, topics, tmp_path, TEST_PARTITIONS)
    given = fleet.worker("retry")
    # Shorter than the wait: a lane that is not due does not stall.
    environment = {**given.environment, "SIGHTLINE_LANE_STALL_SECONDS": "5"}
    worker = RetryWorker("retry", environment, given.log_file)
    producer = AIOKafkaProducer(bootstrap_servers=stack.kafka)
    await producer.start()
    await producer.send_and_wait(topics + RETRIES_30S, task_due_in(SOON_MS), key=b"k", partition=0)
    await producer.send_and_wait(topics + RETRIES_30S, task_due_in(FAR_MS), key=b"k", partition=0)
    await producer.stop()
    worker.start()
    lane = f"{topics}{RETRIES_30S}/0"
    await eventually(lambda: worker.health().get("lanes", {}).get(lane, {}).get("state") == "not-due", 60)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=stack.kafka, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topics + TASKS, number) for number in range(TEST_PARTITIONS)])
        await consumer.seek_to_beginning()
        record = await consumer.getone()
        sent = Codec().decode_as(record.value, ImageTask)
        assert sent.attempt == 1
        assert record.timestamp >= sent.not_before_ms
    finally:
        await consumer.stop()
    assert worker.alive, worker.log()
    began = time.monotonic()
    assert await worker.end(signal.SIGTERM) == 0, worker.log()
    assert time.monotonic() - began < 10, "what is not due is given up at once"
    assert json.loads(next(tmp_path.glob("data/*/http.json")).read_text())["port"] > 0
