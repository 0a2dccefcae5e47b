"""The index filled again from real topics into a real Redis."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from app.domain.identity import image_key
from app.settings import ROOT, KafkaSettings, RedisSettings, Secret
from app.stack.local import LocalStack
from app.systems.kafka.producer import KafkaProducer
from app.systems.redis.index import RedisIndex
from app.systems.registry.avro import Codec
from app.topics import DECISIONS, FLAGGED, PREDICTIONS, REMOVED
from schemas.records import FlaggedImage, ImagePrediction, ImageRemoved
from tests.support.outcomes import flag_of, prediction, removal
from tests.support.stack import TEST_PARTITIONS

pytestmark = pytest.mark.services
CODEC = Codec()
TOPIC_OF = {ImagePrediction: PREDICTIONS, ImageRemoved: REMOVED, FlaggedImage: FLAGGED}


@pytest_asyncio.fixture
async def index(stack: LocalStack, topics: str) -> AsyncIterator[RedisIndex]:
    connected = RedisIndex(RedisSettings(url=Secret(stack.redis_url), prefix=topics), CODEC)
    yield connected
    await connected.close()


async def sightline(stack: LocalStack, topics: str, *words: str) -> tuple[int, dict[str, object]]:
    environment = {
        **os.environ,
        **stack.environment,
        "SIGHTLINE_KAFKA_PREFIX": topics,
        "SIGHTLINE_REDIS_PREFIX": topics,
        "SIGHTLINE_REDIS_URL": stack.redis_url,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app", *words, "--json"), cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(120):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, json.loads(output)


async def test_a_lost_index_is_rebuilt_without_what_was_removed(
    stack: LocalStack, topics: str, index: RedisIndex
) -> None:
    """Guarantee: after Redis lost everything, the topics bring back the latest outcome of each image that still is."""
    kept = [prediction(order=number, key=f"{number}.jpg", sha256=f"{number:064x}") for number in range(1, 41)]
    flagged = kept[3]
    removed = prediction(order=50, key="removed.jpg")
    facts: tuple[ImagePrediction | ImageRemoved | FlaggedImage, ...] = (
        *kept,
        prediction(order=60, key="1.jpg", sha256="b" * 64),
        flag_of(flagged),
        removed,
        flag_of(removed),
        removal(order=51, key="removed.jpg"),
    )
    producer = KafkaProducer(KafkaSettings(bootstrap=stack.kafka, prefix=topics, partitions=TEST_PARTITIONS))
    await producer.send_batch([(TOPIC_OF[type(f)], image_key(f.bucket, f.key), CODEC.encode(f)) for f in facts])
    await producer.close()
    for _ in range(2):  # the second time changes nothing
        code, told = await sightline(stack, topics, "index", "rebuild")
        assert (code, told["stored"]) == (0, {PREDICTIONS: 42, REMOVED: 1, FLAGGED: 2, DECISIONS: 0})
    for outcome in kept[1:]:
        found = await index.image("images", outcome.key)
        assert found is not None and found.prediction == outcome
    latest = await index.image("images", "1.jpg")
    assert latest is not None and latest.prediction is not None and latest.prediction.sha256 == "b" * 64
    code, told = await sightline(stack, topics, "index", "get", f"s3://images/{flagged.key}")
    assert code == 0
    assert isinstance(told["flag"], dict) and told["flag"]["action"] == "block"
    code, told = await sightline(stack, topics, "index", "get", "s3://images/removed.jpg")
    assert (code, told["prediction"], told["flag"]) == (0, None, None)
    assert await sightline(stack, topics, "index", "get", "s3://images/unknown.jpg") == (1, {"known": False})
