"""Live uploads go before backfill that was queued ahead of them: the order of committed outcomes tells, no clock."""

from __future__ import annotations

import signal
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from app.demo.pictures import Picture
from app.stack.local import LocalStack
from app.systems.s3.admin import create_bucket
from app.topics import BACKFILL, PREDICTIONS, TASKS
from schemas.records import ImagePrediction, ImageTask
from tests.support.eventually import eventually
from tests.support.pictures import encoded, noise
from tests.support.stack import TEST_PARTITIONS, TestNames
from tests.support.streaming.driver import committed_reader
from tests.support.whole_pipeline import NSFW_ONLY, WholePipeline, whole_pipeline

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]
QUEUED = 256
# More than half of them: the worker has them in hand already when the live uploads come, and must let those go before.
IN_HAND = 160
FRESH = 8
# Which of those without an outcome, in each partition: towards the end of what the worker has in hand.
COPIED = slice(32, 36)
SETTINGS = {
    **NSFW_ONLY,
    "SIGHTLINE_ENGINE_BACKFILL_IN_FLIGHT": str(IN_HAND),
    # A batch of one: the order of outcomes is the order of work.
    "SIGHTLINE_ENGINE_MAX_BATCH": "1",
    # The worker is frozen while the live uploads are on their way to it, and nobody may mind: no group, no transaction
    # coordinator and no watchdog.
    "SIGHTLINE_KAFKA_SESSION_TIMEOUT_SECONDS": "55",
    "SIGHTLINE_KAFKA_TRANSACTION_TIMEOUT_SECONDS": "50",
    "SIGHTLINE_LANE_TICK_SECONDS": "600",
}


async def test_live_uploads_go_before_queued_backfill_and_take_their_content_out_of_it(
    stack: LocalStack, topics: str, names: TestNames, tmp_path: Path
) -> None:
    """Guarantee: what comes live is done before most of the backfill queued ahead of it, and no content twice."""
    past = f"{names.bucket}-past"
    await create_bucket(stack.s3, past)
    async with (
        whole_pipeline(stack, names, tmp_path, settings=SETTINGS) as pipeline,
        committed_reader(stack.kafka, topics + PREDICTIONS) as outcomes,
    ):
        pipeline.start("bridge", "bridge", "sqs")
        pipeline.start_workers(("identify", "score"))
        pictures = {picture.key: picture for picture in _pictures("past", range(QUEUED))}
        await pipeline.upload(pictures.values(), bucket=past)
        code, output = await pipeline.verb("rescore", "start", "--bucket", f"s3://{past}", "--no-wait")
        assert code == 0, output
        await outcomes.until(1, 240)
        score = pipeline.processes["score-0"]
        score.send(signal.SIGSTOP)
        # Read on, not anew: a scan would wait for the end of the transaction in which the worker may have been frozen.
        await outcomes.read()
        done = set(outcomes.uploads)
        copied = [pictures[key] for keys in (await _waiting(pipeline, done)).values() for key in keys[COPIED]]
        live = [*_pictures("live", range(QUEUED, QUEUED + FRESH)), *_again(copied)]
        await pipeline.upload(live)
        await eventually(lambda: _identified(pipeline, len(live)), 240, every_seconds=0.2, message=pipeline.logs())
        score.send(signal.SIGCONT)

        audit = await pipeline.audit(240, topics_alone=True)
        assert audit.clean(len(live)), f"{audit}\n{pipeline.logs()}"
        job = {name: audit.ledger[f"job_{name}"] for name in ("tasks", "outcomes", "lost", "duplicated")}
        assert job == {"tasks": QUEUED, "outcomes": QUEUED, "lost": 0, "duplicated": 0}
        left = QUEUED - len(done)
        overtook = await _before_the_last_live_one(pipeline, done)
        assert overtook < left / 2, f"{overtook} of {left} that were queued came first"
        promoted = 'sightline_contents_total{answer="promoted"}'
        await eventually(lambda: (score.metric(promoted) or 0) >= 1, 30, every_seconds=0.5, message=promoted)
        assert score.metric('sightline_contents_total{answer="computed"}') == QUEUED + FRESH


def _pictures(prefix: str, numbers: Iterable[int]) -> Iterator[Picture]:
    """Yield small pictures, of which no two are alike."""
    for number in numbers:
        yield Picture(f"{prefix}/{number:04}.jpg", encoded(noise(number), "JPEG"), "noise", True)


def _again(pictures: Iterable[Picture]) -> Iterator[Picture]:
    for picture in pictures:
        yield Picture(f"live/{picture.key}", picture.body, picture.kind, picture.scored, picture.key)


async def _waiting(pipeline: WholePipeline, done: set[str]) -> dict[int, list[str]]:
    """Return the keys of queued backfill without an outcome by partition, in the order of their tasks."""
    waiting: dict[int, list[str]] = defaultdict(list)
    for record in await pipeline.committed(BACKFILL):
        task = pipeline.codec.decode_as(record.value, ImageTask)
        if task.upload_id not in done:
            waiting[record.partition].append(task.key)
    return waiting


async def _identified(pipeline: WholePipeline, count: int) -> bool:
    return len(await pipeline.committed(TASKS)) == count


async def _before_the_last_live_one(pipeline: WholePipeline, done: set[str]) -> int:
    """Return how many outcomes of backfill, but for those `done` before, lie before their partition's last live one."""
    lanes: dict[int, list[str]] = defaultdict(list)
    for record in await pipeline.committed(PREDICTIONS):
        outcome = pipeline.codec.decode_as(record.value, ImagePrediction)
        assert outcome.outcome == "scored"
        if outcome.upload_id not in done:
            lanes[record.partition].append(outcome.lane)
    assert len(lanes) == TEST_PARTITIONS and all("live" in lane for lane in lanes.values())
    return sum(Counter(lane[: len(lane) - lane[::-1].index("live")])["backfill"] for lane in lanes.values())
