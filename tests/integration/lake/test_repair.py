"""`lake repair` and `lake register`: rows come back exactly as the sink would have made them, and each once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from app.domain.lake import TABLES, LakeTable
from app.errors import LakeUnavailable
from app.lake.iceberg.catalog import create_tables
from app.lake.iceberg.commit import Beside
from app.lake.iceberg.erasures import Erasures
from app.lake.iceberg.read import TableReader
from app.lake.iceberg.rows import RowAppender
from app.lake.upkeep.register import register
from app.lake.upkeep.repair import Repaired, repair
from app.stack.local import LocalStack
from tests.support.lake.written_lake import PREDICTIONS_TABLE, StagedLake, lake_settings, made_records, predictions
from tests.support.stack import TestNames

pytestmark = pytest.mark.services


@pytest_asyncio.fixture
async def lake(stack: LocalStack, names: TestNames, topics: str, tmp_path: Path) -> AsyncIterator[StagedLake]:
    async with StagedLake(lake_settings(stack, topics, names.bucket, tmp_path), stack) as staged:
        yield staged


async def _repair(lake: StagedLake, row: LakeTable = PREDICTIONS_TABLE, *, force: bool = False) -> Repaired:
    reader = TableReader(lake.catalog, lake.settings, row)
    prefix = lake.settings.kafka.prefix
    return await repair(
        lake.comparer(reader), reader, lake.scanner, lake.codec, lake.clock, lake.limits, prefix=prefix, force=force
    )


async def test_missing_rows_come_back_as_they_would_have_been(lake: StagedLake) -> None:
    await lake.publish(predictions(50))
    await lake.publish(predictions(9, start=900), abort=True)
    await lake.publish(predictions(20, start=50))
    records = await lake.records()
    await lake.take()
    whole = lake.rows()
    await asyncio.to_thread(lake.empty)
    await asyncio.to_thread(lake.sink, [record for record in records if record.offset % 3])
    assert not (await lake.verify()).agrees
    done = await _repair(lake)
    assert done == Repaired("predictions", sum(record.offset % 3 == 0 for record in records), 0, 0)
    assert (await lake.verify()).agrees
    assert lake.rows() == whole
    assert await _repair(lake) == Repaired("predictions", 0, 0, 0)


async def test_of_rows_that_are_there_twice_one_stays(lake: StagedLake) -> None:
    await lake.fill(predictions(30))
    whole, records = lake.rows(), await lake.records()
    await asyncio.to_thread(lake.sink, records[:10])
    await asyncio.to_thread(lake.sink, [*records[5:8], *records[5:8]])
    assert (await lake.verify()).doubles == 16
    assert await _repair(lake) == Repaired("predictions", 0, 16, 0)
    assert (await lake.verify()).agrees
    assert lake.rows() == whole


async def test_what_may_be_merely_late_is_left_to_the_sink(lake: StagedLake) -> None:
    await lake.fill(predictions(10))
    # Read by the sink, and published after the moment up to which it calls itself complete.
    await lake.publish(predictions(4, start=10), at_ms=lake.clock.now_ms() + 1000)
    await lake.commit()
    assert await _repair(lake) == Repaired("predictions", 0, 0, 0)
    await lake.clock.sleep(3600)
    assert await _repair(lake) == Repaired("predictions", 0, 0, 4)
    assert await _repair(lake, force=True) == Repaired("predictions", 4, 0, 0)
    assert (await lake.verify()).missing == 0


async def test_what_the_sink_has_not_read_is_never_brought_unasked(lake: StagedLake) -> None:
    before = await lake.scanner.ends(PREDICTIONS_TABLE.topic)
    await lake.publish(predictions(10))
    await asyncio.to_thread(lake.sink, [])
    await lake.commit(offsets=before)
    assert (await _repair(lake)).appended == 0


async def test_rows_that_come_in_between_stop_a_repair_by_force_with_nothing_done(lake: StagedLake) -> None:
    await lake.publish(predictions(20))
    records = await lake.records()
    await asyncio.to_thread(lake.sink, records[:5])
    await lake.commit()
    appender = RowAppender(lake.table(), lake.codec, lake.settings.kafka.prefix)
    await asyncio.to_thread(appender.write, records[5:])
    # The sink commits the same records while they are written for the repair.
    await asyncio.to_thread(lake.sink, records[5:])
    with pytest.raises(LakeUnavailable, match="nothing was changed"):
        await asyncio.to_thread(appender.commit, Beside.NOBODY)
    assert (await lake.verify()).agrees
    assert await lake.files_of() == {file.path for file in lake.reader().files()}


async def test_a_commit_of_the_sink_in_between_does_not_stop_a_repair_of_what_it_has_lost(lake: StagedLake) -> None:
    await lake.publish(predictions(20))
    records = await lake.records()
    await asyncio.to_thread(lake.sink, records[:5])
    await lake.commit()
    appender = RowAppender(lake.table(), lake.codec, lake.settings.kafka.prefix)
    await asyncio.to_thread(appender.write, records[5:])
    other = RowAppender(lake.table(), lake.codec, lake.settings.kafka.prefix)
    await asyncio.to_thread(other.write, records[5:])
    await lake.fill(predictions(5, start=20))
    await asyncio.to_thread(appender.commit, Beside.SINK)
    assert (await lake.verify()).agrees
    # A second repair at the same time, planned before the first one committed.
    with pytest.raises(LakeUnavailable, match="nothing was changed"):
        await asyncio.to_thread(other.commit, Beside.SINK)
    assert (await lake.verify()).agrees


async def test_erased_rows_are_not_brought_back(lake: StagedLake) -> None:
    await lake.publish(predictions(10))
    records = await lake.records()
    await asyncio.to_thread(lake.sink, records[2:])
    await lake.commit()
    gone = (records[0].partition, records[0].offset)
    erasures = Erasures(lake.catalog, lake.settings)
    await asyncio.to_thread(erasures.record, "predictions", [gone], lake.clock.now_ms())
    assert (await _repair(lake)).appended == 1
    assert (await lake.verify()).agrees
    assert (records[0].partition, records[0].offset) not in _places(lake)


@pytest.mark.parametrize("row", TABLES, ids=lambda row: row.name)
async def test_a_catalog_that_was_wiped_is_attached_again_and_what_is_missing_brought(
    lake: StagedLake, row: LakeTable
) -> None:
    await lake.fill(lake.examples(row, 12), row)
    await lake.fill(lake.examples(row, 5), row)
    whole, uuid = lake.rows(row), lake.table(row).metadata.table_uuid
    lake.catalog.drop_table((lake.settings.lake.namespace, row.name))
    assert not (await lake.verify(row)).agrees
    words = await register(lake.catalog, lake.settings, row, lake.store, replace=False)
    assert words is not None
    assert words.startswith("attached by s3://")
    assert lake.table(row).metadata.table_uuid == uuid
    assert lake.rows(row) == whole
    assert (await lake.verify(row)).agrees
    assert await register(lake.catalog, lake.settings, row, lake.store, replace=False) == "is attached"


async def test_a_metadata_file_of_a_commit_that_lost_is_not_taken(lake: StagedLake) -> None:
    await lake.fill(predictions(12))
    table = lake.table()
    text = table.metadata.model_dump_json()
    snapshot = table.metadata.current_snapshot()
    assert snapshot is not None
    lost = text.replace(snapshot.manifest_list, snapshot.manifest_list.replace("snap-", "snap-lost-"))
    path = table.metadata_location.rpartition("/")[0] + "/00099-00000000-0000-0000-0000-000000000000.metadata.json"
    with table.io.new_output(path).create() as output:
        output.write(lost.encode())
    lake.catalog.drop_table((lake.settings.lake.namespace, "predictions"))
    await register(lake.catalog, lake.settings, PREDICTIONS_TABLE, lake.store, replace=False)
    assert lake.table().metadata_location == table.metadata_location


async def test_a_table_made_anew_gives_way_only_when_told(lake: StagedLake) -> None:
    await lake.fill(predictions(12))
    whole, old = lake.rows(), lake.table()
    lake.catalog.drop_table((lake.settings.lake.namespace, "predictions"))
    await asyncio.to_thread(create_tables, lake.catalog, lake.settings)
    with pytest.raises(LakeUnavailable, match="--replace"):
        await register(lake.catalog, lake.settings, PREDICTIONS_TABLE, lake.store, replace=False)
    assert lake.table().metadata.table_uuid != old.metadata.table_uuid
    await register(lake.catalog, lake.settings, PREDICTIONS_TABLE, lake.store, replace=True)
    assert lake.rows() == whole


async def test_a_warehouse_without_files_has_nothing_to_attach(lake: StagedLake) -> None:
    row = LakeTable("nothing", "", "")
    assert await register(lake.catalog, lake.settings, row, lake.store, replace=False) is None


@pytest.mark.parametrize("row", TABLES, ids=lambda row: row.name)
async def test_rows_read_back_are_the_fields_of_the_record(lake: StagedLake, row: LakeTable) -> None:
    (record,) = made_records(lake, lake.examples(row, 1), row)
    await asyncio.to_thread(lake.sink, [record], row)
    (found,) = lake.rows(row)
    _, fields = lake.codec.fields(record.value)
    for name, value in fields.items():
        read = found[name]
        if name.endswith("_ms"):
            assert read.utcoffset().total_seconds() == 0
            assert round(read.timestamp() * 1000) == value
        else:
            assert read == value, name
    assert found["kafka_topic"] == lake.settings.kafka.prefix + row.topic
    assert round(found["kafka_timestamp"].timestamp() * 1000) == record.timestamp_ms


def _places(lake: StagedLake) -> set[tuple[int, int]]:
    return {(row["kafka_partition"], row["kafka_offset"]) for row in lake.rows()}
