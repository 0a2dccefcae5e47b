"""Reconcile against late notifications, on real workers: one upload has one outcome, whichever of the two is first."""

from __future__ import annotations

import json
import signal
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from app.demo.photographs import packaged_photographs
from app.demo.pictures import Picture, made_pictures
from app.stack.local import LocalStack
from tests.support.eventually import eventually
from tests.support.stack import TestNames
from tests.support.whole_pipeline import NSFW_ONLY, WholePipeline, whole_pipeline

EACH = 12
pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]


async def test_a_late_notification_of_what_reconcile_enqueued_is_a_repeat_in_either_order(
    stack: LocalStack, topics: str, names: TestNames, tmp_path: Path
) -> None:
    made = [
        picture
        for picture in made_pictures(EACH * 4, seed=23, prefix="shop/", photographs=packaged_photographs())
        if picture.repeats is None
    ]
    first, second = made[:EACH], made[EACH : 2 * EACH]
    async with whole_pipeline(stack, names, tmp_path, settings=NSFW_ONLY) as pipeline:
        # Both tasks of each upload wait for score, which begins with the live ones: reconcile's are the repeats.
        await pipeline.upload(first)
        await _enqueue(pipeline, first)
        bridge = pipeline.start("bridge", "bridge", "sqs")
        pipeline.start_workers(("identify", "score"))
        await _settled(pipeline, EACH)

        # The bridge is away; reconcile's tasks are scored before the notifications come.
        await bridge.end(signal.SIGTERM)
        await pipeline.upload(second)
        await _enqueue(pipeline, second)
        await eventually(partial(_published, pipeline, 2 * EACH), 180, every_seconds=1)
        pipeline.start("bridge-again", "bridge", "sqs")
        await _settled(pipeline, 2 * EACH)

        # The same bytes under the same key, after a deletion: a new upload, with an outcome of its own.
        again = second[0]
        await pipeline.delete(again.key)
        await pipeline.upload([again])
        await eventually(partial(_published, pipeline, 2 * EACH + 1), 120, every_seconds=1)
        await _settled(pipeline, 2 * EACH + 1)
        outcomes = Counter(outcome.key for outcome in await pipeline.predictions())
        assert outcomes == Counter(picture.key for picture in [*first, *second, again])


async def _enqueue(pipeline: WholePipeline, pictures: list[Picture]) -> None:
    """Let reconcile find all of `pictures`; the youngest object that it takes is a minute old."""
    place = f"s3://{pipeline.bucket}/shop/"

    async def all_missing() -> bool:
        code, output = await pipeline.verb("reconcile", place, "--older-than", "1m", "--json")
        assert code == 0, output
        return int(json.loads(output.splitlines()[-1])["missing"]) == len(pictures)

    await eventually(all_missing, 180, every_seconds=5)
    code, output = await pipeline.verb("reconcile", place, "--older-than", "1m", "--yes", "--json")
    assert code == 0, output
    assert json.loads(output.splitlines()[-1])["enqueued"] == len(pictures)
    code, output = await pipeline.verb("reconcile", place, "--older-than", "1m", "--json")
    assert json.loads(output.splitlines()[-1])["missing"] == 0, "what is in flight is not missing"


async def _published(pipeline: WholePipeline, count: int) -> bool:
    return len(await pipeline.predictions()) >= count


async def _settled(pipeline: WholePipeline, uploads: int) -> None:
    audit = await pipeline.audit(240)
    assert audit.clean(uploads), f"{audit}\n{pipeline.logs()}"
