"""Reconcile on topics in memory: it enqueues what nobody told of, once, and nothing else."""

from __future__ import annotations

import pytest

from app.domain import claims, identity
from app.domain.filters import UploadFilter
from app.ledger.ledger import Scope
from app.ledger.reconcile import Counts, Place, ReconcileParts, reconcile
from app.pipeline.dead_letters import USED_UP, dead_letter
from app.pipeline.score import claim_of
from app.ports.objects import ListedObject
from app.ports.records import SourceRecord
from app.settings import Settings
from app.topics import BACKFILL, TASKS, UPLOADS
from schemas.records import ImageTask, Position
from tests.support.event_messages import message, record
from tests.support.ingest import NOW_MS, ListedStore, StagedPipeline

HOUR_MS = 3_600_000
OLD_MS = NOW_MS - HOUR_MS
OLD = "2026-11-23T09:33:20.250Z"
PLACE = Place("images", "in/", older_than_ms=600_000, within_ms=24 * HOUR_MS)


@pytest.fixture
def pipeline() -> StagedPipeline:
    return StagedPipeline()


def listed(number: int, modified_ms: int = OLD_MS, *, folder: str = "in") -> ListedObject:
    return ListedObject("images", f"{folder}/{number:03d}.jpg", f"{number:032x}", 10, modified_ms)


def notification(number: int, time: str = OLD) -> bytes:
    thing = {"key": f"in/{number:03d}.jpg", "eTag": f"{number:032x}", "sequencer": f"00{number:04X}"}
    return message(record(object=thing, eventTime=time))


async def run(pipeline: StagedPipeline, *, enqueue: bool = True, rate: float | None = None) -> Counts:
    assert pipeline.store is not None
    parts = ReconcileParts(
        pipeline.log,
        pipeline.groups,
        pipeline.codec,
        pipeline.clock,
        UploadFilter.of(Settings()),
        pipeline.store,
        pipeline.producer if enqueue else None,
    )
    return await reconcile(parts, PLACE, rate_per_second=rate, report=lambda counts, phase: None)


async def backfill(pipeline: StagedPipeline) -> list[ImageTask]:
    return [task for task in await pipeline.decoded(BACKFILL) if isinstance(task, ImageTask)]


def source(task: ImageTask, topic: str, offset: int) -> claims.StoredClaim:
    asked = claim_of(task)
    return claims.StoredClaim(
        asked.upload_id,
        asked.attempt,
        Position(topic, 0, offset),
        asked.event_time_ms,
        asked.covers_from_ms,
        asked.covers_until_ms,
    )


async def test_every_fate_is_accounted_for_and_only_the_missing_are_enqueued(pipeline: StagedPipeline) -> None:
    pipeline.store = ListedStore(
        [
            *(listed(number) for number in range(1, 7)),
            listed(7, NOW_MS - 60_000),
            listed(8, NOW_MS - 48 * HOUR_MS),
            listed(9, folder="elsewhere"),
        ]
    )
    # 1 has an outcome, 2 is a dead letter, 3 is before score, 4 is before identify; 5 and 6 were never told of.
    await pipeline.notify(*(notification(number) for number in (1, 2, 3)))
    tasks = {task.key: task for task in await pipeline.identify() if isinstance(task, ImageTask)}
    await pipeline.score(tasks["in/001.jpg"])
    dead = tasks["in/002.jpg"]
    value = SourceRecord(TASKS, 0, 7, NOW_MS, None, pipeline.codec.encode(dead))
    await pipeline.publish(
        dead_letter(
            value, agent="score", kind=USED_UP, reason="slow", detail="", now_ms=NOW_MS, upload_id=dead.upload_id
        )
    )
    await pipeline.notify(notification(4))
    dry = await run(pipeline, enqueue=False)
    assert (dry.listed, dry.accounted, dry.missing, dry.enqueued) == (8, 4, 2, 0)
    assert (dry.too_young, dry.too_old, dry.filtered) == (1, 1, 0)
    assert dry.examples == ["s3://images/in/005.jpg", "s3://images/in/006.jpg"]
    assert await backfill(pipeline) == []

    wet = await run(pipeline)
    assert wet.enqueued == 2
    made = await backfill(pipeline)
    assert sorted(task.key for task in made) == ["in/005.jpg", "in/006.jpg"]
    assert {(task.lane, task.job_id, task.attempt) for task in made} == {("backfill", None, 1)}
    # While they are in flight nothing is missing any more, nor once they have their outcomes.
    assert (await run(pipeline)).missing == 0
    await pipeline.score(*made)
    await pipeline.commit("score", BACKFILL)
    assert (await run(pipeline)).missing == 0


async def test_a_rate_is_kept(pipeline: StagedPipeline) -> None:
    pipeline.store = ListedStore([listed(number) for number in range(50)])
    before = pipeline.clock.monotonic()
    assert (await run(pipeline, rate=10)).enqueued == 50
    assert pipeline.clock.monotonic() - before == pytest.approx(5.0)


async def test_the_late_notification_of_what_was_enqueued_is_a_repeat_and_the_ledger_says_one(
    pipeline: StagedPipeline,
) -> None:
    pipeline.store = ListedStore([listed(1)])
    await run(pipeline)
    (task,) = await backfill(pipeline)
    await pipeline.notify(notification(1))
    (late,) = (one for one in await pipeline.identify() if isinstance(one, ImageTask))
    assert late.upload_id != task.upload_id
    assert identity.task_key(late) == identity.task_key(task), "both must meet in one partition's table"
    for first, second in (((task, BACKFILL), (late, TASKS)), ((late, TASKS), (task, BACKFILL))):
        one = claims.decide(None, source(*first, 1))
        assert not one.repeat
        assert claims.decide(one.row, source(*second, 2)).repeat
    await pipeline.score(task)
    await pipeline.commit("score", TASKS, BACKFILL)
    await pipeline.commit("identify", UPLOADS)
    ledger = await pipeline.ledger(Scope("images", "in/"))
    assert (ledger.uploads, ledger.outcomes, ledger.lost, ledger.duplicated) == (1, 1, 0, 0)


async def test_deleted_and_uploaded_again_with_the_same_bytes_is_a_new_upload_for_both(
    pipeline: StagedPipeline,
) -> None:
    # The first upload was told of and scored; it was deleted, and the second one's notification was lost.
    await pipeline.notify(notification(1, "2026-11-23T08:00:00.000Z"))
    (first,) = (one for one in await pipeline.identify() if isinstance(one, ImageTask))
    await pipeline.score(first)
    await pipeline.commit("score", TASKS)
    pipeline.store = ListedStore([listed(1)])
    assert (await run(pipeline)).enqueued == 1
    (again,) = await backfill(pipeline)
    one = claims.decide(None, source(first, TASKS, 1))
    two = claims.decide(one.row, source(again, BACKFILL, 1))
    assert not two.repeat
    # Uploaded a third time after the listing, and told of: its own outcome as well.
    await pipeline.notify(notification(1, "2026-11-23T10:33:30.000Z").replace(b"000001", b"000002"))
    later = [one for one in await pipeline.identify() if isinstance(one, ImageTask)][-1]
    assert later.event_time_ms > NOW_MS
    assert not claims.decide(two.row, source(later, TASKS, 2)).repeat
