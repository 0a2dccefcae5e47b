"""Archive workers are killed, frozen and cut off from the store; the archive holds every record exactly once.

The command line's own workers on real Kafka and a real store. Afterwards the archive is compared with the topic, byte
for byte and offset by offset. Cited by docs/semantics.md.
"""

from __future__ import annotations

import asyncio
import random
import signal
from pathlib import Path

import pytest

from app.exit_codes import ExitCode
from app.stack.local import LocalStack
from tests.support.eventually import eventually
from tests.support.lake.archive import ArchiveRig, archive_rig
from tests.support.stack import TEST_PARTITIONS, TestNames
from tests.support.stores.proxy import Fault, StoreProxy
from tests.support.streaming.driver import Supervisor, WorkerProcess, spread

pytestmark = [pytest.mark.services, pytest.mark.timeout(280)]

RECORDS = 6_000
FEED_PER_SECOND = 400.0
FINISH_SECONDS = 90.0
SESSION_SECONDS = 6
KILLS = 5
SMALL_FILES = {"ARCHIVE_FILE_RECORDS": "150", "ARCHIVE_FILE_SECONDS": "1"}


def feeding(rig: ArchiveRig, count: int = RECORDS) -> asyncio.Task[int]:
    values = (f"value {number} {'x' * random.randint(0, 500)}" for number in range(count))
    return asyncio.create_task(rig.feed(values, per_second=FEED_PER_SECOND))


async def both_running(workers: list[WorkerProcess]) -> None:
    await eventually(lambda: all(spread(workers)), 60, every_seconds=0.5, message="lanes on every worker")


async def assert_exactly_once(rig: ArchiveRig, count: int) -> None:
    await rig.until(count, FINISH_SECONDS)
    assert await rig.in_archive() == await rig.on_topic()
    held = await rig.held()
    assert sum(each.records for each in held) == count
    assert [fault for each in held for fault in each.faults] == []


async def test_archive_workers_killed_at_random_moments(
    stack: LocalStack, topics: str, names: TestNames, tmp_path: Path
) -> None:
    """Guarantee: every record is in exactly one file, the bytes as on the topic."""
    rig = await archive_rig(stack, names, tmp_path, TEST_PARTITIONS, **SMALL_FILES)
    workers = [rig.worker(number) for number in range(2)]
    async with Supervisor(workers) as supervisor:
        await both_running(workers)
        fed = feeding(rig)
        for number in range(KILLS):
            await rig.until(random.randint(1, RECORDS // KILLS) + number * RECORDS // (KILLS + 1), 60)
            random.choice(workers).send(signal.SIGKILL)
        await fed
        await assert_exactly_once(rig, RECORDS)
        assert supervisor.exits.count(-signal.SIGKILL) == len(supervisor.exits) >= KILLS - 1


async def test_an_archive_worker_frozen_past_its_session_replaces_and_doubles_nothing(
    stack: LocalStack, topics: str, names: TestNames, tmp_path: Path
) -> None:
    """Guarantee: a file that reaches the store after its writer was superseded finds the successor's; that stands."""
    rig = await archive_rig(stack, names, tmp_path, TEST_PARTITIONS, **SMALL_FILES)
    async with StoreProxy(stack.s3.endpoint, seed=2) as proxy:
        # The watchdog would end a worker that was frozen for so long before it could do any harm; so would its own
        # limits on a PUT.
        patient = {"LANE_TICK_SECONDS": "600", "S3_READ_TIMEOUT_SECONDS": "300", "S3_OBJECT_TIMEOUT_SECONDS": "300"}
        workers = [rig.worker(0, S3_ENDPOINT=proxy.endpoint, **patient), rig.worker(1)]
        async with Supervisor(workers) as supervisor:
            await both_running(workers)
            fed = feeding(rig)
            await rig.until(500, 60)
            proxy.hold()
            await eventually(lambda: proxy.held > 0, 30)
            workers[0].send(signal.SIGSTOP)
            await fed
            # The other one takes everything over and goes on, once the session is over.
            await rig.until(RECORDS, SESSION_SECONDS + FINISH_SECONDS)
            before = await rig.held()
            proxy.heal()
            await eventually(lambda: proxy.held == 0, 30)
            workers[0].send(signal.SIGCONT)
            await eventually(lambda: bool(supervisor.exits), 60, message="the frozen worker ends itself")
            assert set(supervisor.exits) == {ExitCode.FAILED}
            assert "another writer stored" in workers[0].log() and "Fenced: " in workers[0].log()
            assert await rig.held() == before
            await both_running(workers)
            await feeding(rig, 500)
            await assert_exactly_once(rig, RECORDS + 500)


async def test_a_store_that_is_away_and_loses_answers_is_waited_for(
    stack: LocalStack, topics: str, names: TestNames, tmp_path: Path
) -> None:
    """Guarantee: no offset leaves before its file is stored; a file whose answer was lost is not written twice."""
    rig = await archive_rig(stack, names, tmp_path, TEST_PARTITIONS, **SMALL_FILES)
    async with StoreProxy(stack.s3.endpoint, seed=1) as proxy:
        worker = rig.worker(S3_ENDPOINT=proxy.endpoint, S3_READ_TIMEOUT_SECONDS="2", LANE_STALL_SECONDS="5")

        def waiting() -> bool:
            lanes = worker.health().get("lanes", {}).values()
            return any(lane["state"] == "waiting-for-store" and lane["still_seconds"] > 6 for lane in lanes)

        async with Supervisor([worker]) as supervisor:
            await both_running([worker])
            proxy.away()
            await feeding(rig, 500)
            await eventually(waiting, 60)
            assert await rig.records() == 0
            proxy.forgetful()
            await rig.until(500, 60)
            await feeding(rig, 1_000)
            await assert_exactly_once(rig, 1_500)
            assert proxy.injected[Fault.RESET] > 10
            assert supervisor.exits == []
            assert "another writer" not in worker.log()


async def test_an_archive_worker_that_waited_for_long_is_not_taken_for_stuck(
    stack: LocalStack, topics: str, names: TestNames, tmp_path: Path
) -> None:
    """Guarantee: the age of a file may exceed the time after which a lane without progress ends the process."""
    rig = await archive_rig(stack, names, tmp_path, TEST_PARTITIONS, ARCHIVE_FILE_SECONDS="6", LANE_STALL_SECONDS="2")
    worker = rig.worker()
    async with Supervisor([worker]) as supervisor:
        await both_running([worker])
        for round_ in range(1, 3):
            await rig.feed(f"value {round_} {number}" for number in range(100))
            await rig.until(100 * round_, 60)
        assert supervisor.exits == []
        await assert_exactly_once(rig, 200)
