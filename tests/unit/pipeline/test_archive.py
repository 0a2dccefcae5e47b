from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import pytest_asyncio

from app.archive.partitions import ObjectArchive
from app.archive.reader import ArchiveReader
from app.errors import StoreUnavailable
from app.pipeline.archive import ArchiveProcessor
from app.ports.records import Completion, SourceRecord
from app.settings import ArchiveSettings
from app.systems.prometheus import PrometheusMeters
from tests.support.eventually import eventually
from tests.support.manual_clock import HeldClock, LaneStatusLog
from tests.support.memory.objects import MemoryObjectStore, PutFailure

TOPIC = "image.predictions.v1"
FULL = ArchiveSettings(file_records=10, file_bytes=100_000, file_seconds=300.0, in_flight=1_000)


def record(offset: int, partition: int = 0, size: int = 20) -> SourceRecord:
    return SourceRecord(TOPIC, partition, offset, 5_000, b"key", bytes([offset % 251]) * size)


class Rig:
    def __init__(self, settings: ArchiveSettings = FULL, store: MemoryObjectStore | None = None) -> None:
        self.store = store or MemoryObjectStore()
        self.store.create_bucket("lake")
        self.archive = ObjectArchive(self.store, "lake", "archive/")
        self.clock = HeldClock()
        self.status = LaneStatusLog()
        self.meters = PrometheusMeters()
        self.processor = ArchiveProcessor(self.archive, settings, self.clock, self.status, self.meters, prefix="t.")
        self.tasks: list[asyncio.Task[Completion]] = []

    def start(self, *offsets: int, partition: int = 0, size: int = 20) -> list[asyncio.Task[Completion]]:
        started = [asyncio.create_task(self.processor.process(record(each, partition, size))) for each in offsets]
        self.tasks += started
        return started

    async def end(self) -> None:
        """As a lane does at its end."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def files(self) -> list[tuple[int, int, int, int]]:
        async with aclosing(self.archive.files("t." + TOPIC)) as found:
            return [
                (each.range.partition, each.range.start, each.range.end, each.range.records) async for each in found
            ]

    async def offsets(self, partition: int = 0) -> list[int]:
        async with aclosing(ArchiveReader(self.archive, "t.").read(TOPIC, partition=partition)) as found:
            return [each.offset async for each in found]


@pytest_asyncio.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    yield made
    await made.end()


async def finished(tasks: list[asyncio.Task[Completion]]) -> None:
    async with asyncio.timeout(5):
        done = await asyncio.gather(*tasks)
    assert set(done) == {Completion()}


async def settle() -> None:
    """Let everything run that can without time going on; encoding takes a thread's turn."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_file_closes_by_count_and_the_rest_waits_for_its_age(rig: Rig) -> None:
    rig.processor.begins_at(TOPIC, 0, 0)
    tasks = rig.start(*range(0, 50, 2))
    await finished(tasks[:20])
    await settle()
    assert not any(task.done() for task in tasks[20:])
    assert rig.status.said[-1] == "waiting:file"
    rig.clock.advance(299)
    await settle()
    assert not any(task.done() for task in tasks[20:])
    rig.clock.advance(1)
    await finished(tasks)
    assert await rig.files() == [(0, 0, 19, 10), (0, 19, 39, 10), (0, 39, 49, 5)]
    assert await rig.offsets() == list(range(0, 50, 2))
    assert rig.status.said[-1] == "working"
    shown = rig.meters.text().decode()
    assert f'archive_files_total{{closed_by="count",topic="t.{TOPIC}"}} 2.0' in shown
    assert f'archive_files_total{{closed_by="age",topic="t.{TOPIC}"}} 1.0' in shown


async def test_a_file_closes_by_bytes(rig: Rig) -> None:
    rig.processor.begins_at(TOPIC, 0, 0)
    await finished(rig.start(0, 1, 2, size=40_000))
    assert await rig.files() == [(0, 0, 3, 3)]


async def test_fewer_credits_than_files_could_hold_make_smaller_files_and_no_deadlock() -> None:
    rig = Rig(replace(FULL, file_records=1_000, in_flight=20))
    for partition in range(4):
        rig.processor.begins_at(TOPIC, partition, 0)
    credits = asyncio.Semaphore(20)

    async def pump(offset: int, partition: int) -> None:
        task = rig.start(offset, partition=partition)[0]
        await task
        credits.release()

    pumped = []
    for offset in range(100):
        for partition in range(4):
            async with asyncio.timeout(5):
                await credits.acquire()
            pumped.append(asyncio.create_task(pump(offset, partition)))
    await settle()
    rig.clock.advance(300)
    async with asyncio.timeout(5):
        await asyncio.gather(*pumped)
    for partition in range(4):
        assert await rig.offsets(partition) == list(range(100))


async def test_what_the_archive_holds_is_acknowledged_without_writing(rig: Rig) -> None:
    rig.processor.begins_at(TOPIC, 0, 0)
    await finished(rig.start(*range(10)))
    # The offsets of only some of them were committed before the end.
    rig.processor.begins_at(TOPIC, 0, 4)
    tasks = rig.start(*range(4, 13))
    await finished(tasks[:6])
    assert not tasks[6].done()
    rig.clock.advance(300)
    await finished(tasks)
    assert await rig.files() == [(0, 0, 10, 10), (0, 10, 13, 3)]


async def test_what_a_lane_gave_up_is_written_by_its_successor_alone(rig: Rig) -> None:
    rig.processor.begins_at(TOPIC, 0, 0)
    rig.start(*range(7))
    await settle()
    await rig.end()
    assert await rig.files() == []
    rig.processor.begins_at(TOPIC, 0, 0)
    await finished(rig.start(*range(10)))
    assert await rig.offsets() == list(range(10))


async def test_a_rival_that_was_faster_is_followed_to_its_end(rig: Rig) -> None:
    other = Rig(replace(FULL, file_records=3), rig.store)
    for each in (rig, other):
        each.processor.begins_at(TOPIC, 0, 0)
    tasks = rig.start(*range(8))
    await settle()
    await finished(other.start(*range(6)))
    tasks += rig.start(8, 9)
    # Its first file is there already; the seven that are left wait no longer than they would have.
    await finished(tasks[:3])
    rig.clock.advance(300)
    await finished(tasks)
    assert await rig.files() == [(0, 0, 3, 3), (0, 3, 6, 3), (0, 6, 10, 4)]
    assert await rig.offsets() == list(range(10))


async def test_a_store_that_is_away_is_waited_for(rig: Rig) -> None:
    rig.processor.begins_at(TOPIC, 0, 0)
    rig.store.put_failures += [
        PutFailure(StoreUnavailable("reset"), stored=False),
        PutFailure(StoreUnavailable("reset"), stored=True),
    ]
    tasks = rig.start(*range(10))
    await eventually(lambda: "waiting:store" in rig.status.said)
    assert not any(task.done() for task in tasks)
    rig.clock.advance(5)
    await eventually(lambda: not rig.store.put_failures)
    await settle()
    rig.clock.advance(5)
    await finished(tasks)
    assert await rig.files() == [(0, 0, 10, 10)]
    assert rig.status.said[-1] == "working"


async def test_partitions_fill_files_of_their_own(rig: Rig) -> None:
    for partition in (0, 1):
        rig.processor.begins_at(TOPIC, partition, 0)
    mixed = [task for offset in range(10) for number in (0, 1) for task in rig.start(offset, partition=number)]
    await finished(mixed)
    assert await rig.files() == [(0, 0, 10, 10), (1, 0, 10, 10)]
