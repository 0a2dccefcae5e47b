"""`./sightline records`: an offset is parked by hand, before a worker starts and while it runs; and taken back."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from app.dead_letters.dead_letters import LetterFilter, find_letters
from app.settings import load_settings
from app.stack.local import LocalStack
from app.systems.kafka.topic_log import KafkaTopicLog
from app.systems.registry.avro import Codec
from app.topics import BACKFILL, PREDICTIONS, TASKS
from tests.support.eventually import eventually
from tests.support.stack import TEST_PARTITIONS
from tests.support.streaming.driver import Fleet, committed_reader
from tests.support.verbs import run_verb

pytestmark = [pytest.mark.services, pytest.mark.timeout(180)]


@pytest.fixture
def fleet(stack: LocalStack, topics: str, tmp_path: Path) -> Fleet:
    return Fleet(stack.kafka, topics, tmp_path, TEST_PARTITIONS)


async def put(fleet: Fleet, topic: str, *values: str) -> None:
    """Publish `values` to partition 0."""
    producer = AIOKafkaProducer(bootstrap_servers=fleet.bootstrap)
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(fleet.prefix + topic, value.encode(), partition=0)
    finally:
        await producer.stop()


async def letters(environment: Mapping[str, str]) -> dict[tuple[str, int], tuple[str, bytes | None]]:
    """Return reason and bytes of the dead letters, by topic and offset."""
    scanner = KafkaTopicLog(load_settings(environment).kafka)
    async with aclosing(find_letters(scanner, Codec(), LetterFilter())) as found:
        return {
            (one.letter.source.topic, one.letter.source.offset): (one.letter.reason, one.letter.value)
            async for one in found
        }


async def test_a_parked_offset_becomes_a_dead_letter_with_its_bytes_and_its_neighbours_go_on(fleet: Fleet) -> None:
    worker = fleet.worker("score")
    variables = worker.environment

    async def verb(*arguments: str) -> tuple[int, str, str]:
        return await run_verb(variables, "records", *arguments)

    await put(fleet, TASKS, "first", "second", "third")
    code, out, err = await verb("park", TASKS, "0", "1")
    assert (code, "name one of them with --agent" in err) == (2, True)
    code, out, err = await verb("park", TASKS, "0", "1", "--agent", "score")
    assert (code, "score parks image.tasks.v1/0/1 as dead letter" in out) == (0, True), err
    # Taken back before it is reached: it is handled like any other.
    assert (await verb("park", TASKS, "0", "2", "--agent", "score"))[0] == 0
    assert (await verb("unpark", TASKS, "0", "2", "--agent", "score"))[0] == 0

    async with committed_reader(fleet.bootstrap, fleet.prefix + PREDICTIONS) as outcomes:
        worker.start()
        await outcomes.until(2, 60)
        # While it runs: the offsets that come next.
        code, out, err = await verb("park", BACKFILL, "0", "0")
        assert code == 0, err
        await eventually(lambda: f"parked: {BACKFILL}/0@0" in worker.log(), 30, every_seconds=0.3)
        await put(fleet, BACKFILL, "fourth", "fifth")
        await outcomes.until(3, 30)
        await outcomes.settle(1.0)
        assert sorted(outcomes.uploads) == ["fifth", "first", "third"]
    assert await letters(variables) == {
        (TASKS, 1): ("parked", b"second"),
        (BACKFILL, 0): ("parked", b"fourth"),
    }

    code, out, _ = await verb("ls", "--json")
    shown = [json.loads(line) for line in out.splitlines()]
    assert [(one["topic"], one["offset"], one["passed"]) for one in shown] == [(BACKFILL, 0, True), (TASKS, 1, True)]
    code, out, _ = await verb("unpark", TASKS, "0", "1", "--agent", "score")
    assert (code, f"dead-letters redrive {shown[1]['letter_id']}" in out) == (1, True)
    code, _, err = await verb("park", TASKS, "0", "0", "--agent", "score")
    assert (code, "score has passed image.tasks.v1/0/0" in err) == (2, True)
    assert await worker.end(signal.SIGTERM) == 0


async def test_what_cannot_be_parked_is_refused_with_one_sentence(fleet: Fleet) -> None:
    variables = fleet.worker("score").environment
    for arguments, sentence in (
        (("park", "image.task.v1", "0", "1"), "no topic is called 'image.task.v1'"),
        (("park", TASKS, "77", "1", "--agent", "score"), f"{TASKS} has no partition 77; it has {TEST_PARTITIONS}"),
        (("park", TASKS, "0", "1", "--agent", "moderate"), "moderate does not read image.tasks.v1"),
        (("park", "labels.v1", "0", "1"), "no agent that parks records reads labels.v1"),
        (("unpark", BACKFILL, "0", "1"), "score has not parked image.backfill.v1/0/1"),
    ):
        code, _, err = await run_verb(variables, "records", *arguments)
        assert (code, sentence in err) == (2, True), err
