"""Workers are killed, frozen, cut off and multiplied; every upload still has exactly one outcome.

Real Kafka, the production worker with the echo processor (claims, outputs and table writes as score has them). After
each fault a read-committed reader counts: none missing, none twice. Cited by docs/semantics.md.
"""

from __future__ import annotations

import asyncio
import random
import re
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
import pytest_asyncio

from app.exit_codes import ExitCode
from app.settings import KafkaSettings
from app.stack.local import KAFKA, LocalStack
from app.systems.kafka.topic_log import KafkaTopicLog
from app.topics import BACKFILL, DEAD_LETTERS, PREDICTIONS, TASKS
from tests.support.eventually import eventually
from tests.support.stack import TEST_PARTITIONS
from tests.support.streaming.driver import (
    CLEAN,
    CommittedReader,
    Fleet,
    Supervisor,
    WorkerProcess,
    committed_reader,
    feed,
    ledger,
    spread,
)

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]

UPLOADS = 6_000
FEED_PER_SECOND = 600.0
SESSION_SECONDS = 6
FINISH_SECONDS = 90.0
KILLS = 5


@pytest.fixture
def fleet(stack: LocalStack, topics: str, tmp_path: Path) -> Fleet:
    return Fleet(stack.kafka, topics, tmp_path, TEST_PARTITIONS)


@pytest_asyncio.fixture
async def outcomes(fleet: Fleet) -> AsyncIterator[CommittedReader]:
    async with committed_reader(fleet.bootstrap, fleet.prefix + PREDICTIONS) as reader:
        yield reader


def uploads(count: int = UPLOADS) -> list[str]:
    return [f"upload-{number}" for number in range(count)]


def feeding(fleet: Fleet, values: list[str], topic: str = TASKS) -> asyncio.Task[int]:
    return asyncio.create_task(feed(fleet.bootstrap, fleet.prefix + topic, values, per_second=FEED_PER_SECOND))


async def both_running(workers: list[WorkerProcess]) -> None:
    """Return when the partitions are spread over all workers."""
    await eventually(lambda: all(spread(workers)), 60, every_seconds=0.5, message="lanes on every worker")


async def assert_exactly_once(outcomes: CommittedReader, values: list[str]) -> None:
    await outcomes.until(len(set(values)), FINISH_SECONDS)
    await outcomes.settle()
    assert ledger(values, outcomes.uploads) == CLEAN


async def test_workers_killed_at_random_moments(fleet: Fleet, outcomes: CommittedReader) -> None:
    workers = [fleet.worker("score", number) for number in range(2)]
    values = uploads()
    async with Supervisor(workers) as supervisor:
        await both_running(workers)
        fed = feeding(fleet, values)
        for _ in range(KILLS):
            await asyncio.sleep(random.uniform(0.5, 4.0))
            random.choice(workers).send(signal.SIGKILL)
        await fed
        await assert_exactly_once(outcomes, values)
        assert supervisor.exits.count(-signal.SIGKILL) == len(supervisor.exits) >= KILLS - 1
    assert await letters(fleet) == 0, "a worker that is killed makes nobody guilty"


async def test_a_worker_frozen_past_its_session_publishes_nothing_again(
    fleet: Fleet, outcomes: CommittedReader
) -> None:
    # A long gathering of results: whenever it is frozen, there are some that it will try to publish when it wakes. The
    # watchdog would end it before that, so it gets a long patience here.
    settings = {"LANE_RELEASE_INTERVAL_MS": "1500", "LANE_TICK_SECONDS": "600"}
    workers = [fleet.worker("score", number, **settings) for number in range(2)]
    values = uploads()
    async with Supervisor(workers) as supervisor:
        await both_running(workers)
        fed = feeding(fleet, values)
        await outcomes.until(500, 30)
        workers[0].send(signal.SIGSTOP)
        await fed
        # The other one takes everything over and goes on, once the session is over.
        await outcomes.until(len(values), SESSION_SECONDS + FINISH_SECONDS)
        workers[0].send(signal.SIGCONT)
        await eventually(lambda: bool(supervisor.exits), 60, message="the frozen worker ends itself")
        await both_running(workers)
        more = [f"later-{number}" for number in range(500)]
        await feed(fleet.bootstrap, fleet.prefix + TASKS, more)
        await assert_exactly_once(outcomes, values + more)
        assert set(supervisor.exits) == {ExitCode.FAILED}
        assert "Fenced: " in workers[0].log()


async def test_a_frozen_worker_that_wakes_before_anyone_took_over_goes_on(
    fleet: Fleet, outcomes: CommittedReader
) -> None:
    worker = fleet.worker("score")
    values = uploads(UPLOADS // 2)
    async with Supervisor([worker]) as supervisor:
        await both_running([worker])
        fed = feeding(fleet, values)
        await outcomes.until(500, 30)
        worker.send(signal.SIGSTOP)
        await asyncio.sleep(SESSION_SECONDS / 3)
        worker.send(signal.SIGCONT)
        await fed
        await assert_exactly_once(outcomes, values)
        assert supervisor.exits == []


async def test_the_broker_is_killed_and_restarted(stack: LocalStack, fleet: Fleet, outcomes: CommittedReader) -> None:
    workers = [fleet.worker("score", number) for number in range(2)]
    values = uploads()
    async with Supervisor(workers):
        await both_running(workers)
        fed = feeding(fleet, values)
        await outcomes.until(1000, 30)
        await stack.kill(KAFKA)
        await asyncio.sleep(3)
        await stack.restart(KAFKA)
        await fed
        await assert_exactly_once(outcomes, values)
    assert not any("when this worker died" in worker.log() for worker in workers), "a broker makes nobody a suspect"
    assert await letters(fleet) == 0


async def test_rebalances_under_load_end_no_worker(fleet: Fleet, outcomes: CommittedReader) -> None:
    workers = [fleet.worker("score", number) for number in range(2)]
    values = uploads()
    async with Supervisor(workers) as supervisor:
        await both_running(workers)
        fed = feeding(fleet, values)
        for number in range(2, 5):
            guest = fleet.worker("score", number)
            guest.start()
            await both_running([guest])
            assert await guest.end(signal.SIGTERM) == 0
        await fed
        await assert_exactly_once(outcomes, values)
        assert supervisor.exits == []


@pytest.mark.parametrize("point", ["before-commit:5", "after-commit:5"])
async def test_stopped_between_claim_and_commit_and_between_commit_and_table_write(
    fleet: Fleet, outcomes: CommittedReader, point: str
) -> None:
    worker = fleet.worker("score", 0, point)
    values = uploads(1000)
    repeated = values[::3]
    await feed(fleet.bootstrap, fleet.prefix + TASKS, values)
    async with Supervisor([worker]) as supervisor:
        await outcomes.until(len(values), FINISH_SECONDS)
        # Repeats of S3: new records of uploads whose claim may have been written just before the end.
        await feed(fleet.bootstrap, fleet.prefix + TASKS, repeated)
        await feed(fleet.bootstrap, fleet.prefix + BACKFILL, repeated)
        await eventually(lambda: lag(worker) == 0, 30, every_seconds=0.5, message="everything released")
        await assert_exactly_once(outcomes, values)
        assert supervisor.exits == [-signal.SIGKILL]


async def test_three_workers_started_at_once_on_a_fresh_group(fleet: Fleet, outcomes: CommittedReader) -> None:
    workers = [fleet.worker("score", number) for number in range(3)]
    values = uploads(UPLOADS // 2)
    await feed(fleet.bootstrap, fleet.prefix + TASKS, values)
    async with Supervisor(workers) as supervisor:
        await assert_exactly_once(outcomes, values)
        await both_running(workers)
        lanes = spread(workers)
        assert sum(map(len, lanes)) == 2 * TEST_PARTITIONS
        for found in lanes:
            numbers = {topic: {lane.rsplit("/")[-1] for lane in found if topic in lane} for topic in (TASKS, BACKFILL)}
            assert numbers[TASKS] == numbers[BACKFILL], "both lanes of a partition number share its tables"
        assert supervisor.exits == []


@pytest.mark.parametrize(("guilty", "suspects"), [("raises", 1), ("held", 300)])
async def test_a_record_whose_processor_raises_or_never_returns_is_given_up_and_the_line_goes_on(
    fleet: Fleet, outcomes: CommittedReader, guilty: str, suspects: int
) -> None:
    worker = fleet.worker("score", 0, LANE_STALL_SECONDS="8")
    values = [*uploads(200), guilty, *(f"later-{number}" for number in range(200))]
    await feed(fleet.bootstrap, fleet.prefix + TASKS, values)
    async with Supervisor([worker]) as supervisor:
        await assert_exactly_once(outcomes, [value for value in values if value != guilty])
        await eventually(lambda: lag(worker) == 0, 30, every_seconds=0.5, message="everything released")
        assert supervisor.exits == [ExitCode.FAILED] * 3
    assert await letters(fleet) == 1
    died = re.findall(r"(\d+) records were in hand when this worker died", worker.log())
    assert len(died) == 3
    assert int(died[0]) <= suspects, "an error names its record; a stall only those that were in hand"


async def letters(fleet: Fleet) -> int:
    """Return how many dead letters there are."""
    kafka = KafkaSettings(bootstrap=fleet.bootstrap, prefix=fleet.prefix)
    async with aclosing(KafkaTopicLog(kafka).scan(DEAD_LETTERS)) as records:
        return len([record async for record in records])


def lag(worker: WorkerProcess) -> int | None:
    """Records that the worker has not released; None while it is not running."""
    lanes = worker.health().get("lanes")
    if not lanes:
        return None
    return sum(int(lane["lag_records"]) + int(lane["in_flight"]) for lane in lanes.values())
