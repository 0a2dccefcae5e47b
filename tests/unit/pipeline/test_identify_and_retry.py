"""Identify, retry, filters and the retry schedule."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from app.domain import identity, retries
from app.domain.events import Created, parse_message
from app.domain.filters import UploadFilter
from app.pipeline.dead_letters import MAX_VALUE_BYTES
from app.pipeline.identify import IdentifyProcessor, task_of
from app.pipeline.retry import RetryProcessor
from app.ports.records import SourceRecord
from app.settings import LakeSettings, S3Settings, Settings
from app.systems.prometheus import PrometheusMeters
from app.systems.registry.avro import Codec
from app.topics import BACKFILL, DEAD_LETTERS, REMOVED, RETRIES_1H, RETRIES_5M, RETRIES_30S, TASKS
from schemas.records import DeadLetter, ImageRemoved, ImageTask, Position
from tests.support.event_messages import ETAG, message, record, versitygw
from tests.support.manual_clock import LaneStatusLog, ManualClock

CODEC = Codec()
NOW_MS = 1_795_425_400_000


def source(
    value: bytes | None, *, topic: str = "s3.uploads", key: bytes | None = None, at: int = NOW_MS
) -> SourceRecord:
    return SourceRecord(topic, 3, 41, at, key, value)


def task(**changes: Any) -> ImageTask:
    (parsed,) = parse_message(message(record()))
    assert isinstance(parsed.event, Created)
    return replace(task_of(parsed.event, Position("s3.uploads", 0, 1), NOW_MS), **changes)


def identify(**settings: Any) -> IdentifyProcessor:
    return IdentifyProcessor(UploadFilter.of(Settings(s3=S3Settings(**settings))), ManualClock(NOW_MS))


async def test_an_upload_becomes_a_task_under_its_content_hint() -> None:
    completion = await identify().process(source(message(record(object={"eTag": f'"{ETAG.upper()}"'}))))
    (output,) = completion.outputs
    assert (output.topic, output.key, completion.dead_letters) == (TASKS, ETAG.encode(), 0)
    assert isinstance(output.record, ImageTask)
    made = output.record
    assert (made.attempt, made.lane, made.source, made.identified_at_ms) == (
        1,
        "live",
        Position("s3.uploads", 3, 41),
        NOW_MS,
    )
    assert completion.claim is None


async def test_a_removal_goes_under_bucket_and_key() -> None:
    completion = await identify().process(source(message(record(eventName="ObjectRemoved:Delete"))))
    (output,) = completion.outputs
    assert (output.topic, output.key) == (REMOVED, b"images/a/photo.jpg")


async def test_a_removal_goes_under_both_readings_of_its_key_and_says_which_is_the_other() -> None:
    value = message(versitygw(eventName="s3:ObjectRemoved:Delete", object={"key": "a+b.jpg"}))
    processor = identify()
    completion = await processor.process(source(value))
    first, other = (output.record for output in completion.outputs)
    assert isinstance(first, ImageRemoved) and isinstance(other, ImageRemoved)
    assert (first.key, first.event_key, other.key, other.event_key) == ("a+b.jpg", None, "a b.jpg", "a+b.jpg")
    assert [output.key for output in completion.outputs] == [b"images/a+b.jpg", b"images/a b.jpg"]
    assert (first.order_key, first.version_id) == (other.order_key, other.version_id)
    assert first.removal_id != other.removal_id
    assert processor.counts == {"removed": 1}


async def test_what_says_nothing_is_an_empty_completion_and_counted() -> None:
    meters = PrometheusMeters()
    excluded = Settings(s3=S3Settings(excluded_prefixes=("lake/",)))
    processor = IdentifyProcessor(UploadFilter.of(excluded), ManualClock(NOW_MS), meters)
    for value in (
        None,
        b'{"Records":[]}',
        b'{"Event":"s3:TestEvent","Bucket":"b"}',
        message(record(eventName="ObjectTagging:Put")),
        message(record(object={"key": "lake/part-0.parquet"})),
        message(record(object={"key": "lake/part-0.parquet"}, eventName="ObjectRemoved:Delete")),
    ):
        completion = await processor.process(source(value))
        assert (completion.outputs, completion.dead_letters) == ((), 0)
    assert processor.counts == {"tombstone": 1, "test": 1, "ignored": 1, "filtered": 2}
    assert b'sightline_events_total{kind="filtered"} 2.0' in meters.text()


async def test_a_bad_record_is_a_letter_with_its_bytes_between_the_tasks_of_its_neighbours() -> None:
    value = message(record(), {"odd": 1}, record(object={"key": "b.jpg"}))
    completion = await identify().process(source(value, key=b"kafka key"))
    assert [output.topic for output in completion.outputs] == [TASKS, DEAD_LETTERS, TASKS]
    letter = completion.outputs[1].record
    assert isinstance(letter, DeadLetter)
    assert completion.dead_letters == 1
    assert (letter.part, letter.value, letter.value_bytes, letter.key) == (1, b'{"odd": 1}', 10, b"kafka key")
    assert (letter.agent, letter.kind, letter.reason) == ("identify", "poison", "not_an_s3_event")
    assert completion.outputs[1].key == b"s3.uploads/3/41"


async def test_two_bad_records_of_one_message_are_two_letters() -> None:
    completion = await identify().process(source(message(1, 2)))
    ids = {output.record.letter_id for output in completion.outputs if isinstance(output.record, DeadLetter)}
    assert len(ids) == completion.dead_letters == 2


async def test_a_message_beyond_the_limits_is_a_letter_that_fits_a_broker() -> None:
    value = b" " * 3_000_000
    completion = await identify().process(source(value, key=b"k" * 100_000))
    letter = completion.outputs[0].record
    assert isinstance(letter, DeadLetter)
    assert (letter.reason, letter.value_bytes, letter.value) == (
        "message_too_large",
        3_000_000,
        value[:MAX_VALUE_BYTES],
    )
    assert len(CODEC.encode(letter)) < 1_000_000


async def test_the_largest_task_stays_under_16_kb() -> None:
    largest = record(
        s3={"bucket": {"name": "b" * 255}},
        object={"key": "%41" * 1024, "versionId": "v" * 1024, "eTag": "e" * 128, "sequencer": "A" * 128},
        eventSource="aws:s3",
    )
    completion = await identify().process(source(message(largest)))
    (output,) = completion.outputs
    assert output.topic == TASKS
    assert len(CODEC.encode(output.record)) < 16 * 1024


@pytest.mark.parametrize(
    ("settings", "key", "admitted"),
    [
        ({}, "a.jpg", True),
        ({}, "lake/warehouse/a.jpg", True),
        ({"excluded_prefixes": ("lake/", "archive/")}, "lake/a.jpg", False),
        ({"excluded_prefixes": ("lake/", "archive/")}, "archive/a.jpg", False),
        ({"excluded_prefixes": ("lake/", "archive/")}, "my/lake/a.jpg", True),
        ({"buckets": ("images",)}, "a.jpg", True),
        ({"buckets": ("others",)}, "a.jpg", False),
        ({"prefixes": ("in/", "up/")}, "up/a.jpg", True),
        ({"prefixes": ("in/", "up/")}, "a.jpg", False),
        ({"suffixes": (".JPG", ".png")}, "a.jpg", True),
        ({"suffixes": (".jpg",)}, "a.JPG", True),
        ({"suffixes": (".jpg",)}, "a.gif", False),
        ({"prefixes": ("lake/",), "excluded_prefixes": ("lake/",)}, "lake/a.jpg", False),
    ],
)
def test_filters(settings: dict[str, Any], key: str, admitted: bool) -> None:
    assert UploadFilter.of(Settings(s3=S3Settings(**settings))).admits("images", key) is admitted


def test_what_the_lake_writes_is_never_an_upload() -> None:
    lake = LakeSettings(warehouse="s3://shared/lake/tables/", archive="s3://old/archive")
    uploads = UploadFilter.of(Settings(lake=lake))
    assert not uploads.admits("shared", "lake/tables/sightline/predictions/data/1.parquet")
    assert not uploads.admits("old", "archive/image.predictions.v1/0/00.parquet")
    assert uploads.admits("shared", "lake/tables.jpg")
    assert uploads.admits("other", "lake/tables/a.jpg")


def test_the_schedule_climbs_and_ends() -> None:
    current = task()
    topics = []
    while isinstance(step := retries.defer(current, reason="slow", now_ms=NOW_MS, retries=3), retries.Deferral):
        topics.append((step.topic, step.task.not_before_ms - NOW_MS))
        current = step.task
    assert topics == [(RETRIES_30S, 30_000), (RETRIES_5M, 300_000), (RETRIES_1H, 3_600_000)]
    assert step == retries.UsedUp(4)
    assert current.upload_id == task().upload_id
    assert current.defer_reason == "slow"


def test_more_retries_than_topics_stay_in_the_slowest_one() -> None:
    step = retries.defer(task(attempt=9), reason="x", now_ms=NOW_MS, retries=20)
    assert isinstance(step, retries.Deferral)
    assert (step.topic, step.task.attempt) == (RETRIES_1H, 10)


def test_no_retries_at_all() -> None:
    assert retries.defer(task(), reason="x", now_ms=NOW_MS, retries=0) == retries.UsedUp(1)


@pytest.mark.parametrize(("lane", "topic"), [("live", TASKS), ("backfill", BACKFILL)])
async def test_a_task_waits_until_it_is_due_and_goes_to_its_lane_unchanged(lane: str, topic: str) -> None:
    deferred = task(lane=lane, attempt=2, not_before_ms=NOW_MS + 30_000)
    clock, status = ManualClock(NOW_MS), LaneStatusLog()
    processor = RetryProcessor(CODEC, clock, status)
    completion = await processor.process(source(CODEC.encode(deferred), topic=RETRIES_30S))
    assert clock.now_ms() == NOW_MS + 30_000
    assert status.said == ["waiting:not-due", "working"]
    (output,) = completion.outputs
    assert (output.topic, output.key, output.record) == (topic, identity.task_key(deferred), deferred)


async def test_a_due_task_goes_at_once() -> None:
    clock, status = ManualClock(NOW_MS), LaneStatusLog()
    value = CODEC.encode(task(attempt=2, not_before_ms=NOW_MS))
    await RetryProcessor(CODEC, clock, status).process(source(value, topic=RETRIES_30S))
    assert (clock.sleeps, status.said) == ([], [])


async def test_a_task_that_says_never_is_due_after_the_longest_delay() -> None:
    clock = ManualClock(NOW_MS)
    value = CODEC.encode(task(attempt=2, not_before_ms=2**60))
    await RetryProcessor(CODEC, clock, LaneStatusLog()).process(source(value, topic=RETRIES_1H))
    assert clock.now_ms() == NOW_MS + retries.LONGEST_DELAY_MS
    assert max(clock.sleeps) <= 30


async def test_while_others_wait_one_that_became_due_does_not_say_that_the_lane_works() -> None:
    clock, status = ManualClock(NOW_MS), LaneStatusLog()
    processor = RetryProcessor(CODEC, clock, status)
    values = [CODEC.encode(task(attempt=2, not_before_ms=NOW_MS + delay)) for delay in (1_000, 90_000)]
    await asyncio.gather(*(processor.process(source(value, topic=RETRIES_30S)) for value in values))
    assert status.said == ["waiting:not-due"] * 3 + ["working"]


async def test_no_task_on_a_retry_topic_is_a_letter() -> None:
    processor = RetryProcessor(CODEC, ManualClock(NOW_MS), LaneStatusLog())
    completion = await processor.process(source(b"what is this", topic=RETRIES_5M))
    letter = completion.outputs[0].record
    assert isinstance(letter, DeadLetter)
    assert (letter.agent, letter.reason, letter.value, completion.dead_letters) == (
        "retry",
        "not_avro",
        b"what is this",
        1,
    )
