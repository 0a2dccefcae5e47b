"""`lake verify` on a real topic, catalog and store: it agrees when all is there, and fails for what is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from app.domain.lake import table_named
from app.lake.iceberg.erasures import Erasures
from app.lake.iceberg.rows import RowAppender
from app.lake.upkeep.sums import TableSums, lines
from app.ports.records import SourceRecord
from app.stack.local import LocalStack
from tests.support.lake.written_lake import PREDICTIONS_TABLE, StagedLake, lake_settings, predictions
from tests.support.stack import TestNames

pytestmark = pytest.mark.services


@pytest_asyncio.fixture
async def lake(stack: LocalStack, names: TestNames, topics: str, tmp_path: Path) -> AsyncIterator[StagedLake]:
    async with StagedLake(lake_settings(stack, topics, names.bucket, tmp_path), stack) as staged:
        yield staged


def _last(found: TableSums) -> str:
    return lines(found)[-1]


async def test_it_agrees_over_transactions_aborted_ones_and_a_second_commit(lake: StagedLake) -> None:
    await lake.fill(predictions(40))
    await lake.publish(predictions(7, start=900), abort=True)
    await lake.fill(predictions(25, start=40))
    found = await lake.verify()
    assert found.agrees, lines(found)
    assert _last(found) == "outcomes=65 rows=65 missing=0 extra=0"
    assert sum(part.records for part in found.partitions) == 65
    assert len([part for part in found.partitions if part.records]) > 1


async def test_an_empty_topic_and_an_empty_table_agree(lake: StagedLake) -> None:
    found = await lake.verify(table_named("decisions"))
    assert found.agrees, lines(found)
    assert _last(found) == "decisions: records=0 rows=0 missing=0 extra=0"


async def test_a_missing_row_fails(lake: StagedLake) -> None:
    await lake.publish(predictions(20))
    records = await lake.records()
    await asyncio.to_thread(lake.sink, records[:5] + records[6:])
    await lake.commit()
    found = await lake.verify()
    assert (found.missing, found.extra, found.agrees) == (1, 0, False)
    assert _last(found) == "outcomes=20 rows=19 missing=1 extra=0"
    assert [part.partition for part in found.partitions if part.missing] == [records[5].partition]


async def test_a_row_that_is_there_twice_fails(lake: StagedLake) -> None:
    await lake.fill(predictions(20))
    records = await lake.records()
    await asyncio.to_thread(lake.sink, records[3:5])
    await asyncio.to_thread(lake.sink, records[3:4])
    found = await lake.verify()
    assert (found.missing, found.doubles, found.foreign, found.agrees) == (0, 3, 0, False)
    assert _last(found) == "outcomes=20 rows=23 missing=0 extra=3"


async def test_rows_that_the_topic_never_had_fail(lake: StagedLake) -> None:
    await lake.fill(predictions(20))
    await lake.publish(predictions(5, start=100), abort=True)
    ends = await lake.scanner.ends(PREDICTIONS_TABLE.topic)
    known = {(record.partition, record.offset) for record in await lake.records()}
    hole = next((number, end - 2) for number, end in ends.items() if end >= 2 and (number, end - 2) not in known)
    template = (await lake.records())[0]
    foreign = [replace(template, partition=number, offset=offset) for number, offset in (hole, (0, 10_000), (99, 1))]
    await asyncio.to_thread(_append, lake, foreign)
    found = await lake.verify()
    assert (found.missing, found.doubles, found.foreign, found.agrees) == (0, 0, 3, False)
    assert _last(found) == "outcomes=20 rows=23 missing=0 extra=3"


async def test_what_the_sink_has_not_read_yet_waits_and_the_wait_ends_with_the_row(lake: StagedLake) -> None:
    await lake.fill(predictions(10))
    now = lake.clock.now_ms()
    before = await lake.scanner.ends(PREDICTIONS_TABLE.topic)
    await lake.publish(predictions(4, start=10), at_ms=now)
    found = await lake.verify()
    assert (found.missing, found.waiting, found.agrees) == (0, 4, True), lines(found)
    assert _last(found) == "outcomes=14 rows=10 missing=0 extra=0 waiting=4"
    # Asked to wait, what still waits at the end is missing.
    found = await lake.verify(wait_seconds=5)
    assert (found.missing, found.waiting, found.agrees) == (4, 0, False)
    waiting = asyncio.create_task(lake.verify(wait_seconds=1e6))
    await lake.take(since=before)
    assert (await waiting).agrees


async def test_a_row_is_late_until_it_has_to_be_there(lake: StagedLake) -> None:
    await lake.fill(predictions(10))
    await lake.publish(predictions(3, start=10), at_ms=lake.clock.now_ms() + 1)
    # Read and announced by the sink, not committed to the table.
    await lake.commit()
    assert (await lake.verify()).waiting == 3
    await lake.clock.sleep(3600)
    found = await lake.verify()
    assert (found.missing, found.waiting) == (3, 0)


async def test_a_sink_that_stands_still_fails(lake: StagedLake) -> None:
    await lake.fill(predictions(10))
    await lake.publish(predictions(3, start=10), at_ms=lake.clock.now_ms() + 600_000)
    assert (await lake.verify()).agrees
    await lake.clock.sleep(3600)
    found = await lake.verify()
    assert not found.agrees
    assert found.waiting == 3
    assert "3 records wait longer than 1020 s" in lines(found)[0]
    assert "committed last at" in lines(found)[1]
    assert "complete up to" in lines(found)[2]


async def test_orphans_fail_once_they_are_old(lake: StagedLake) -> None:
    await lake.fill(predictions(10))
    table = lake.table()
    with table.io.new_output(f"{table.location()}/metadata/left-by-a-kill.avro").create() as output:
        output.write(b"half a file")
    assert (await lake.verify()).orphans == 0
    await lake.clock.sleep(25 * 3600)
    found = await lake.verify()
    assert (found.orphans, found.agrees) == (1, False)
    assert "lake gc" in lines(found)[0]


async def test_a_catalog_without_the_table_says_what_to_do(lake: StagedLake) -> None:
    await lake.fill(predictions(10))
    await asyncio.to_thread(lake.catalog.drop_table, (lake.settings.lake.namespace, "predictions"))
    found = await lake.verify()
    assert (found.missing, found.agrees) == (10, False)
    assert "lake register" in lines(found)[0]
    assert _last(found) == "outcomes=10 rows=0 missing=10 extra=0"


async def test_what_was_erased_is_not_missing(lake: StagedLake) -> None:
    await lake.publish(predictions(10))
    records = await lake.records()
    await asyncio.to_thread(lake.sink, records[1:])
    await lake.commit()
    erasures = Erasures(lake.catalog, lake.settings)
    gone = (records[0].partition, records[0].offset)
    await asyncio.to_thread(erasures.record, "predictions", [gone], lake.clock.now_ms())
    found = await lake.verify()
    assert found.agrees
    assert _last(found) == "outcomes=10 rows=9 missing=0 extra=0 erased=1"


async def test_rows_older_than_the_topic_are_looked_at_for_doubles_only(lake: StagedLake) -> None:
    await lake.fill(predictions(30))
    records = await lake.records()
    await lake.forget_before(PREDICTIONS_TABLE, dict.fromkeys({record.partition for record in records}, 3))
    held = [record for record in records if record.offset >= 3]
    found = await lake.verify()
    assert found.agrees, lines(found)
    assert (found.records, found.older) == (len(held), 30 - len(held))
    await asyncio.to_thread(lake.sink, [record for record in records if record.offset == 0][:1])
    assert (await lake.verify()).doubles == 1


async def test_small_files_are_told_by_day(lake: StagedLake) -> None:
    for start in range(3):
        await lake.fill(predictions(2, start=start))
    found = await lake.verify()
    assert found.agrees
    assert list(found.small_files.values()) == [3]


def _append(lake: StagedLake, records: list[SourceRecord]) -> None:
    appender = RowAppender(lake.table(), lake.codec, lake.settings.kafka.prefix)
    appender.write(records)
    appender.commit()
