"""Dead letters on topics in memory: found by filter, sent round again once, with their bytes."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace

import pytest

from app.dead_letters.dead_letters import TRANSACTIONAL_ID, FoundLetter, LetterFilter, Redrive, Redriver, find_letters
from app.pipeline.dead_letters import MAX_VALUE_BYTES, USED_UP, dead_letter
from app.ports.records import SourceRecord
from app.topics import PREDICTIONS, TASKS, UPLOADS
from schemas.records import DeadLetter, ImageTask
from tests.support.event_messages import message, record
from tests.support.ingest import NOW_MS, StagedPipeline


@pytest.fixture
def pipeline() -> StagedPipeline:
    return StagedPipeline()


async def find(pipeline: StagedPipeline, wanted: LetterFilter | None = None) -> list[FoundLetter]:
    async with aclosing(find_letters(pipeline.log, pipeline.codec, wanted or LetterFilter())) as letters:
        return [letter async for letter in letters]


async def redrive(pipeline: StagedPipeline, *letters: DeadLetter, again: bool = False) -> list[Redrive]:
    async with pipeline.transactions(TRANSACTIONAL_ID) as producer:
        redriver = Redriver(producer, pipeline.log, pipeline.codec, pipeline.clock, "operator@test")
        return await redriver.redrive(letters, again=again)


async def values(pipeline: StagedPipeline, topic: str) -> list[bytes | None]:
    return [found.value for found in await pipeline.records(topic)]


async def test_a_malformed_message_goes_round_with_its_bytes_and_is_closed(pipeline: StagedPipeline) -> None:
    await pipeline.notify(b"rubbish")
    (letter,) = await pipeline.identify()
    (found,) = await find(pipeline)
    assert isinstance(letter, DeadLetter)
    assert found.letter == letter
    assert found.open
    assert [one.topic for one in await redrive(pipeline, letter)] == [UPLOADS]
    assert await values(pipeline, UPLOADS) == [b"rubbish"] * 2
    assert await find(pipeline) == []
    (closed,) = await find(pipeline, LetterFilter(open_only=False))
    assert (closed.redriven_times, closed.redriven_at_ms) == (1, NOW_MS)
    # Still rubbish: a letter of its own, from its own position.
    await pipeline.identify()
    (anew,) = await find(pipeline)
    assert anew.letter.letter_id != letter.letter_id


async def test_only_the_bad_record_of_a_message_goes_round(pipeline: StagedPipeline) -> None:
    await pipeline.notify(message(record(), {"odd": 1}))
    letters = [one for one in await pipeline.identify() if isinstance(one, DeadLetter)]
    await redrive(pipeline, *letters)
    assert b'{"Records":[{"odd": 1}]}' in await values(pipeline, UPLOADS)


async def test_redriving_twice_is_refused_unless_asked_for(pipeline: StagedPipeline) -> None:
    await pipeline.notify(b"rubbish")
    (letter,) = await pipeline.identify()
    assert isinstance(letter, DeadLetter)
    await redrive(pipeline, letter)
    (refused,) = await redrive(pipeline, letter)
    assert "--again" in refused.refused
    assert len(await values(pipeline, UPLOADS)) == 2
    (sent,) = await redrive(pipeline, letter, again=True)
    assert sent.refused == ""
    assert len(await values(pipeline, UPLOADS)) == 3
    (closed,) = await find(pipeline, LetterFilter(open_only=False))
    assert closed.redriven_times == 2


async def test_the_same_letter_twice_in_one_call_is_sent_once(pipeline: StagedPipeline) -> None:
    await pipeline.notify(b"rubbish")
    (letter,) = await pipeline.identify()
    assert isinstance(letter, DeadLetter)
    first, second = await redrive(pipeline, letter, letter)
    assert (first.refused, bool(second.refused)) == ("", True)
    assert len(await values(pipeline, UPLOADS)) == 2


async def test_a_used_up_task_goes_round_with_a_higher_attempt_each_time(pipeline: StagedPipeline) -> None:
    await pipeline.notify(message(record()))
    (task,) = await pipeline.identify()
    assert isinstance(task, ImageTask)
    last = replace(task, attempt=4, not_before_ms=NOW_MS)
    source = SourceRecord(TASKS, 1, 9, NOW_MS, b"key", pipeline.codec.encode(last))
    output = dead_letter(
        source,
        agent="score",
        kind=USED_UP,
        reason="slow",
        detail="",
        now_ms=NOW_MS,
        attempts=4,
        upload_id=task.upload_id,
        bucket=task.bucket,
        object_key=task.key,
    )
    await pipeline.publish(output)
    assert isinstance(output.record, DeadLetter)
    await redrive(pipeline, output.record)
    await redrive(pipeline, output.record, again=True)
    attempts = [one.attempt for one in await pipeline.decoded(TASKS) if isinstance(one, ImageTask)]
    assert sorted(attempts) == [1, 5, 6]
    assert {record.key for record in await pipeline.records(TASKS)} == {(task.etag or "").encode()}


async def test_filters(pipeline: StagedPipeline) -> None:
    await pipeline.notify(b"rubbish", message({"odd": 1}), message(record(object={"key": None})))
    await pipeline.identify()
    by_reason = {found.letter.reason for found in await find(pipeline)}
    assert by_reason == {"not_json", "not_an_s3_event", "no_key"}
    assert len(await find(pipeline, LetterFilter(reason="no_key"))) == 1
    assert len(await find(pipeline, LetterFilter(bucket="images"))) == 1
    assert len(await find(pipeline, LetterFilter(agent="score"))) == 0
    assert len(await find(pipeline, LetterFilter(kind="poison"))) == 3
    assert len(await find(pipeline, LetterFilter(since_ms=NOW_MS + 1))) == 0


async def test_a_cut_letter_is_redriven_from_its_source(pipeline: StagedPipeline) -> None:
    value = b"x" * (MAX_VALUE_BYTES + 1)
    await pipeline.notify(value)
    (letter,) = await pipeline.identify()
    assert isinstance(letter, DeadLetter)
    assert (len(letter.value or b""), letter.value_bytes) == (MAX_VALUE_BYTES, MAX_VALUE_BYTES + 1)
    (done,) = await redrive(pipeline, letter)
    assert done.refused == ""
    assert await values(pipeline, UPLOADS) == [value] * 2
    lost = replace(letter, letter_id="0" * 32, source=replace(letter.source, offset=10**6))
    (refused,) = await redrive(pipeline, lost)
    assert "no longer kept" in refused.refused


async def test_a_prediction_that_an_agent_could_not_read_is_not_published_twice(pipeline: StagedPipeline) -> None:
    source = SourceRecord(PREDICTIONS, 0, 1, NOW_MS, b"key", b"unreadable")
    output = dead_letter(source, agent="moderate", kind="poison", reason="not_avro", detail="", now_ms=NOW_MS)
    assert isinstance(output.record, DeadLetter)
    (refused,) = await redrive(pipeline, output.record)
    assert "other readers" in refused.refused
    assert await values(pipeline, PREDICTIONS) == []
