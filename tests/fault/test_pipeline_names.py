"""Tasks with names that no request may carry, as an older identify published them, before a real score worker."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.dead_letters.dead_letters import LetterFilter, find_letters
from app.demo.photographs import packaged_photographs
from app.demo.pictures import made_pictures
from app.domain import identity
from app.stack.local import LocalStack
from app.systems.kafka.producer import KafkaProducer
from app.systems.kafka.topic_log import KafkaTopicLog
from app.systems.s3.admin import create_bucket
from app.systems.s3.put import Uploader
from app.topics import TASKS
from tests.support.eventually import eventually
from tests.support.outcomes import prediction, task_of
from tests.support.stack import TestNames
from tests.support.whole_pipeline import WholePipeline, nsfw_settings, whole_pipeline

PATIENCE_SECONDS = 180
pytestmark = pytest.mark.timeout(600)

# Each of them ended the process: the HTTP client raises ValueError, or the request would go somewhere else.
BAD_NAMES: dict[str, dict[str, Any]] = {
    "bad_etag": {"etag": "e1\nx-evil: 1"},
    "bad_version_id": {"version_id": "v\r\n1"},
    "bad_bucket": {"bucket": "evil.example/x?"},
}


async def test_a_task_whose_etag_the_http_client_refuses_is_a_dead_letter_and_the_next_is_scored(
    stack: LocalStack, topics: str, names: TestNames, tmp_path: Path
) -> None:
    """Guarantee: an ETag with a line feed, or another name against the rules, costs its own task and no process."""
    picture = next(
        one for one in made_pictures(20, seed=9, prefix="", photographs=packaged_photographs()) if one.scored
    )
    await create_bucket(stack.s3, names.bucket)
    async with whole_pipeline(stack, names, tmp_path, settings=nsfw_settings(tmp_path)) as pipeline:
        async with Uploader(pipeline.settings.s3) as uploader:
            etag = await uploader.put(names.bucket, "good.jpg", picture.body)
        outcome = prediction(bucket=names.bucket, key="good.jpg", etag=etag, size_bytes=len(picture.body))
        good = task_of(replace(outcome, upload_id="f" * 32), attempt=1)
        bad = [replace(good, upload_id=f"{number:032x}", **change) for number, change in enumerate(BAD_NAMES.values())]
        producer = KafkaProducer(pipeline.settings.kafka)
        try:
            # One partition: the good one waits behind the others.
            key = identity.task_key(good)
            await producer.send_batch([(TASKS, key, pipeline.codec.encode(task)) for task in (*bad, good)])
        finally:
            await producer.close()
        pipeline.start("score-0", "worker", "score")

        await eventually(partial(pipeline.published, 1), PATIENCE_SECONDS, every_seconds=0.3)
        (scored,) = await pipeline.predictions()
        assert (scored.outcome, scored.upload_id) == ("scored", good.upload_id)
        assert await _letters(pipeline) == {
            (reason, task.upload_id, pipeline.codec.encode(task)) for reason, task in zip(BAD_NAMES, bad, strict=True)
        }
        assert not pipeline.ended(), pipeline.logs()


async def _letters(pipeline: WholePipeline) -> set[tuple[str, str | None, bytes | None]]:
    """Return reason, upload and bytes of every open dead letter."""
    scanner = KafkaTopicLog(pipeline.settings.kafka)
    async with aclosing(find_letters(scanner, pipeline.codec, LetterFilter())) as letters:
        return {(found.letter.reason, found.letter.upload_id, found.letter.value) async for found in letters}
