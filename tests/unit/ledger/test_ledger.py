"""The ledger on topics in memory: it balances when it should, and says so when it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.dead_letters.dead_letters import TRANSACTIONAL_ID, Redriver
from app.domain import identity
from app.ledger.audit import as_json, lines
from app.ledger.ledger import Scope
from app.pipeline.dead_letters import dead_letter
from app.ports.objects import ListedObject
from app.ports.records import Output, SourceRecord
from app.streaming.suspects import CRASHED_WORKER
from app.topics import BACKFILL, CONTROL, RETRIES_30S, TASKS, UPLOADS
from schemas.records import ControlRecord, DeadLetter, ImageTask
from tests.support.event_messages import TIME_MS, message, record
from tests.support.ingest import NOW_MS, ListedStore, StagedPipeline, identified, sums, upload


@pytest.fixture
def pipeline() -> StagedPipeline:
    return StagedPipeline()


async def test_nothing_at_all_balances(pipeline: StagedPipeline) -> None:
    ledger = await pipeline.ledger()
    assert sums(ledger) == (0, 0, 0, 0, 0, 0)
    assert ledger.balanced
    assert ledger.settled


async def test_repeats_tests_removals_and_filtered_uploads_are_no_uploads(pipeline: StagedPipeline) -> None:
    first, _ = await identified(
        pipeline,
        upload(1),
        upload(1),
        message(record(eventName="ObjectRemoved:Delete")),
        message(record(object={"key": "lake/x.parquet"})),
        b'{"Event":"s3:TestEvent","Bucket":"images"}',
    )
    await pipeline.score(first)
    await pipeline.commit("score", TASKS)
    assert sums(await pipeline.ledger()) == (1, 1, 0, 0, 0, 0)


async def test_what_is_before_an_agent_is_in_flight_and_what_is_behind_it_is_lost(pipeline: StagedPipeline) -> None:
    reader = pipeline.reader()
    await pipeline.notify(upload(1), upload(2), upload(3))
    assert sums(await reader.read()) == (3, 0, 0, 0, 0, 3)
    tasks = await identified(pipeline)
    assert sums(await reader.read()) == (3, 0, 0, 0, 0, 3)
    # Score publishes one, defers one, and drops one: three different fates behind one committed offset.
    await pipeline.score(tasks[0])
    deferred = replace(tasks[1], attempt=2, not_before_ms=NOW_MS + 30_000)
    await pipeline.publish(Output(RETRIES_30S, identity.task_key(deferred), deferred))
    await pipeline.commit("score", TASKS)
    ledger = await reader.read()
    assert sums(ledger) == (3, 1, 0, 1, 0, 1)
    assert [(example.what, example.key) for example in ledger.examples] == [("lost", "in/003.jpg")]
    assert not ledger.balanced
    # Retry moves it on: from here on it is before score again.
    await pipeline.publish(Output(TASKS, identity.task_key(deferred), deferred))
    await pipeline.commit("retry", RETRIES_30S)
    assert sums(await reader.read()) == (3, 1, 0, 1, 0, 1)
    await pipeline.score(deferred)
    await pipeline.commit("score", TASKS)
    assert sums(await reader.read()) == (3, 2, 0, 1, 0, 0)
    assert sums(await pipeline.ledger()) == (3, 2, 0, 1, 0, 0)


async def test_two_outcomes_of_one_upload_are_a_duplicate_with_both_places(pipeline: StagedPipeline) -> None:
    tasks = await identified(pipeline, upload(1), upload(2))
    await pipeline.score(*tasks)
    await pipeline.score(tasks[0])
    await pipeline.commit("score", TASKS)
    ledger = await pipeline.ledger()
    assert sums(ledger) == (2, 2, 0, 0, 1, 0)
    assert len([example for example in ledger.examples if example.what == "duplicated"]) == 2
    assert lines(ledger)[-1] == "uploads=2 outcomes=2 open_dead_letters=0 lost=0 duplicated=1"
    assert as_json(ledger)["balanced"] is False


async def test_a_malformed_record_is_an_upload_with_an_open_letter_until_it_is_redriven(
    pipeline: StagedPipeline,
) -> None:
    await pipeline.notify(b"rubbish", message({"odd": 1}, record()))
    assert sums(await pipeline.ledger()) == (3, 0, 0, 0, 0, 3)
    made = await pipeline.identify()
    await pipeline.score(*(one for one in made if isinstance(one, ImageTask)))
    await pipeline.commit("score", TASKS)
    assert sums(await pipeline.ledger()) == (3, 1, 2, 0, 0, 0)
    letter = next(one for one in made if not isinstance(one, ImageTask))
    name = getattr(letter, "letter_id", "")
    mark = ControlRecord("redriven", name, "{}", NOW_MS, "test")
    await pipeline.publish(Output(CONTROL, f"redriven/{name}".encode(), mark))
    assert sums(await pipeline.ledger()) == (2, 1, 1, 0, 0, 0)


async def test_a_dead_letter_of_score_accounts_for_its_upload_however_little_it_says(pipeline: StagedPipeline) -> None:
    first, second = await identified(pipeline, upload(1), upload(2))
    for offset, (task, upload_id) in enumerate(((first, first.upload_id), (second, None))):
        source = SourceRecord(TASKS, 0, offset, NOW_MS, None, pipeline.codec.encode(task))
        letter = dead_letter(
            source, agent="score", kind="poison", reason="x", detail="", now_ms=NOW_MS, upload_id=upload_id
        )
        await pipeline.publish(letter)
    rubbish = SourceRecord(TASKS, 0, 7, NOW_MS, None, b"rubbish")
    await pipeline.publish(
        dead_letter(rubbish, agent="score", kind="poison", reason="not_avro", detail="", now_ms=NOW_MS)
    )
    await pipeline.commit("score", TASKS)
    ledger = await pipeline.ledger()
    assert sums(ledger) == (2, 0, 2, 0, 0, 0)
    assert ledger.other_dead_letters == 1
    assert sums(await pipeline.ledger(Scope("images", "in/"))) == (2, 0, 2, 0, 0, 0)


async def test_jobs_are_counted_apart(pipeline: StagedPipeline) -> None:
    (task,) = await identified(pipeline, upload(1))
    again = [
        replace(task, upload_id=identity.rescore_upload_id(task.upload_id, job), job_id=job, lane="backfill")
        for job in ("one", "two", "three")
    ]
    await pipeline.publish(*(Output(BACKFILL, identity.task_key(one), one) for one in again))
    await pipeline.score(task, *again[:2])
    await pipeline.commit("score", TASKS, BACKFILL)
    ledger = await pipeline.ledger()
    assert sums(ledger) == (1, 1, 0, 0, 0, 0)
    assert (ledger.job_tasks, ledger.job_outcomes, ledger.job_lost) == (3, 2, 1)
    assert not ledger.balanced


def listed_task(task: ImageTask, modified_ms: int) -> ImageTask:
    return replace(
        task,
        upload_id=identity.listed_upload_id(task.bucket, task.key, task.etag, modified_ms),
        dialect="listing",
        sequencer=None,
        order_key="",
        event_time_ms=modified_ms,
        lane="backfill",
        covers_from_ms=modified_ms - 1000,
        covers_until_ms=modified_ms + 60_000,
    )


async def test_a_listed_upload_and_its_late_notification_are_one_upload(pipeline: StagedPipeline) -> None:
    (task,) = await identified(pipeline, upload(1))
    listed = listed_task(task, TIME_MS // 1000 * 1000)
    await pipeline.publish(Output(BACKFILL, identity.task_key(listed), listed))
    # Whichever of the two claimed first published; the other one was the repeat.
    await pipeline.score(listed)
    await pipeline.commit("score", TASKS, BACKFILL)
    assert sums(await pipeline.ledger()) == (1, 1, 0, 0, 0, 0)
    await pipeline.score(task)
    assert sums(await pipeline.ledger()) == (1, 1, 0, 0, 1, 0)


async def test_uploaded_again_after_the_listing_is_another_upload(pipeline: StagedPipeline) -> None:
    (task,) = await identified(pipeline, upload(1))
    listed = listed_task(task, TIME_MS - 3_600_000)
    await pipeline.publish(Output(BACKFILL, identity.task_key(listed), listed))
    await pipeline.score(task)
    await pipeline.commit("score", TASKS, BACKFILL)
    assert sums(await pipeline.ledger()) == (2, 1, 0, 1, 0, 0)


async def test_with_a_bucket_what_was_never_notified_is_lost_unless_it_is_young(pipeline: StagedPipeline) -> None:
    old, young = NOW_MS - 3_600_000, NOW_MS - 5_000
    pipeline.store = ListedStore(
        [
            ListedObject("images", "in/001.jpg", f"{1:032x}", 10, TIME_MS // 1000 * 1000),
            ListedObject("images", "in/002.jpg", f"{2:032x}", 10, old),
            ListedObject("images", "in/003.jpg", f"{3:032x}", 10, young),
            ListedObject("images", "lake/004.parquet", f"{4:032x}", 10, old),
            # Deleted and uploaded again with the same bytes; the second notification was lost.
            ListedObject("images", "in/005.jpg", f"{5:032x}", 10, TIME_MS + 60_000),
            ListedObject("others", "in/006.jpg", f"{6:032x}", 10, old),
        ]
    )
    tasks = await identified(pipeline, upload(1), upload(5), message(record(s3={"bucket": {"name": "others"}})))
    await pipeline.score(*tasks)
    await pipeline.commit("score", TASKS)
    assert sums(await pipeline.ledger()) == (3, 3, 0, 0, 0, 0)
    ledger = await pipeline.ledger(Scope("images", "in/"))
    assert sums(ledger) == (5, 2, 0, 2, 0, 1)
    assert [example.key for example in ledger.examples] == ["in/002.jpg", "in/005.jpg"]


async def test_an_upload_repeated_after_the_time_looked_at_keeps_its_earlier_outcome(pipeline: StagedPipeline) -> None:
    (task,) = await identified(pipeline, upload(1))
    await pipeline.score(task)
    await pipeline.commit("score", TASKS)
    since_ms = max(one.timestamp_ms for one in await pipeline.records("image.predictions.v1")) + 1
    await pipeline.clock.sleep(1)
    await identified(pipeline, upload(1))
    await pipeline.commit("score", TASKS)
    assert sums(await pipeline.ledger(Scope(since_ms=since_ms))) == (1, 1, 0, 0, 0, 0)


async def test_a_message_that_crashed_identify_is_an_open_letter_of_each_upload_in_it_until_it_is_redriven(
    pipeline: StagedPipeline,
) -> None:
    both = message(record(object={"key": "in/1.jpg"}), record(object={"key": "in/2.jpg"}))
    await pipeline.notify(both)
    (source,) = await pipeline.records(UPLOADS)
    letter = dead_letter(source, agent="identify", kind=CRASHED_WORKER, reason=CRASHED_WORKER, detail="", now_ms=NOW_MS)
    await pipeline.publish(letter)
    await pipeline.commit("identify", UPLOADS)
    assert sums(await pipeline.ledger()) == (2, 0, 2, 0, 0, 0)
    assert isinstance(letter.record, DeadLetter)
    async with pipeline.transactions(TRANSACTIONAL_ID) as producer:
        redriver = Redriver(producer, pipeline.log, pipeline.codec, pipeline.clock, "operator@test")
        (done,) = await redriver.redrive([letter.record], again=False)
    assert (done.topic, done.refused) == (UPLOADS, "")
    assert [found.value for found in await pipeline.records(UPLOADS)] == [both, both]
    made = await pipeline.identify()
    await pipeline.score(*(one for one in made if isinstance(one, ImageTask)))
    await pipeline.commit("score", TASKS)
    ledger = await pipeline.ledger()
    assert (ledger.open_dead_letters, ledger.lost, ledger.in_flight) == (0, 0, 0)


async def test_a_task_that_crashed_the_index_is_no_letter_of_its_upload_and_goes_to_score_no_second_time(
    pipeline: StagedPipeline,
) -> None:
    (task,) = await identified(pipeline, upload(1))
    await pipeline.score(task)
    await pipeline.commit("score", TASKS)
    (source,) = await pipeline.records(TASKS)
    letter = dead_letter(source, agent="index", kind=CRASHED_WORKER, reason=CRASHED_WORKER, detail="", now_ms=NOW_MS)
    await pipeline.publish(letter)
    ledger = await pipeline.ledger()
    assert sums(ledger) == (1, 1, 0, 0, 0, 0)
    assert ledger.other_dead_letters == 1
    assert isinstance(letter.record, DeadLetter)
    async with pipeline.transactions(TRANSACTIONAL_ID) as producer:
        redriver = Redriver(producer, pipeline.log, pipeline.codec, pipeline.clock, "operator@test")
        (refused,) = await redriver.redrive([letter.record], again=False)
    assert "other readers" in refused.refused
