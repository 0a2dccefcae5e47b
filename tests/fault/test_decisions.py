"""Decisions of moderators while the query service, Redis and the workers behind it are killed."""

from __future__ import annotations

import asyncio
import random
import signal
import uuid
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import httpx
import pytest

from app.domain.identity import image_key
from app.moderation.redis_queue import RedisQueue
from app.stack.local import LocalStack
from app.stack.ports import lease_port
from app.systems.clock import SystemClock
from app.systems.kafka.producer import KafkaProducer
from app.systems.registry.avro import Codec
from app.topics import DECISIONS, FLAGGED, LABELS, PREDICTIONS
from schemas.records import Label, ModerationDecision
from tests.support.eventually import eventually
from tests.support.outcomes import flag_of, prediction
from tests.support.stack import TestNames
from tests.support.verbs import run_verb
from tests.support.whole_pipeline import WholePipeline, whole_pipeline

IMAGES: Final = 30
KILLS: Final = 2


async def publish_flags(pipeline: WholePipeline, count: int) -> list[str]:
    """Publish outcomes and flags as score and moderate would; return the keys."""
    codec, producer = Codec(), KafkaProducer(pipeline.settings.kafka, "test")
    keys = [f"flagged/{number:03d}.jpg" for number in range(count)]
    try:
        for key in keys:
            outcome = prediction(bucket=pipeline.bucket, key=key, upload_id=f"upload-{key}", sha256=None)
            flag = flag_of(outcome)
            await producer.send_batch(
                [
                    (PREDICTIONS, image_key(outcome.bucket, key), codec.encode(outcome)),
                    (FLAGGED, image_key(outcome.bucket, key), codec.encode(flag)),
                ]
            )
    finally:
        await producer.close()
    return keys


async def make_key(pipeline: WholePipeline, name: str) -> str:
    code, out, err = await run_verb(
        pipeline.environment, "api", "keys", "create", "--name", name, "--scope", "moderate", "--scope", "read"
    )
    assert code == 0, err
    return out.split()[0]


async def decide(client: httpx.AsyncClient, bucket: str, key: str, verb: str) -> str:
    """Send one decision until it is answered, as a client does whose server dies."""
    body = {"decision_id": str(uuid.uuid4()), "bucket": bucket, "key": key, "decision": verb}
    while True:
        try:
            answer = await client.post("/v1/decisions", json=body)
        except httpx.TransportError:
            await asyncio.sleep(0.2)
            continue
        if answer.status_code in (200, 201):
            return str(answer.json()["decision_id"])
        assert answer.status_code == 503, answer.text
        await asyncio.sleep(0.5)


@pytest.mark.timeout(280)
async def test_a_killed_query_service_publishes_every_decision_once(
    stack: LocalStack, topics: str, names: TestNames, tmp_path: Path
) -> None:
    """kill -9 of the service at random moments, and of the agent that makes labels: each decision and label once."""
    draw = random.Random(5)
    lease = lease_port(purpose="the query service")
    async with AsyncExitStack() as held:
        held.callback(lease.release)
        pipeline = await held.enter_async_context(whole_pipeline(stack, names, tmp_path))
        keys = await publish_flags(pipeline, IMAGES)
        pipeline.start_workers(("index", "label"), restart=True)
        api = pipeline.start("api", "api", "--port", str(lease.port), "--no-score")
        token = await make_key(pipeline, "ana")
        queue = RedisQueue(pipeline.settings.redis, pipeline.settings.moderation, SystemClock())
        held.push_async_callback(queue.close)

        async def waiting() -> int:
            return sum((await queue.counts()).by_action.values())

        async def all_wait() -> bool:
            return await waiting() == IMAGES

        await eventually(all_wait, 60, message="the queue was not filled")
        url = f"http://127.0.0.1:{lease.port}"
        headers = {"Authorization": f"Bearer {token}"}
        made: dict[str, str] = {}
        verbs = {key: draw.choice(("approve", "reject")) for key in keys}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=40) as client:
            todo = iter(keys)

            async def moderator() -> None:
                for key in todo:
                    made[key] = await decide(client, pipeline.bucket, key, verbs[key])

            working = asyncio.gather(*(moderator() for _ in range(4)))
            for number in range(KILLS):
                await eventually(lambda number=number: len(made) >= 2 + number * 5, 120)  # type: ignore[misc]
                api.send(signal.SIGKILL)
                await eventually(lambda: api.exit_code is not None, 10)
                api.start()
            await working
        assert len(made) == IMAGES
        await eventually(lambda: pipeline_labels(pipeline), 60, message="labels are missing")
        decisions = [
            pipeline.codec.decode_as(one.value, ModerationDecision) for one in await pipeline.committed(DECISIONS)
        ]
        assert Counter(one.decision_id for one in decisions) == Counter(made.values()), pipeline.logs()
        assert {one.key: one.decision for one in decisions} == verbs
        labels = [pipeline.codec.decode_as(one.value, Label) for one in await pipeline.committed(LABELS)]
        assert Counter(label.label_id for label in labels).most_common(1)[0][1] == 1
        assert {label.key: label.value for label in labels} == {
            key: 1.0 if verb == "reject" else 0.0 for key, verb in verbs.items()
        }

        async def none_waits() -> bool:
            return await waiting() == 0

        await eventually(none_waits, 60, message="decided images still wait")


async def pipeline_labels(pipeline: WholePipeline) -> bool:
    """Whether every decision has become its label."""
    return len(await pipeline.committed(LABELS)) >= IMAGES
