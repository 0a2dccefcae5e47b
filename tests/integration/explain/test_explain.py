"""The story of an image, from real topics and a real index, and with either of them away."""

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
from app.systems.kafka.client import KafkaProducer
from app.systems.redis.index import RedisIndex
from app.systems.registry.avro import Codec
from app.topics import FLAGGED, PREDICTIONS, REMOVED, UPLOADS
from schemas.records import FlaggedImage, ImagePrediction, LabelScore, Rendition
from tests.support.manual_clock import ManualClock
from tests.support.outcomes import flag_of, prediction, removal, scores, source_record
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


async def test_the_story_says_which_frame_gave_the_deciding_score(rig: Rig) -> None:
    looked_at = (Rendition(0, 0.0, 0.0, 1.0, 1.0, ""), Rendition(41, 0.0, 0.0, 1.0, 1.0, ""))
    seen = replace(scores("nsfw", nsfw=0.97), labels=(LabelScore("nsfw", 0.97, 1),))
    latest = await rig.moderated(
        prediction(order=3, scores=(seen,), format="gif", frames=96, truncated=True, renditions=looked_at)
    )
    words = await rig.explain(latest.key)
    for part in (
        "gif 640 x 480, 96 frames, truncated: scored as far as the file goes",
        "nsfw 0.970 (frame 42)",
        "publishable by the policy of then: no",
        "nsfw nsfw 0.970 is at or above 0.95 (version 1; seen in frame 42)",
    ):
        assert part in words, words
    told = await rig.explain(latest.key, "--json")
    condition = told["flag"]["rules"][0]["conditions"][0]
    assert told["flag"]["renditions"][condition["rendition"]]["frame"] == 41
    assert (told["outcome"]["frames"], told["outcome"]["truncated"]) == (96, True)


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


async def test_without_either_it_says_so_and_fails(rig: Rig) -> None:
    await rig.explain(
        "a.jpg", code=2, SIGHTLINE_KAFKA_BOOTSTRAP="127.0.0.1:1", SIGHTLINE_REDIS_URL="redis://127.0.0.1:1/0"
    )


async def test_a_removed_image_and_a_stranger(rig: Rig) -> None:
    outcome = await rig.moderated(prediction(order=1, key="removed.jpg"))
    gone = removal(order=9, key="removed.jpg")
    await rig.producer.send_and_wait(REMOVED, image_key("images", gone.key), CODEC.encode(gone))
    told = await rig.explain("removed.jpg", "--json")
    assert told["removed"]["removal_id"] == gone.removal_id
    assert told["history"][0]["upload_id"] == outcome.upload_id
    assert "nothing is known of it" in await rig.explain("stranger.jpg", code=1)


async def test_a_removal_by_the_other_reading_of_its_key_is_told_of_what_that_reading_found(rig: Rig) -> None:
    await rig.moderated(prediction(order=1, key="a b.jpg", event_key="a+b.jpg"))
    alive = await rig.moderated(prediction(order=2, key="c d.jpg"))
    for key, event_key in (("a b.jpg", "a+b.jpg"), ("c d.jpg", "c+d.jpg")):
        gone = removal(order=9, key=key, event_key=event_key, removal_id=f"of {event_key}")
        await rig.producer.send_and_wait(REMOVED, image_key("images", key), CODEC.encode(gone))
    assert (await rig.explain("a b.jpg", "--json"))["removed"]["removal_id"] == "of a+b.jpg"
    told = await rig.explain("c d.jpg", "--json")
    assert (told["removed"], told["outcome"]["upload_id"]) == (None, alive.upload_id)


async def test_a_flag_whose_policy_nobody_kept_says_so(rig: Rig) -> None:
    outcome = await rig.moderated(prediction(order=1, scores=(scores("nsfw", nsfw=0.1),)))
    flag = flag_of(outcome, policy_version="0.1+ffffffffffff")
    await rig.producer.send_and_wait(FLAGGED, image_key("images", outcome.key), CODEC.encode(flag))
    told = await rig.explain(outcome.key, "--json")
    assert any("was not kept" in note for note in told["notes"])
    assert told["policy"]["found"] == "the newest that a moderate worker ran"
    assert told["policy"]["agrees_with_flag"] is False


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
