"""Dead letters through real workers: found and shown by the verbs, redriven, and each upload has its one outcome."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.demo.pictures import Picture
from app.stack.local import LocalStack
from app.systems.kafka.producer import KafkaProducer
from app.systems.s3.admin import StoreAccess
from app.topics import DEAD_LETTERS, UPLOADS
from tests.support.eventually import eventually
from tests.support.pictures import encoded, noise
from tests.support.stack import TestNames
from tests.support.whole_pipeline import NSFW_ONLY, WholePipeline, whole_pipeline

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]
IMAGES = 5
# One attempt: the waits between four of them add up to more than an hour.
SETTINGS = {**NSFW_ONLY, "SIGHTLINE_LANE_RETRIES": "0"}


async def test_uploads_without_attempts_left_and_a_poisoned_record_are_redriven_to_one_outcome_each(
    stack: LocalStack, topics: str, names: TestNames, versitygw: StoreAccess, tmp_path: Path
) -> None:
    """Guarantee: uploads = outcomes + open dead letters, before a redrive and after it, repeats of S3 or not."""
    server = stack.options.data_dir / f"versitygw-{names.bucket}"
    bucket, away = server / "data" / names.bucket, server / "away"
    async with whole_pipeline(stack, names, tmp_path, versitygw=versitygw, settings=SETTINGS) as pipeline:
        pipeline.start_workers(("score",))
        sent = await pipeline.upload(
            Picture(f"shop/{number}.jpg", encoded(noise(number), "JPEG"), "noise", True) for number in range(IMAGES)
        )
        # As when a volume is not mounted: the server runs, the bucket is not there.
        bucket.rename(away)
        await _notify(pipeline, b"rubbish")
        pipeline.start_workers(("identify",))
        await eventually(partial(_all_dead, pipeline), 240, every_seconds=0.5, message="dead letters")
        assert await _ledger(pipeline) == {"uploads": IMAGES + 1, "outcomes": 0, "open_dead_letters": IMAGES + 1}

        letters = await _letters(pipeline)
        (rubbish,) = (letter for letter in letters if letter["agent"] == "identify")
        assert (rubbish["kind"], rubbish["reason"]) == ("poison", "not_json")
        dead = {letter["key"]: letter for letter in letters if letter["agent"] == "score"}
        assert dead.keys() == {picture.key for picture in sent}
        for letter in dead.values():
            assert (letter["kind"], letter["reason"]) == ("used_up", "bucket_unavailable")
            assert (letter["attempts"], letter["open"]) == (1, True)
        first = dead[sent[0].key]
        code, output = await pipeline.verb("dead-letters", "show", first["letter_id"], "--json")
        assert code == 0, output
        shown = json.loads(output)["value"]
        assert (shown["record"], shown["key"], shown["attempt"]) == ("ImageTask", sent[0].key, 1)
        assert shown["upload_id"] == first["upload_id"]

        away.rename(bucket)
        # What S3 says again meanwhile is known, and opens no second way.
        told = [record.value for record in await pipeline.committed(UPLOADS)]
        await _notify(pipeline, *(value for value in told if value is not None and b"ObjectCreated" in value))
        code, output = await pipeline.verb("dead-letters", "redrive", "--all")
        assert (code, output.splitlines()[-1]) == (0, f"{IMAGES + 1} redriven, 0 refused")
        # Rubbish stays rubbish: a letter of its own, from where it was sent to.
        assert await _ledger(pipeline) == {"uploads": IMAGES + 1, "outcomes": IMAGES, "open_dead_letters": 1}
        outcomes = await pipeline.predictions()
        assert sorted(one.upload_id for one in outcomes) == sorted(one["upload_id"] for one in dead.values())
        assert {(one.outcome, one.attempt, one.superseded) for one in outcomes} == {("scored", 2, False)}


async def _notify(pipeline: WholePipeline, *messages: bytes) -> None:
    producer = KafkaProducer(pipeline.settings.kafka)
    try:
        await producer.send_batch([(UPLOADS, None, message) for message in messages])
    finally:
        await producer.close()


async def _all_dead(pipeline: WholePipeline) -> bool:
    return len(await pipeline.committed(DEAD_LETTERS)) == IMAGES + 1


async def _ledger(pipeline: WholePipeline) -> dict[str, int]:
    """Return the sums of a clean audit, made when nothing is in flight any more."""
    audit = await pipeline.audit(240, topics_alone=True)
    assert audit.exit_code == 0 and audit.ledger["balanced"], f"{audit}\n{pipeline.logs()}"
    return {name: audit.ledger[name] for name in ("uploads", "outcomes", "open_dead_letters")}


async def _letters(pipeline: WholePipeline) -> list[dict[str, Any]]:
    """Return the open letters as `./sightline dead-letters ls` lists them."""
    code, output = await pipeline.verb("dead-letters", "ls", "--json")
    assert code == 0, output
    return [json.loads(line) for line in output.splitlines()]
