"""Operators' figures, explain, models, policies, readiness and metrics over real HTTP, on real servers."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from agents import PIPELINE
from app.domain.identity import image_key
from app.pipeline.dead_letters import POISON, dead_letter
from app.serving.operations import lanes_of
from app.stack.local import LocalStack
from app.systems.clock import SystemClock
from app.systems.registry.avro import Codec
from app.topics import FLAGGED, PREDICTIONS, RETRIES_1H, TASKS, UPLOADS
from tests.support.api.over_http import LiveApi, live_api, live_api_without_kafka, live_settings
from tests.support.eventually import eventually
from tests.support.ingest import KafkaPipeline
from tests.support.outcomes import flag_of, prediction, scores, source_record

pytestmark = pytest.mark.services
CODEC = Codec()


@pytest_asyncio.fixture
async def pipeline(stack: LocalStack, topics: str) -> AsyncIterator[KafkaPipeline]:
    async with KafkaPipeline(live_settings(stack, topics).kafka) as staged:
        yield staged


@pytest_asyncio.fixture
async def api(stack: LocalStack, topics: str) -> AsyncIterator[LiveApi]:
    async with live_api(live_settings(stack, topics)) as running:
        yield running


def test_the_lanes_are_those_of_the_pipeline() -> None:
    lanes = lanes_of(PIPELINE)
    assert ("identify", UPLOADS) in lanes and ("moderate", PREDICTIONS) in lanes and ("retry", RETRIES_1H) in lanes
    read = ("image.tasks.v1", "image.removed.v1", PREDICTIONS, FLAGGED, "moderation.decisions.v1")
    assert tuple(topic for agent, topic in lanes if agent == "index") == read
    assert len(lanes) == len(set(lanes)) == 13


async def test_figures_are_what_was_published(api: LiveApi, pipeline: KafkaPipeline) -> None:
    now_ms = SystemClock().now_ms()

    def outcome(number: int, **changes: Any) -> tuple[str, bytes, bytes]:
        fields = {"event_time_ms": now_ms - 2_000, "scored_at_ms": now_ms, "scores": (scores("nsfw", nsfw=0.1),)}
        made = prediction(key=f"{number}.jpg", order=number, **(fields | changes))
        return PREDICTIONS, image_key(made.bucket, made.key), CODEC.encode(made)

    flag = flag_of(prediction())
    await pipeline.producer.send_batch(
        [
            *(outcome(number) for number in range(10)),
            *(outcome(number, cached=True) for number in range(10, 15)),
            *(outcome(number, outcome="rejected", reason="undecodable", scores=()) for number in range(15, 18)),
            outcome(18, outcome="gone", scores=()),
            outcome(19, lane="backfill", job_id="j", event_time_ms=0),
            (FLAGGED, b"k", CODEC.encode(flag)),
        ]
    )
    letter = dead_letter(
        source_record(b"x", topic=UPLOADS, offset=77),
        agent="identify",
        kind=POISON,
        reason="no_key",
        detail="the event names no key",
        now_ms=now_ms,
        bucket="images",
        object_key="a.jpg",
    )
    await pipeline.producer.send_and_wait(letter.topic, letter.key, CODEC.encode(letter.record))
    found = await api.get("/v1/operations")
    assert found["notes"] == []
    assert found["outcomes"] == {"scored": 16, "rejected": 3, "gone": 1}
    assert found["rejections"] == {"undecodable": 3}
    assert (found["cached"], found["cache_hit_ratio"]) == (5, pytest.approx(5 / 16, abs=1e-4))
    assert found["freshness"]["count"] == 19
    for name in ("p50_seconds", "p95_seconds", "max_seconds"):
        assert found["freshness"][name] == pytest.approx(2.0, rel=0.026)
    assert found["models"] == [{"model": "nsfw", "version": "1", "images": 16}]
    assert found["policies"] == [{"policy": "default", "version": flag.policy_version, "flags": 1}]
    assert (found["window_seconds"], len(found["series"])) == (300, 30)
    assert sum(cell["outcomes"] for cell in found["series"]) == 20
    assert found["throughput_per_second"] == pytest.approx(20 / 300, abs=1e-3)
    assert found["dead_letters"]["open"] == 1
    assert found["dead_letters"]["reasons"][0] == {
        "agent": "identify",
        "reason": "no_key",
        "count": 1,
        "latest_ms": now_ms,
    }
    assert found["dead_letters"]["latest"][0]["key"] == "a.jpg"
    # What comes later is counted too, without reading anything twice.
    await pipeline.producer.send_batch([outcome(20)])

    async def one_more() -> bool:
        return bool((await api.get("/v1/operations"))["outcomes"]["scored"] == 17)

    await eventually(one_more)


async def test_lag_is_of_what_a_stopped_group_has_not_committed(api: LiveApi, pipeline: KafkaPipeline) -> None:
    await pipeline.notify(*(b"event %d" % number for number in range(12)))
    ends = await pipeline.log.ends(UPLOADS)
    behind = {partition: max(0, end - 1) for partition, end in ends.items()}
    await pipeline.commit_at("identify", UPLOADS, behind)
    # Moderate has handled all that was published in transactions: only their markers lie behind it.
    async with pipeline.transactions("outcomes") as producer:
        await producer.publish([(PREDICTIONS, b"%d" % number, b"x") for number in range(8)])
    records = await pipeline.records(PREDICTIONS)
    handled: dict[int, int] = {}
    for record in records:
        handled[record.partition] = record.offset + 1
    await pipeline.commit_at("moderate", PREDICTIONS, handled)
    oldest_ms = min(record.timestamp_ms for record in await pipeline.records(UPLOADS))
    pairs = (("sightline.identify", UPLOADS), ("sightline.moderate", PREDICTIONS), ("sightline.index", PREDICTIONS))
    identify, moderate, index = await pipeline.groups.backlogs(pairs)
    assert identify.records == sum(1 for end in ends.values() if end > 0)
    assert identify.oldest_ms is not None and identify.oldest_ms >= oldest_ms
    assert (moderate.records, moderate.oldest_ms) == (0, None)
    # A group that never committed begins at the start: records, and markers of transactions with them.
    assert 8 <= index.records <= 8 + len(handled)
    assert index.oldest_ms == min(record.timestamp_ms for record in records)
    lanes = {(lane["agent"], lane["topic"]): lane for lane in (await api.get("/v1/operations"))["lanes"]}
    assert set(lanes) == set(lanes_of(PIPELINE))
    age_seconds = (SystemClock().now_ms() - identify.oldest_ms) / 1000
    assert lanes["identify", UPLOADS]["lag_records"] == identify.records
    assert 0 < lanes["identify", UPLOADS]["lag_seconds"] <= age_seconds
    assert lanes["score", TASKS] == {"agent": "score", "topic": TASKS, "lag_records": 0, "lag_seconds": 0.0}


async def test_the_story_of_an_image(api: LiveApi, pipeline: KafkaPipeline) -> None:
    made = prediction(key="a b ü.jpg")
    await pipeline.producer.send_and_wait(PREDICTIONS, image_key(made.bucket, made.key), CODEC.encode(made))
    found = await api.get("/v1/images/images/a%20b%20%C3%BC.jpg/explain")
    assert found["outcome"]["upload_id"] == made.upload_id
    assert found["history"][0]["scored_at_ms"] == made.scored_at_ms
    answer = await api.client.get("/v1/images/images/nobody.jpg/explain")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_image")
    async with api.parts.live.explaining, api.parts.live.explaining:
        answer = await api.client.get("/v1/images/images/nobody.jpg/explain")
    assert (answer.status_code, answer.json()["code"]) == (429, "busy")
    assert answer.headers["retry-after"]


async def test_models_and_policies_are_told(api: LiveApi, stack: LocalStack, topics: str) -> None:
    models = (await api.get("/v1/models"))["models"]
    active = {model["name"]: model for model in models if model["active"]}
    assert {"nsfw", "category", "quality", "embedded_text"} <= set(active)
    assert active["quality"]["reasons"]["blurry"]["code"]
    found = await api.get("/v1/policies")
    assert found["policy"]["name"] == "default"
    rules = {rule["rule"]: rule for rule in found["policy"]["rules"]}
    assert rules["nsfw-review"]["when"] == "(nsfw nsfw >= 0.8 and nsfw nsfw < 0.95)"
    assert (found["recorded"], found["notes"]) == ([], [])
    tag = (await api.client.get("/v1/models")).headers["etag"]
    assert (await api.client.get("/v1/models", headers={"If-None-Match": tag})).status_code == 304


async def test_readiness_tells_each_thing_that_requests_need(api: LiveApi, stack: LocalStack, topics: str) -> None:
    # The first connection takes its time.
    found = await eventually(lambda: api.get("/readyz"), 30)
    assert found["ready"] is True
    assert {check["name"]: check["ok"] for check in found["checks"]} == {"index": True, "kafka": True, "models": True}
    text = (await api.client.get("/metrics")).text
    assert "sightline_stream_subscribers 0.0" in text
    settings = live_settings(stack, topics)
    alone = dataclasses.replace(settings, kafka=dataclasses.replace(settings.kafka, bootstrap="127.0.0.1:1"))
    async with live_api_without_kafka(alone) as lost:
        answer = await lost.client.get("/readyz")
        assert answer.status_code == 503
        checks = {check["name"]: check for check in answer.json()["checks"]}
        assert checks["index"]["ok"] and not checks["kafka"]["ok"] and "127.0.0.1:1" in checks["kafka"]["detail"]
        operations = await lost.get("/v1/operations")
        assert (operations["lanes"], operations["dead_letters"]["open"], len(operations["notes"])) == ([], None, 3)
        answer = await lost.client.get("/v1/stream/flagged")
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert (await lost.get("/v1/policies"))["notes"]
        assert (await lost.client.get("/v1/images/images/a.jpg/explain")).status_code == 503
