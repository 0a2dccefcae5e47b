"""The whole pipeline while what it talks to fails: the store, Redis, those who write its input. The ledger judges."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from agents import PIPELINE
from app.dead_letters.dead_letters import LetterFilter, find_letters
from app.demo.photographs import packaged_photographs
from app.demo.pictures import Picture, made_pictures
from app.stack.local import LocalStack
from app.systems.kafka.producer import KafkaProducer
from app.systems.kafka.topic_log import KafkaTopicLog
from app.systems.registry.avro import Codec
from app.systems.s3.admin import StoreAccess, create_bucket
from app.systems.s3.put import Uploader
from app.topics import RETRIES_30S, TASKS, UPLOADS
from tests.support.event_messages import message, record
from tests.support.eventually import eventually
from tests.support.outcomes import prediction
from tests.support.redis_process import RedisProcess
from tests.support.stack import TestNames
from tests.support.stores.proxy import Fault, StoreProxy
from tests.support.streaming.driver import WorkerProcess
from tests.support.whole_pipeline import WholePipeline, check_clean, nsfw_settings, whole_pipeline

IMAGES = 120
# How long workers may take to start and to handle all on a machine that does other work beside.
PATIENCE_SECONDS = 240
pytestmark = pytest.mark.timeout(900)


def _pictures() -> list[Picture]:
    return list(made_pictures(IMAGES, seed=9, prefix="shop/", photographs=packaged_photographs()))


def _states(worker: WorkerProcess) -> set[str]:
    return {lane["state"] for lane in worker.health().get("lanes", {}).values()}


# --- the store ---


async def test_a_store_that_is_away_then_answers_503_stalls_cuts_and_resets_loses_and_doubles_no_upload(
    stack: LocalStack, topics: str, names: TestNames, versitygw: StoreAccess, tmp_path: Path
) -> None:
    """Guarantee: uploads wait while the store is away; what fails one by one comes again; no worker ends."""
    settings = nsfw_settings(tmp_path)
    async with (
        StoreProxy(versitygw.endpoint, seed=3) as proxy,
        whole_pipeline(stack, names, tmp_path, versitygw=versitygw, settings=settings) as pipeline,
    ):
        proxy.away()
        pipeline.start_workers(("identify", "retry", "moderate"))
        score = pipeline.start("score-0", "worker", "score", S3_ENDPOINT=proxy.endpoint, S3_READ_TIMEOUT_SECONDS="2")
        pictures = _pictures()
        sent = await pipeline.upload(pictures[:30])
        await eventually(lambda: "waiting-for-store" in _states(score), PATIENCE_SECONDS, every_seconds=0.3)
        assert not await pipeline.predictions()
        proxy.flaky()
        sent += await pipeline.upload(pictures[30:])
        await eventually(lambda: proxy.objects == len(sent), PATIENCE_SECONDS, every_seconds=0.3)
        proxy.heal()
        await check_clean(pipeline, sent, PATIENCE_SECONDS)
        attempts = Counter(outcome.attempt for outcome in await pipeline.predictions())
        assert set(attempts) > {1}, "no upload had to be deferred: the faults proved nothing"
        assert set(proxy.injected) == set(Fault)
        assert not pipeline.ended(), pipeline.logs()


# --- Redis ---


@pytest_asyncio.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisProcess]:
    running = RedisProcess(tmp_path, durable=True)
    await running.start()
    yield running
    await running.close()


async def test_redis_killed_under_uploads_holds_up_no_outcome_and_the_index_is_complete_when_it_is_back(
    stack: LocalStack, topics: str, names: TestNames, redis: RedisProcess, tmp_path: Path
) -> None:
    """Guarantee: outcomes do not wait for Redis; a Redis that keeps what it answered misses none when it is back."""
    settings = {**nsfw_settings(tmp_path), "SIGHTLINE_REDIS_URL": redis.settings().url.reveal()}
    async with whole_pipeline(stack, names, tmp_path, settings=settings) as pipeline:
        pipeline.start("bridge", "bridge", "sqs")
        pipeline.start_workers(PIPELINE)
        pictures = _pictures()
        sent = await pipeline.upload(pictures[:40])
        index = pipeline.index()
        try:
            early = await eventually(partial(_indexed, pipeline), PATIENCE_SECONDS, every_seconds=0.5)
            uploading = asyncio.create_task(pipeline.upload(pictures[40:90], at_once=1))
            await eventually(partial(pipeline.published, 50), PATIENCE_SECONDS, every_seconds=0.2)
            await redis.kill()
            # Removed while Redis is away: that too must arrive.
            await pipeline.delete(early)
            sent += await uploading
            sent += await pipeline.upload(pictures[90:])
            await check_clean(pipeline, sent, PATIENCE_SECONDS)
            worker = pipeline.processes["index-0"]
            await eventually(lambda: "waiting-for-index" in _states(worker), 60, every_seconds=0.3)
            await redis.start()
            outcomes = {outcome.key: outcome for outcome in await pipeline.predictions()}
            removed = outcomes.pop(early)

            async def complete() -> bool:
                found = {key: await index.image(pipeline.bucket, key) for key in (*outcomes, removed.key)}
                gone = found.pop(removed.key)
                assert gone is not None and gone.prediction is None and gone.removed_at_ms is not None
                return {key: image and image.prediction for key, image in found.items()} == outcomes

            await eventually(complete, PATIENCE_SECONDS, every_seconds=0.5, message="the index")
            assert not pipeline.ended(), pipeline.logs()
        finally:
            await index.close()


async def _indexed(pipeline: WholePipeline) -> str | None:
    """Return the key of an upload that was scored and is in the index."""
    index = pipeline.index()
    try:
        for outcome in await pipeline.predictions():
            if outcome.outcome == "scored" and await index.image(outcome.bucket, outcome.key) is not None:
                return outcome.key
        return None
    finally:
        await index.close()


# --- poison ---

# What identify cannot read: its dead letter holds the message whole.
_NO_EVENTS = (
    b"rubbish",
    b"",
    b"\xff\xd8\xff\xe0 a picture in the wrong place",
    b"[" * 50_000,
    b"[1, 2]",
    b'{"hello": "world"}',
    b'{"Records": 5}',
    message(record(object={"key": None})),
    message(record(object={"eTag": "e1\nx-evil: 1"})),
    message(record(s3={"bucket": {"name": "evil.example/x?"}})),
)
# A bad record among good ones: its dead letter holds this alone.
_BAD_RECORD = {"odd": 1}
_TOLD = 6
# Poison and uploads go in turn so many times.
_ROUNDS = 6


def _no_tasks() -> tuple[bytes, ...]:
    """Return what score and retry cannot read: no record of ours, of a schema that nobody knows, of another kind."""
    other_kind = Codec().encode(prediction())
    return b"garbage", b"", b"\x00" + (4_000_000).to_bytes(4, "big") + b"x" * 40, other_kind, other_kind[:25]


async def _told_messages(stack: LocalStack, pipeline: WholePipeline, bucket: str) -> list[bytes]:
    """Store _TOLD objects of which the store tells nobody; return messages that do, a bad record inside each."""
    await create_bucket(stack.s3, bucket)
    pictures = [picture for picture in _pictures() if picture.scored][:_TOLD]
    records = []
    async with Uploader(pipeline.settings.s3) as uploader:
        for number, picture in enumerate(pictures):
            key = f"told/{number}.jpg"
            etag = await uploader.put(bucket, key, picture.body)
            thing = {"key": key, "eTag": etag, "size": len(picture.body), "sequencer": f"{number:016X}"}
            records.append(record(object=thing, s3={"bucket": {"name": bucket}}))
    return [message(first, _BAD_RECORD, second) for first, second in zip(records[::2], records[1::2], strict=True)]


async def test_poison_among_uploads_becomes_dead_letters_with_its_bytes_and_its_neighbours_go_on(
    stack: LocalStack, topics: str, names: TestNames, tmp_path: Path
) -> None:
    """Guarantee: what cannot be read is an open dead letter, once, byte for byte; every upload beside it is scored."""
    async with whole_pipeline(stack, names, tmp_path, settings=nsfw_settings(tmp_path)) as pipeline:
        pipeline.start("bridge", "bridge", "sqs")
        pipeline.start_workers(PIPELINE)
        told = await _told_messages(stack, pipeline, f"{names.bucket}-told")
        pictures = _pictures()
        await pipeline.upload(pictures[:20])
        await eventually(partial(pipeline.published, 5), PATIENCE_SECONDS, every_seconds=0.3)

        poison = [
            *((UPLOADS, value) for value in (*_NO_EVENTS, *told)),
            *((topic, value) for value in _no_tasks() for topic in (TASKS, RETRIES_30S)),
        ]
        producer = KafkaProducer(pipeline.settings.kafka)
        try:
            for number in range(_ROUNDS):
                records = [(topic, value[:8], value) for topic, value in poison[number::_ROUNDS]]
                await asyncio.gather(pipeline.upload(pictures[20 + number :: _ROUNDS]), producer.send_batch(records))
        finally:
            await producer.close()

        events = [*_NO_EVENTS, *[json.dumps(_BAD_RECORD).encode()] * len(told)]
        expected = Counter(
            [
                *(("identify", value) for value in events),
                *((agent, value) for value in _no_tasks() for agent in ("score", "retry")),
            ]
        )
        await eventually(partial(pipeline.published, IMAGES + _TOLD), PATIENCE_SECONDS, every_seconds=0.5)
        await eventually(partial(_all_letters, pipeline, expected.total()), PATIENCE_SECONDS, every_seconds=0.5)

        audit = await pipeline.audit(60, topics_alone=True)
        found = {name: audit.ledger[name] for name in _SUMS}
        assert found == {
            "uploads": IMAGES + _TOLD + len(events),
            "outcomes": IMAGES + _TOLD,
            "open_dead_letters": len(events),
            "lost": 0,
            "duplicated": 0,
            "other_dead_letters": 2 * len(_no_tasks()),
        }
        assert audit.exit_code == 0
        audit = await pipeline.audit(60)
        assert audit.clean(IMAGES), f"{audit}\n{pipeline.logs()}"
        assert await _letters(pipeline) == expected
        assert not pipeline.ended(), pipeline.logs()


_SUMS = ("uploads", "outcomes", "open_dead_letters", "lost", "duplicated", "other_dead_letters")


async def _letters(pipeline: WholePipeline) -> Counter[tuple[str, bytes | None]]:
    """Return agent and bytes of every open dead letter."""
    scanner = KafkaTopicLog(pipeline.settings.kafka)
    async with aclosing(find_letters(scanner, pipeline.codec, LetterFilter())) as letters:
        return Counter([(found.letter.agent, found.letter.value) async for found in letters])


async def _all_letters(pipeline: WholePipeline, count: int) -> bool:
    return (await _letters(pipeline)).total() >= count
