"""`lake erase`: no object of the bucket holds the image any more, in any form, and everything else is as it was."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fastavro
import pyarrow.parquet as pq
import pytest
import pytest_asyncio

from app.domain.lake import TABLES, LakeTable, table_named
from app.lake.iceberg.commit import progress_behind
from app.lake.iceberg.erase import Content, Eraser, Image
from app.lake.iceberg.read import TableReader
from app.lake.upkeep.erase import Erased, erase, look, not_reached
from app.lake.upkeep.repair import repair
from app.settings import Settings
from app.stack.local import LocalStack
from schemas.records import Record
from tests.support.lake.written_lake import StagedLake, lake_settings
from tests.support.stack import TestNames

pytestmark = pytest.mark.services

# Shorter than what the bounds in a manifest keep of a text, so that a trace there would be seen.
BUCKET, KEY = "people", "ada.jpg"
SHARED, OWN, OTHERS = "5" * 64, "7" * 64, "9" * 64


@pytest_asyncio.fixture
async def lake(stack: LocalStack, names: TestNames, topics: str, tmp_path: Path) -> AsyncIterator[StagedLake]:
    async with StagedLake(lake_settings(stack, topics, names.bucket, tmp_path), stack) as staged:
        yield staged


async def _furnished(lake: StagedLake) -> None:
    """One image in every table, by both readings of its key, between rows of others; several commits each."""
    for _ in range(2):
        for row in TABLES:
            await lake.fill(_rows(lake, row), row)


def _rows(lake: StagedLake, row: LakeTable) -> list[Record]:
    (example,) = lake.examples(row, 1)
    if row.name == "embeddings":
        return [_changed(example, sha256=digest) for digest in (OWN, SHARED, OTHERS, OWN)]
    digests = {} if row.name == "removals" else {"sha256": OTHERS}
    own = {} if row.name == "removals" else {"sha256": OWN}
    shared = {} if row.name == "removals" else {"sha256": SHARED}
    others = [_changed(example, bucket=BUCKET, key=f"zoe-{number}.jpg", **digests) for number in range(4)]
    mine = [_changed(example, bucket=BUCKET, key=KEY, **own), _changed(example, bucket=BUCKET, key=KEY, **shared)]
    other_reading = (
        [] if row.name == "decisions" else [_changed(example, bucket=BUCKET, key="ada 2.jpg", event_key=KEY, **own)]
    )
    return [
        *others,
        *mine,
        *other_reading,
        _changed(example, bucket=BUCKET, key="zoe-shared.jpg", **shared),
    ]


def _changed(record: Record, **changes: Any) -> Record:
    return replace(record, **changes)


async def _erase(lake: StagedLake, target: Image | Content) -> dict[str, Erased]:
    done = await erase(Eraser(lake.catalog, lake.settings), target, lake.store, lake.clock)
    return {each.table: each for each in done}


async def test_no_object_of_the_bucket_holds_the_image_and_the_rest_is_as_it_was(lake: StagedLake) -> None:
    await _furnished(lake)
    assert await _traces(lake, KEY)
    assert await _traces(lake, OWN)
    before = {row.name: lake.rows(row) for row in TABLES}
    words = progress_behind(lake.table().metadata, lake.table().metadata.current_snapshot_id)

    counted = {each.table: each.rows for each in await look(Eraser(lake.catalog, lake.settings), Image(BUCKET, KEY))}
    assert counted == {"predictions": 6, "flagged": 6, "decisions": 4, "removals": 6, "embeddings": 4}
    assert {row.name: lake.rows(row) for row in TABLES} == before

    done = await _erase(lake, Image(BUCKET, KEY))
    assert {name: each.rows for name, each in done.items()} == counted
    for row in TABLES:
        assert lake.rows(row) == [each for each in before[row.name] if not _is_of_the_image(each)]
        assert len(lake.table(row).snapshots()) == 1
    assert await _traces(lake, KEY) == []
    # A manifest keeps the first 16 characters of a bound.
    assert await _traces(lake, OWN[:16]) == []
    assert progress_behind(lake.table().metadata, lake.table().metadata.current_snapshot_id) == words


async def test_what_was_erased_is_neither_missed_nor_brought_back(lake: StagedLake) -> None:
    await _furnished(lake)
    done = await _erase(lake, Image(BUCKET, KEY))
    for row in TABLES:
        found = await lake.verify(row)
        assert found.agrees, found
        assert found.erased == done[row.name].rows
        reader = TableReader(lake.catalog, lake.settings, row)
        prefix = lake.settings.kafka.prefix
        repaired = await repair(
            lake.comparer(reader), reader, lake.scanner, lake.codec, lake.clock, lake.limits, prefix=prefix, force=True
        )
        assert repaired.appended == 0
    erasures = lake.catalog.load_table((lake.settings.lake.namespace, "erasures")).scan().to_arrow()
    assert erasures.schema.names == ["table_name", "kafka_partition", "kafka_offset", "erased_at"]
    assert erasures.num_rows == sum(each.rows for each in done.values())


async def test_an_image_of_the_same_key_in_another_bucket_stays(lake: StagedLake) -> None:
    row = table_named("flagged")
    (example,) = lake.examples(row, 1)
    await lake.fill([_changed(example, bucket=bucket, key=KEY) for bucket in (BUCKET, "elsewhere")], row)
    await _erase(lake, Image(BUCKET, KEY))
    assert [each["bucket"] for each in lake.rows(row)] == ["elsewhere"]


async def test_a_content_goes_wherever_it_was(lake: StagedLake) -> None:
    await _furnished(lake)
    done = await _erase(lake, Content(frozenset((SHARED,))))
    assert {name: each.rows for name, each in done.items()} == {
        "embeddings": 2,
        "flagged": 4,
        "decisions": 4,
        "removals": 0,
        "predictions": 4,
    }
    assert await _traces(lake, SHARED[:16]) == []


async def test_a_run_that_broke_off_is_finished_by_the_next(lake: StagedLake) -> None:
    await _furnished(lake)
    eraser, image = Eraser(lake.catalog, lake.settings), Image(BUCKET, KEY)
    # Ended after the rows of the first two tables were taken out, before any file went.
    await asyncio.to_thread(eraser.erase, table_named("embeddings"), Content(frozenset((OWN,))), lake.clock.now_ms())
    await asyncio.to_thread(eraser.erase, table_named("flagged"), image, lake.clock.now_ms())
    assert await _traces(lake, OWN)
    await _erase(lake, image)
    assert await _traces(lake, OWN[:16]) == []
    assert await _traces(lake, KEY) == []
    assert (await lake.verify(table_named("flagged"))).agrees


async def test_rows_that_come_while_it_erases_are_met_too(lake: StagedLake) -> None:
    await _furnished(lake)
    row = table_named("predictions")
    records = (await lake.records(row))[:1]
    eraser = Eraser(lake.catalog, lake.settings)
    late = [replace(record, offset=record.offset + 1000) for record in records]
    mine = [replace(record, value=lake.codec.encode(_rows(lake, row)[4])) for record in late]

    class Overtaken(Eraser):
        """The sink commits once more rows of the image after they were looked for."""

        def count(self, row: LakeTable, target: Image | Content) -> tuple[int, int]:
            found = super().count(row, target)
            if row.name == "predictions" and mine:
                lake.sink([mine.pop()], row)
            return found

    done = await erase(Overtaken(lake.catalog, lake.settings), Image(BUCKET, KEY), lake.store, lake.clock)
    assert {each.table: each.rows for each in done}["predictions"] == 7
    assert (await asyncio.to_thread(eraser.count, row, Image(BUCKET, KEY))) == (0, 0)


async def test_a_tag_that_keeps_former_rows_is_named(lake: StagedLake) -> None:
    await _furnished(lake)
    snapshot = lake.table().metadata.current_snapshot_id
    assert snapshot is not None
    lake.table().manage_snapshots().create_tag(snapshot, "report").commit()
    done = await _erase(lake, Image(BUCKET, KEY))
    assert done["predictions"].held_by == ("report",)
    assert await _traces(lake, OWN)
    lake.table().manage_snapshots().remove_tag("report").commit()
    await _erase(lake, Image(BUCKET, KEY))
    assert await _traces(lake, OWN) == []


def test_it_says_what_it_does_not_reach() -> None:
    text = " ".join(not_reached(Settings()))
    for word in ("image.predictions.v1 (30 days)", "moderation.decisions.v1 (for ever)", "archive", "index", "backups"):
        assert word in text


def _is_of_the_image(row: dict[str, Any]) -> bool:
    if "bucket" not in row:
        return bool(row["sha256"] == OWN)
    return bool(row["bucket"] == BUCKET and KEY in (row["key"], row.get("event_key")))


async def _traces(lake: StagedLake, text: str) -> list[str]:
    """Return where `text` is found: in the bytes of any object of the bucket, its Parquet columns or Avro records."""
    bucket = lake.settings.lake.warehouse.removeprefix("s3://").split("/")[0]
    found = []
    async for file in lake.store.list(f"s3://{bucket}/"):
        key = file.path.removeprefix(f"s3://{bucket}/")
        answer = await lake.store._client.get_object(Bucket=bucket, Key=key)
        body = await answer["Body"].read()
        lines = [str(row) for row in _decoded(key, body)]
        hits = [line for line in lines if text in line]
        if key.endswith(".parquet"):
            found += [f"{key}: {line}" for line in hits]
        elif hits or text.encode() in body:
            found.append(f"{key}: {hits[:1]}")
    return found


def _decoded(key: str, body: bytes) -> list[Any]:
    if key.endswith(".parquet"):
        rows: list[Any] = pq.read_table(io.BytesIO(body)).to_pylist()
        return rows
    if key.endswith(".avro"):
        return list(fastavro.reader(io.BytesIO(body)))
    return []
