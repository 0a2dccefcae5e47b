"""The story of an image, from real topics and a real index, and with either of them away; tests/unit has the rest."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from app.domain.identity import image_key
from app.domain.policy import parse_policy
from app.pipeline.dead_letters import POISON, dead_letter
from app.pipeline.moderate import ModerateProcessor
from app.ports.index import IndexEntry
from app.settings import ROOT, KafkaSettings, RedisSettings, Secret
from app.stack.local import LocalStack
from app.systems.kafka.producer import KafkaProducer
from app.systems.redis.index import RedisIndex
from app.systems.registry.avro import Codec
from app.topics import FLAGGED, PREDICTIONS, UPLOADS
from schemas.records import FlaggedImage, ImagePrediction
from tests.support.manual_clock import ManualClock
from tests.support.outcomes import prediction, scores, source_record
from tests.support.stack import TEST_PARTITIONS

pytestmark = pytest.mark.services
CODEC = Codec()
OLD_POLICY = (ROOT / "policies" / "default.yaml").read_text().replace('version: "2"', 'version: "0.9"')


class Rig:
    def __init__(self, stack: LocalStack, prefix: str) -> None:
        self.kafka = KafkaSettings(bootstrap=stack.kafka, prefix=prefix, partitions=TEST_PARTITIONS)
        self.producer = KafkaProducer(self.kafka)
        self.index = RedisIndex(RedisSettings(url=Secret(stack.redis_url), prefix=prefix), CODEC)
        self.environment = {
            **os.environ,
            **stack.environment,
            "SIGHTLINE_KAFKA_PREFIX": prefix,
            "SIGHTLINE_REDIS_PREFIX": prefix,
            "SIGHTLINE_REDIS_URL": stack.redis_url,
        }

    async def moderated(self, outcome: ImagePrediction) -> ImagePrediction:
        """Publish an outcome of an upload event that exists, its flag by an older policy, and both to the index."""
        event = json.dumps({"Records": [{"eventName": outcome.event_name, "s3": {"object": {"key": outcome.key}}}]})
        at = await self.producer.send_and_wait(UPLOADS, None, event.encode())
        outcome = replace(outcome, source=at)
        wire = CODEC.encode(outcome)
        await self.producer.send_and_wait(PREDICTIONS, image_key(outcome.bucket, outcome.key), wire)
        moderate = ModerateProcessor(CODEC, parse_policy(OLD_POLICY, "old"), ManualClock(), "worker-1")
        completion = await moderate.process(source_record(wire))
        for output in completion.outputs:
            await self.producer.send_and_wait(output.topic, output.key, CODEC.encode(output.record))
        flags = [output.record for output in completion.outputs if isinstance(output.record, FlaggedImage)]
        await self.index.apply([IndexEntry(outcome, wire), *(IndexEntry(flag, CODEC.encode(flag)) for flag in flags)])
        return outcome

    async def explain(self, key: str, *words: str, code: int = 0, **environment: str) -> Any:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "app", "explain", f"s3://images/{key}", *words),
            cwd=ROOT,
            env=self.environment | environment,
            stdout=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(120):
            output, _ = await process.communicate()
        assert process.returncode == code
        return json.loads(output) if "--json" in words else output.decode()


@pytest_asyncio.fixture
async def rig(stack: LocalStack, topics: str) -> AsyncIterator[Rig]:
    rigged = Rig(stack, topics)
    yield rigged
    await rigged.producer.close()
    await rigged.index.close()


async def test_a_flagged_image_tells_its_whole_story(rig: Rig) -> None:
    first = await rig.moderated(prediction(order=1, scores=(scores("nsfw", nsfw=0.02),)))
    latest = await rig.moderated(
        prediction(order=2, scores=(scores("nsfw", nsfw=0.97, cached=True), scores("quality", blurry=0.9)))
    )
    letter = dead_letter(
        source_record(b"x", topic=UPLOADS, offset=77),
        agent="identify",
        kind=POISON,
        reason="no_key",
        detail="",
        now_ms=1_795_000_000_500,
        bucket="images",
        object_key=latest.key,
    )
    await rig.producer.send_and_wait(letter.topic, letter.key, CODEC.encode(letter.record))
    told = await rig.explain(latest.key, "--json")
    assert told["outcome"]["upload_id"] == latest.upload_id
    assert told["outcome"]["scores"]["nsfw"] == {"nsfw": 0.97}
    assert told["outcome"]["cached_models"] == ["nsfw"]
    assert told["event"]["Records"][0]["eventName"] == "ObjectCreated:Put"
    assert told["flag"]["action"] == "block"
    # The recorded version, though the file of this machine is another one.
    assert told["policy"]["version"] == told["flag"]["policy_version"]
    assert told["policy"]["version"].startswith("0.9+")
    assert (told["policy"]["found"], told["policy"]["agrees_with_flag"]) == ("recorded in the flag", True)
    matched = {rule["rule"] for rule in told["rules"] if rule["matched"]}
    assert {"nsfw-block", "poor-quality"} <= matched
    assert [entry["upload_id"] for entry in told["history"]] == [first.upload_id, latest.upload_id]
    assert [found["reason"] for found in told["dead_letters"]] == ["no_key"]
    words = await rig.explain(latest.key)
    for part in ("006B0404", "s3.uploads/", "nsfw 0.970", "computed afresh", "fetch 4 ms", "✓ nsfw-block", "history"):
        assert part in words


async def test_without_redis_the_topics_tell_the_story(rig: Rig) -> None:
    latest = await rig.moderated(prediction(order=2, scores=(scores("nsfw", nsfw=0.97),)))
    told = await rig.explain(latest.key, "--json", SIGHTLINE_REDIS_URL="redis://127.0.0.1:1/0")
    assert told["outcome"]["upload_id"] == latest.upload_id
    assert told["flag"]["action"] == "block"
    assert any("the index does not answer" in note for note in told["notes"])


async def test_without_kafka_the_index_tells_the_latest(rig: Rig) -> None:
    latest = await rig.moderated(prediction(order=2, scores=(scores("nsfw", nsfw=0.97),)))
    told = await rig.explain(latest.key, "--json", SIGHTLINE_KAFKA_BOOTSTRAP="127.0.0.1:1")
    assert told["outcome"]["upload_id"] == latest.upload_id
    assert told["flag"]["action"] == "block"
    assert any("the topics cannot be read" in note for note in told["notes"])


async def test_a_stranger_is_an_exit_code(rig: Rig) -> None:
    assert "nothing is known of it" in await rig.explain("stranger.jpg", code=1)


async def test_without_either_it_says_so_and_fails(rig: Rig) -> None:
    await rig.explain(
        "a.jpg", code=2, SIGHTLINE_KAFKA_BOOTSTRAP="127.0.0.1:1", SIGHTLINE_REDIS_URL="redis://127.0.0.1:1/0"
    )


async def test_the_example_consumer_prints_flags(rig: Rig) -> None:
    """Guarantee: the example in examples/ reads the flagged topic with nothing of this project but its schemas."""
    example = ROOT / "examples" / "moderation_consumer.py"
    assert len(example.read_text().splitlines()) < 40
    latest = await rig.moderated(prediction(order=2, scores=(scores("nsfw", nsfw=0.97),)))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", str(example), rig.kafka.bootstrap, rig.kafka.prefix + FLAGGED),
        cwd=Path("/"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            line = await process.stdout.readline()
    finally:
        process.kill()
        await process.wait()
    assert "block" in line.decode() and latest.key in line.decode()
