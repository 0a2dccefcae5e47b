"""The lake's verbs beside a sink that commits all the time: nothing is lost, nothing doubled, its progress goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from threading import Semaphore

import pytest
import pytest_asyncio

from app.domain.lake import table_named
from app.lake.iceberg.commit import progress_behind
from app.lake.iceberg.compactor import Compactor
from app.lake.iceberg.erase import Eraser, Image
from app.lake.iceberg.expire import expire_snapshots
from app.lake.upkeep.compaction import Days, compact
from app.stack.local import LocalStack
from tests.support.lake.written_lake import StagedLake, lake_settings, made_records, predictions
from tests.support.stack import TestNames

pytestmark = pytest.mark.services
_COMMITS = 25


@pytest_asyncio.fixture
async def lake(stack: LocalStack, names: TestNames, tmp_path: Path) -> AsyncIterator[StagedLake]:
    staged = StagedLake(lake_settings(stack, names.prefix, names.bucket, tmp_path), stack)
    await staged.furnish()
    yield staged


async def test_maintenance_beside_a_sink_that_commits_all_the_time_loses_and_doubles_no_row(lake: StagedLake) -> None:
    row = table_named("predictions")
    batches = [made_records(lake, predictions(8, start=commit * 8, bucket="b")) for commit in range(_COMMITS)]
    lake.sink(batches[0])

    # Two commits for each step of ours, at the same time with it: a sink that never stops would leave it no turn.
    turns = Semaphore(0)

    def sink() -> None:
        for batch in batches[1:]:
            turns.acquire(timeout=60)
            lake.sink(batch)

    def operators() -> int:
        runs = 0
        while not committing.done():
            turns.release(2)
            compact(Compactor(lake.reader()), Days(), 1 << 27, lambda done: None)
            turns.release(2)
            expire_snapshots(lake.reader(), 1 << 62)
            turns.release(2)
            Eraser(lake.catalog, lake.settings).erase(row, Image("b", f"images/{runs}.jpg"), lake.clock.now_ms())
            runs += 1
        return runs

    committing = asyncio.ensure_future(asyncio.to_thread(sink))
    runs = await asyncio.to_thread(operators)
    await committing
    assert runs > 1
    compact(Compactor(lake.reader()), Days(), 1 << 27, lambda done: None)
    found = [int(each["key"].removeprefix("images/").removesuffix(".jpg")) for each in lake.rows()]
    erased = [number for number in range(runs) if number not in found]
    assert sorted([*found, *erased]) == list(range(_COMMITS * 8))
    # An image that had not been written yet when it was to be erased is there.
    assert len(erased) > 0
    words = progress_behind(lake.table().metadata, lake.table().metadata.current_snapshot_id)
    said = words[f"kafka.connect.offsets.{row.control_topic}.connect-{row.connector}"]
    assert json.loads(said) == {"0": _COMMITS * 10}
    assert len(lake.reader().files()) == 1
