"""`lake expire` and `lake gc`: what may go goes, what the sink or a reader needs stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from app.domain.lake import table_named
from app.errors import LakeUnavailable
from app.lake.iceberg.catalog import create_tables
from app.lake.iceberg.commit import append_files, progress_behind
from app.lake.iceberg.compactor import Compactor
from app.lake.iceberg.expire import expirable, expire_snapshots
from app.lake.upkeep.compaction import Days, compact
from app.lake.upkeep.orphans import Rubbish, find_rubbish, remove
from app.stack.local import LocalStack
from tests.support.lake.written_lake import HOUR_MS, StagedLake, lake_settings, made_records, predictions, sink_words
from tests.support.stack import TestNames

pytestmark = pytest.mark.services

_FAR = 1 << 60


@pytest_asyncio.fixture
async def lake(stack: LocalStack, names: TestNames, tmp_path: Path) -> AsyncIterator[StagedLake]:
    staged = StagedLake(lake_settings(stack, names.prefix, names.bucket, tmp_path), stack)
    await staged.furnish()
    async with staged.store:
        yield staged


async def _rubbish(lake: StagedLake) -> Rubbish:
    return await find_rubbish(lake.reader(), lake.store, lake.clock, lake.limits.rubbish)


def _write(lake: StagedLake, path: str) -> None:
    with lake.table().io.new_output(path).create(overwrite=True) as output:
        output.write(b"left over")


async def test_the_sink_still_knows_how_far_it_is_after_everything_old_expired(lake: StagedLake) -> None:
    for commit in range(5):
        lake.sink(made_records(lake, predictions(4, start=commit * 4)))
    words = progress_behind(lake.table().metadata, lake.table().metadata.current_snapshot_id)
    before = lake.rows()
    compact(Compactor(lake.reader()), Days(), 1 << 27, lambda done: None)
    assert expire_snapshots(lake.reader(), _FAR) == 5
    assert len(lake.table().snapshots()) == 1
    assert progress_behind(lake.table().metadata, lake.table().metadata.current_snapshot_id) == words
    assert lake.rows() == before


async def test_the_line_back_to_the_sinks_snapshot_stays_where_others_wrote_without_its_words(lake: StagedLake) -> None:
    for commit in range(3):
        lake.sink(made_records(lake, predictions(4, start=commit * 4)))
    words = progress_behind(lake.table().metadata, lake.table().metadata.current_snapshot_id)
    for _ in range(2):
        # As another engine commits: nothing of the sink in the summary.
        with lake.table().transaction() as transaction, transaction.update_snapshot().fast_append():
            pass
    metadata = lake.table().metadata
    assert len(metadata.snapshots) == 5
    assert len(expirable(metadata, _FAR)) == 2
    expire_snapshots(lake.reader(), _FAR)
    metadata = lake.table().metadata
    assert progress_behind(metadata, metadata.current_snapshot_id) == words
    # Snapshots of ours carry the words themselves, so that the line is short again.
    append_files(lake.table(), [])
    assert len(expirable(lake.table().metadata, _FAR)) == 3


async def test_young_snapshots_stay(lake: StagedLake) -> None:
    for commit in range(3):
        lake.sink(made_records(lake, predictions(4, start=commit * 4)))
    assert expire_snapshots(lake.reader(), lake.clock.now_ms() - HOUR_MS) == 0
    assert expire_snapshots(lake.reader(), _FAR) == 2


async def test_a_tag_is_kept(lake: StagedLake) -> None:
    lake.sink(made_records(lake, predictions(4)))
    tagged = lake.table().metadata.current_snapshot_id
    assert tagged is not None
    lake.table().manage_snapshots().create_tag(tagged, "audit-2026").commit()
    lake.sink(made_records(lake, predictions(4, start=4)))
    assert expire_snapshots(lake.reader(), _FAR) == 0


async def test_what_only_expired_snapshots_needed_goes_and_the_table_stays_whole(lake: StagedLake) -> None:
    for commit in range(6):
        lake.sink(made_records(lake, predictions(4, start=commit * 4)))
    before = lake.rows()
    compact(Compactor(lake.reader()), Days(), 1 << 27, lambda done: None)
    expire_snapshots(lake.reader(), _FAR)
    await lake.clock.sleep(30 * 3600)
    # As if the sink had committed long after these files were written.
    found = await find_rubbish(lake.reader(), lake.store, lake.clock, replace(lake.limits.rubbish, commit_ms=-HOUR_MS))
    assert sum(file.path.endswith(".parquet") for file in found.files) == 6
    await remove(found, lake.store)
    assert lake.rows() == before
    assert sum(file.path.endswith(".parquet") for file in await lake.files()) == 1
    assert (await _rubbish(lake)).files == ()


async def test_orphans_go_once_they_are_old_and_neighbours_are_not_touched(lake: StagedLake) -> None:
    lake.sink(made_records(lake, predictions(4)))
    folder = lake.table().location()
    flagged = lake.table(table_named("flagged")).location()
    orphans = [f"{folder}/metadata/lost-m0.avro", f"{folder}/metadata/snap-1-0-lost.avro"]
    for path in [*orphans, f"{flagged}/metadata/not-ours.avro", f"{folder}-copy/metadata/not-ours.avro"]:
        _write(lake, path)
    assert (await _rubbish(lake)).files == ()
    await lake.clock.sleep(25 * 3600)
    found = await _rubbish(lake)
    assert sorted(file.path for file in found.files) == sorted(orphans)
    await remove(found, lake.store)
    left = {file.path async for file in lake.store.list(folder.removesuffix("predictions"))}
    assert not left & set(orphans)
    assert {f"{flagged}/metadata/not-ours.avro", f"{folder}-copy/metadata/not-ours.avro"} <= left
    assert len(lake.rows()) == 4


async def test_a_data_file_that_the_sink_may_yet_commit_stays_however_old_it_is(lake: StagedLake) -> None:
    path = f"{lake.table().location()}/data/written-and-not-committed.parquet"
    _write(lake, path)
    await lake.clock.sleep(1000 * 3600)
    # The sink has never committed.
    assert (await _rubbish(lake)).files == ()
    lake.sink(made_records(lake, predictions(4)))
    # Its commit is about as old as the file: another task's announcement may have come too late for it.
    assert (await _rubbish(lake)).files == ()


async def test_a_half_upload_is_ended_once_it_is_old(lake: StagedLake) -> None:
    lake.sink(made_records(lake, predictions(4)))
    bucket, _, key = lake.table().location().removeprefix("s3://").partition("/")
    await lake.store._client.create_multipart_upload(Bucket=bucket, Key=f"{key}/data/half.parquet")
    assert (await _rubbish(lake)).uploads == ()
    await lake.clock.sleep(25 * 3600)
    found = await _rubbish(lake)
    assert [upload.path for upload in found.uploads] == [f"s3://{bucket}/{key}/data/half.parquet"]
    await remove(found, lake.store)
    assert (await _rubbish(lake)).uploads == ()


async def test_a_table_that_cannot_be_read_wholly_is_refused(lake: StagedLake) -> None:
    lake.sink(made_records(lake, predictions(4)))
    snapshot = lake.table().metadata.current_snapshot()
    assert snapshot is not None
    lake.table().io.delete(snapshot.manifest_list)
    await lake.clock.sleep(25 * 3600)
    with pytest.raises(LakeUnavailable, match="reading the manifests"):
        await _rubbish(lake)


async def test_the_files_of_a_table_that_the_catalog_forgot_are_never_rubbish(lake: StagedLake) -> None:
    lake.sink(made_records(lake, predictions(4)))
    await lake.clock.sleep(25 * 3600)
    reader = lake.reader()
    lake.catalog.drop_table((lake.settings.lake.namespace, "predictions"))
    with pytest.raises(LakeUnavailable, match="lake register"):
        await find_rubbish(reader, lake.store, lake.clock, lake.limits.rubbish)
    # Made anew in the same folder: everything of the former table looks unreferenced.
    await asyncio.to_thread(create_tables, lake.catalog, lake.settings)
    with pytest.raises(LakeUnavailable, match="metadata files of another table"):
        await _rubbish(lake)


def test_the_words_of_the_sink_are_those_of_the_jar() -> None:
    assert sorted(name.rpartition(".lake.control")[0] or name for name in sink_words(table_named("flagged"), 1, 0)) == [
        "kafka.connect.commit-id",
        "kafka.connect.offsets",
        "kafka.connect.task-id",
        "kafka.connect.valid-through-ts",
    ]
