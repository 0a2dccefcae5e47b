"""`lake compact`: fewer files, the same rows, the sink's progress kept, and commits of others in between survived."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.table.snapshots import Operation

from app.domain.compaction import Group, plan
from app.domain.lake import table_named
from app.errors import LakeUnavailable
from app.lake.iceberg.commit import progress_behind, replace_files
from app.lake.iceberg.compactor import Compactor
from app.lake.iceberg.expire import expire_snapshots
from app.lake.upkeep.compaction import DayDone, Days, compact
from app.stack.local import LocalStack
from tests.support.lake.written_lake import DAY_MS, StagedLake, lake_settings, made_records, predictions
from tests.support.stack import TestNames

pytestmark = pytest.mark.services

TARGET = 128 * 1024 * 1024


@pytest.fixture
def lake(stack: LocalStack, names: TestNames, tmp_path: Path) -> StagedLake:
    return StagedLake(lake_settings(stack, names.prefix, names.bucket, tmp_path), stack)


def _joined(lake: StagedLake, days: Days | None = None, **options: Any) -> list[DayDone]:
    compactor = Compactor(lake.reader(options.pop("row", table_named("predictions"))))
    return compact(compactor, days or Days(), options.pop("target", TARGET), lambda done: None)


async def test_a_day_of_small_files_becomes_one_with_the_same_rows_in_order(lake: StagedLake) -> None:
    await lake.furnish()
    for commit in range(12):
        lake.sink(made_records(lake, predictions(30, start=commit * 30, event_time_ms=10_000_000 - commit)))
    before, words = lake.rows(), progress_behind(lake.table().metadata, _current(lake))
    (done,) = _joined(lake)
    assert (done.files_before, done.files_after, done.rows) == (12, 1, 360)
    assert lake.rows() == before
    snapshot = lake.table().metadata.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert snapshot.summary.operation is Operation.REPLACE
    assert snapshot.summary["total-records"] == "360"
    assert snapshot.summary["total-data-files"] == "1"
    assert words
    assert {name: snapshot.summary[name] for name in words} == words
    times = lake.table().scan(selected_fields=("event_time_ms",)).to_arrow().column(0).to_pylist()
    assert times == sorted(times)
    assert _joined(lake) == []


async def test_days_stay_apart_and_only_the_days_asked_for_are_touched(lake: StagedLake) -> None:
    await lake.furnish()
    now = lake.clock.now_ms()
    for _ in range(3):
        for day in range(3):
            lake.sink(made_records(lake, predictions(5), at_ms=now - day * DAY_MS))
    days = sorted(Compactor(lake.reader()).days())
    before = lake.rows()
    assert [done.day for done in _joined(lake, Days(since=days[1], until=days[1]))] == [days[1]]
    assert [(done.day, done.files_after) for done in _joined(lake)] == [(days[0], 1), (days[2], 1)]
    assert len(lake.reader().files()) == 3
    assert lake.rows() == before


async def test_output_files_have_the_target_size_and_hold_ranges_that_do_not_meet(lake: StagedLake) -> None:
    await lake.furnish()
    for commit in range(9):
        lake.sink(made_records(lake, predictions(200, start=commit * 200, event_time_ms=None)))
    total = sum(file.size_bytes for file in lake.reader().files())
    (done,) = _joined(lake, target=total // 3)
    assert done.files_after <= 4
    ranges = sorted(_event_times(lake))
    assert all(left[1] <= right[0] for left, right in pairwise(ranges))


async def test_a_table_without_event_time_is_sorted_by_where_its_rows_came_from(lake: StagedLake) -> None:
    await lake.furnish()
    row = table_named("embeddings")
    for commit in range(3):
        lake.sink(made_records(lake, lake.examples(row, 20), row, start=100 - commit * 20), row)
    assert _joined(lake, row=row)[0].files_after == 1
    found = lake.table(row).scan(selected_fields=("kafka_partition", "kafka_offset")).to_arrow().to_pylist()
    coordinates = [tuple(each.values()) for each in found]
    assert len(coordinates) == 60
    assert coordinates == sorted(coordinates)


async def test_a_commit_of_the_sink_in_between_is_kept_and_its_progress_wins(lake: StagedLake) -> None:
    await lake.furnish()
    for commit in range(4):
        lake.sink(made_records(lake, predictions(10, start=commit * 10)))
    compactor = Compactor(lake.reader())
    (files,) = compactor.days().values()
    (group,) = plan(files, TARGET)
    reader = lake.reader()
    tasks = {task.file.file_path: task.file for task in reader.tasks()}
    added, _ = compactor._rewritten([compactor._tasks[path] for path in group.paths], 1)
    # Planned on the table as it was; twice the sink is faster, so that the first attempt is refused.
    table = reader.table
    lake.sink(made_records(lake, predictions(10, start=40)))
    lake.sink(made_records(lake, predictions(10, start=50)))
    newest = progress_behind(lake.table().metadata, _current(lake))
    replace_files(table, [tasks[path] for path in group.paths], added, same_rows=True)
    assert len(lake.rows()) == 60
    assert len(lake.reader().files()) == 3
    assert progress_behind(lake.table().metadata, _current(lake)) == newest
    assert '"0": 60' in str(newest)


async def test_what_the_sink_last_called_complete_is_carried_over_its_commits_that_say_nothing(
    lake: StagedLake,
) -> None:
    await lake.furnish()
    lake.sink(made_records(lake, predictions(10)))
    lake.sink(made_records(lake, predictions(10, start=10)), complete=False)
    before = lake.reader().progress()
    assert before.valid_through_ms == lake.clock.now_ms() // 1000 * 1000
    assert before.snapshot_ms == before.sink_snapshot_ms
    _joined(lake)
    expire_snapshots(lake.reader(), 1 << 62)
    after = lake.reader().progress()
    assert after.valid_through_ms == before.valid_through_ms
    assert len(lake.table().snapshots()) == 1


async def test_files_that_another_run_joined_first_are_planned_anew(lake: StagedLake) -> None:
    await lake.furnish()
    for commit in range(4):
        lake.sink(made_records(lake, predictions(10, start=commit * 10)))
    slow, fast = Compactor(lake.reader()), Compactor(lake.reader())
    (files,) = slow.days().values()
    fast.days()
    before = lake.rows()
    group = Group(tuple(file.path for file in files), 1)
    assert fast.join(group) is not None
    objects = await lake.files_of()
    assert slow.join(group) is None
    assert lake.rows() == before
    # What the loser had written is gone again.
    assert await lake.files_of() == objects


async def test_a_file_of_other_rows_is_never_committed(lake: StagedLake) -> None:
    await lake.furnish()
    for commit in range(3):
        lake.sink(made_records(lake, predictions(10, start=commit * 10)))
    objects, before = await lake.files_of(), lake.rows()
    with pytest.raises(LakeUnavailable, match="not the same"):
        compact(_LosesARow(lake.reader()), Days(), TARGET, lambda done: None)
    assert await lake.files_of() == objects
    assert lake.rows() == before


class _LosesARow(Compactor):
    """One row of the first row group is not written."""

    def _sorted(self, *arguments: Any) -> Iterator[Any]:
        for number, rows in enumerate(super()._sorted(*arguments)):
            yield rows if number else rows.slice(1)


def _current(lake: StagedLake) -> int | None:
    return lake.table().metadata.current_snapshot_id


def _event_times(lake: StagedLake) -> list[tuple[Any, Any]]:
    reader = lake.reader()
    found = []
    for task in reader.tasks():
        times = [value for batch in reader.batches(task, ("event_time_ms",)) for value in batch.column(0).to_pylist()]
        found.append((min(times), max(times)))
    return found
