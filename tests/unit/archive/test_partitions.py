"""The archive over the memory twin of a store: what is written, found again, read, and refused."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from app.archive.partitions import ObjectArchive
from app.archive.reader import ArchiveReader
from app.archive.upkeep import archived, replay
from app.domain.archive import Chain, FileRange
from app.errors import ArchiveBroken, StartupRefused, StoreUnavailable
from app.ports.records import SourceRecord
from schemas.records import Position
from tests.support.memory.objects import MemoryObjectStore, PutFailure

TOPIC = "image.predictions.v1"


def record(offset: int, partition: int = 0, **changes: object) -> SourceRecord:
    fields = {"timestamp_ms": 1_000_000 + offset, "key": b"k", "value": b"\x00\x00\x00\x00\x07" + bytes([offset % 256])}
    return SourceRecord(TOPIC, partition, offset, **{**fields, **changes})  # type: ignore[arg-type]


def store() -> MemoryObjectStore:
    made = MemoryObjectStore()
    made.create_bucket("lake")
    return made


def archive_on(held: MemoryObjectStore, topic_id: str = "") -> ObjectArchive:
    return ObjectArchive(held, "lake", "archive/", {TOPIC: topic_id})


async def add(archive: ObjectArchive, chain: Chain, *records: SourceRecord) -> FileRange:
    file = chain.next_file(TOPIC, records[0].partition, [each.offset for each in records])
    added = await archive.add(file, records)
    chain.goes_on_at(added.range.end)
    return added.range


async def read(archive: ObjectArchive, **bounds: int) -> list[SourceRecord]:
    async with aclosing(ArchiveReader(archive).read(TOPIC, **bounds)) as records:
        return [each async for each in records]


async def test_what_is_archived_is_read_byte_for_byte() -> None:
    archive = archive_on(store())
    records = [record(0), record(3, key=None), record(4, value=None), record(9, key=b"", value=b"")]
    chain = Chain(0, 0)
    await add(archive, chain, *records[:2])
    await add(archive, chain, *records[2:])
    await add(archive, Chain(0, 0), record(0, 11))
    await add(archive, Chain(0, 0), record(0, 2))
    assert await read(archive, partition=0) == records
    assert sorted(await read(archive), key=lambda each: (each.partition, each.offset)) == [
        *records,
        record(0, 2),
        record(0, 11),
    ]
    assert [each.offset for each in await read(archive, partition=0, first=3, end=9)] == [3, 4]
    assert [each.offset for each in await read(archive, partition=0, since_ms=1_000_003, until_ms=1_000_009)] == [3, 4]


async def test_the_end_is_found_from_any_position_in_and_before_the_last_file() -> None:
    archive = archive_on(store())
    assert await archive.end(TOPIC, 0, 0) == 0
    assert await archive.end(TOPIC, 0, 5_000_000) == 0
    chain = Chain(0, 0)
    await add(archive, chain, record(0), record(70_000))
    await add(archive, chain, record(70_001), record(2_000_000))
    for position in (0, 40_000, 70_001, 1_999_000, 2_000_001, 900_000_000):
        assert await archive.end(TOPIC, 0, position) == 2_000_001
    assert await archive.end(TOPIC, 1, 0) == 0


async def test_a_rival_finds_the_file_that_stands() -> None:
    archive = archive_on(store())
    first = await add(archive, Chain(0, 0), record(0), record(1), record(2))
    late = await archive.add(Chain(0, 0).next_file(TOPIC, 0, [0]), [record(0)])
    assert (late.range, late.ours) == (first, False)


async def test_an_answer_that_was_lost_makes_no_rival() -> None:
    held = store()
    held.put_failures.append(PutFailure(StoreUnavailable("reset"), stored=True))
    archive = archive_on(held)
    file = Chain(0, 0).next_file(TOPIC, 0, [0, 1])
    with pytest.raises(StoreUnavailable):
        await archive.add(file, [record(0), record(1)])
    again = await archive.add(file, [record(0), record(1)])
    assert (again.range, again.ours) == (file, True)


async def test_a_store_that_ignores_conditions_is_refused() -> None:
    held = store()
    await archive_on(held).check()
    await archive_on(held).check()
    held.ignores_conditions = True
    with pytest.raises(StartupRefused, match="ignores If-None-Match"):
        await archive_on(held).check()


async def test_a_bucket_that_is_not_there_is_told() -> None:
    with pytest.raises(StartupRefused, match=r"make the bucket with `./sightline stack bucket no-lake`"):
        await ObjectArchive(store(), "no-lake", "archive/").check()


async def test_a_topic_that_was_made_anew_does_not_go_on_with_the_old_one() -> None:
    held = store()
    await add(archive_on(held, topic_id="one"), Chain(0, 0), record(0))
    await archive_on(held, topic_id="one").check()
    with pytest.raises(ArchiveBroken, match="made anew"):
        await archive_on(held, topic_id="two").check()
    with pytest.raises(ArchiveBroken, match="made anew"):
        await archive_on(held, topic_id="two").end(TOPIC, 0, 0)


async def test_what_is_no_file_of_ours_is_refused() -> None:
    held = store()
    archive = archive_on(held)
    await add(archive, Chain(0, 0), record(0))
    [key] = [key for key in held.buckets["lake"] if key.endswith(".parquet")]
    held.put("lake", key, b"rubbish")
    with pytest.raises(ArchiveBroken, match="no Parquet file"):
        await read(archive)
    held.put("lake", key.replace("00.parquet", "50.parquet"), b"foreign")
    with pytest.raises(ArchiveBroken, match="metadata lack"):
        await archive.end(TOPIC, 0, 0)


async def test_partitions_are_told_with_their_sums_and_faults() -> None:
    held = store()
    archive = archive_on(held)
    chain = Chain(0, 30)
    for number in range(30, 90, 20):
        await add(archive, chain, record(number), record(number + 19))
    await add(archive, Chain(0, 0), record(0, 1))
    [zero, one] = await archived(archive, [TOPIC])
    assert (zero.start, zero.end, zero.files, zero.records, zero.faults) == (30, 90, 3, 6, ())
    assert (one.partition, one.start, one.end, one.records) == (1, 0, 1, 1)
    held.delete("lake", f"archive/topic={TOPIC}/partition=0/{50:020}.parquet")
    [zero, _] = await archived(archive, [TOPIC])
    assert [(fault.kind, fault.start, fault.end) for fault in zero.faults] == [("hole", 50, 70)]


class Published:
    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes | None, bytes]] = []

    async def send_and_wait(self, topic: str, key: bytes | None, value: bytes) -> Position:
        raise NotImplementedError

    async def send_batch(self, records: object) -> None:
        self.sent += list(records)  # type: ignore[call-overload]

    async def close(self) -> None:
        """Nothing to close."""


async def test_a_replay_publishes_keys_and_bytes_as_they_were() -> None:
    archive = archive_on(store())
    records = [record(number) for number in range(1_200)]
    await add(archive, Chain(0, 0), *records)
    published = Published()
    async with aclosing(ArchiveReader(archive).read(TOPIC, first=100)) as found:
        assert await replay(found, published, "elsewhere") == 1_100
    assert published.sent == [("elsewhere", each.key, each.value) for each in records[100:]]
