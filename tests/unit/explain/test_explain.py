"""The story of an image, from topics and an index in memory, and with either of them away."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from app.domain.identity import image_key
from app.domain.policy import parse_policy
from app.errors import BrokerUnavailable
from app.explain.explain import ExplainParts, Story, explain
from app.explain.story import story_as_json, story_in_words
from app.pipeline.dead_letters import POISON, dead_letter
from app.pipeline.moderate import ModerateProcessor
from app.ports.index import IndexEntry
from app.settings import ROOT
from app.systems.registry.avro import Codec
from app.topics import FLAGGED, PREDICTIONS, REMOVED, UPLOADS
from schemas.records import FlaggedImage, ImagePrediction, ImageRemoved, LabelScore, Record, Rendition
from tests.support.manual_clock import HeldClock
from tests.support.memory.index import MemoryIndex
from tests.support.memory.topics import MemoryTopicLog
from tests.support.outcomes import EVENT_MS, flag_of, prediction, removal, scores, source_record

CODEC = Codec()
POLICY = ROOT / "policies" / "default.yaml"
OLD_POLICY = POLICY.read_text().replace('version: "2"', 'version: "0.9"')
NSFW = (scores("nsfw", nsfw=0.97),)


class Rig:
    def __init__(self) -> None:
        self.clock = HeldClock(EVENT_MS + 3_600_000)
        self.log = MemoryTopicLog(self.clock)
        self.index = MemoryIndex()

    def publish(self, topic: str, key: bytes, record: Record) -> None:
        self.log.append(topic, CODEC.encode(record), key=key)

    async def moderated(self, outcome: ImagePrediction) -> ImagePrediction:
        """Publish an outcome of an upload event that exists, its flag by an older policy, and both to the index."""
        event = json.dumps({"Records": [{"eventName": outcome.event_name, "s3": {"object": {"key": outcome.key}}}]})
        outcome = replace(outcome, source=self.log.append(UPLOADS, event.encode()))
        self.publish(PREDICTIONS, image_key(outcome.bucket, outcome.key), outcome)
        moderate = ModerateProcessor(CODEC, parse_policy(OLD_POLICY, "old"), self.clock, "worker-1")
        completion = await moderate.process(source_record(CODEC.encode(outcome)))
        for output in completion.outputs:
            self.publish(output.topic, output.key, output.record)
        flags = [output.record for output in completion.outputs if isinstance(output.record, FlaggedImage)]
        await self.index.apply([IndexEntry(outcome, b""), *(IndexEntry(flag, b"") for flag in flags)])
        return outcome

    def remove(self, removed: ImageRemoved) -> None:
        self.publish(REMOVED, image_key(removed.bucket, removed.key), removed)

    async def story(self, key: str, *, days: float = 30.0, scan_seconds: float = 60.0) -> Story:
        parts = ExplainParts(self.log, self.index, CODEC, self.clock, ROOT / "policies", POLICY, days, scan_seconds)
        return await explain(parts, "images", key)


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_a_flagged_image_tells_its_whole_story(rig: Rig) -> None:
    first = await rig.moderated(prediction(order=1, scores=(scores("nsfw", nsfw=0.02),)))
    latest = await rig.moderated(prediction(order=2, scores=(*NSFW, scores("quality", blurry=0.9))))
    letter = dead_letter(
        source_record(b"x", topic=UPLOADS, offset=77),
        agent="identify",
        kind=POISON,
        reason="no_key",
        detail="",
        now_ms=EVENT_MS,
        bucket="images",
        object_key=latest.key,
    )
    rig.publish(letter.topic, letter.key, letter.record)
    await rig.moderated(prediction(order=3, key="another.jpg"))
    story = await rig.story(latest.key)
    assert [outcome.upload_id for outcome in story.outcomes] == [first.upload_id, latest.upload_id]
    assert story.latest == latest
    assert story.event is not None and b"ObjectCreated:Put" in story.event
    assert story.flag is not None and story.flag.action == "block"
    # The recorded version, although the file of this machine is another one.
    assert story.ruling is not None
    assert story.ruling.policy.full_version == story.flag.policy_version
    assert (story.ruling.why, story.ruling.agrees) == ("recorded in the flag", True)
    matched = {report.rule for report in story.ruling.reports if report.matched}
    assert {"nsfw-block", "poor-quality"} <= matched
    assert [letter.reason for letter in story.dead_letters] == ["no_key"]
    assert story.notes == []


async def test_the_story_says_which_frame_gave_the_deciding_score(rig: Rig) -> None:
    looked_at = (Rendition(0, 0.0, 0.0, 1.0, 1.0, ""), Rendition(41, 0.0, 0.0, 1.0, 1.0, ""))
    seen = replace(scores("nsfw", nsfw=0.97), labels=(LabelScore("nsfw", 0.97, 1),))
    latest = await rig.moderated(
        prediction(order=3, scores=(seen,), format="gif", frames=96, truncated=True, renditions=looked_at)
    )
    story = await rig.story(latest.key)
    words = story_in_words(story)
    for part in (
        "gif 640 x 480, 96 frames, truncated: scored as far as the file goes",
        "nsfw 0.970 (frame 42)",
        "publishable by the policy of then: no",
        "nsfw nsfw 0.970 is at or above 0.95 (version 1; seen in frame 42)",
    ):
        assert part in words, words
    told = story_as_json(story)
    condition = told["flag"]["rules"][0]["conditions"][0]
    assert told["flag"]["renditions"][condition["rendition"]]["frame"] == 41
    assert (told["outcome"]["frames"], told["outcome"]["truncated"]) == (96, True)


async def test_without_an_index_the_topics_tell_the_story(rig: Rig) -> None:
    latest = await rig.moderated(prediction(order=2, scores=NSFW))
    rig.index.available = False
    story = await rig.story(latest.key)
    assert story.latest == latest and story.flag is not None
    assert any("the index does not answer" in note for note in story.notes)


async def test_without_topics_the_index_tells_the_latest(rig: Rig) -> None:
    latest = await rig.moderated(prediction(order=2, scores=NSFW))
    rig.log.disconnect()
    story = await rig.story(latest.key)
    assert story.latest == latest and story.flag is not None
    assert any("the topics cannot be read" in note for note in story.notes)


async def test_without_either_there_is_no_story(rig: Rig) -> None:
    rig.index.available = False
    rig.log.disconnect()
    with pytest.raises(BrokerUnavailable):
        await rig.story("a.jpg")


async def test_a_removed_image_and_a_stranger(rig: Rig) -> None:
    outcome = await rig.moderated(prediction(order=1, key="removed.jpg"))
    removed = removal(order=9, key="removed.jpg")
    rig.remove(removed)
    story = await rig.story("removed.jpg")
    assert story.removed == removed
    assert [each.upload_id for each in story.outcomes] == [outcome.upload_id]
    assert not (await rig.story("stranger.jpg")).known
    assert "nothing is known of it" in story_in_words(await rig.story("stranger.jpg"))


async def test_a_removal_by_the_other_reading_of_its_key_is_told_of_what_that_reading_found(rig: Rig) -> None:
    await rig.moderated(prediction(order=1, key="a b.jpg", event_key="a+b.jpg"))
    alive = await rig.moderated(prediction(order=2, key="c d.jpg"))
    for key, event_key in (("a b.jpg", "a+b.jpg"), ("c d.jpg", "c+d.jpg")):
        rig.remove(removal(order=9, key=key, event_key=event_key, removal_id=f"of {event_key}"))
    removed = (await rig.story("a b.jpg")).removed
    assert removed is not None and removed.removal_id == "of a+b.jpg"
    story = await rig.story("c d.jpg")
    assert (story.removed, story.latest) == (None, alive)


async def test_a_flag_whose_policy_nobody_kept_says_so(rig: Rig) -> None:
    outcome = await rig.moderated(prediction(order=1, scores=(scores("nsfw", nsfw=0.1),)))
    rig.publish(FLAGGED, image_key("images", outcome.key), flag_of(outcome, policy_version="0.1+ffffffffffff"))
    story = await rig.story(outcome.key)
    assert any("was not kept" in note for note in story.notes)
    assert story.ruling is not None
    assert (story.ruling.why, story.ruling.agrees) == ("the newest that a moderate worker ran", False)


async def test_records_before_the_days_that_are_read_are_left_out(rig: Rig) -> None:
    outcome = await rig.moderated(prediction(order=1))
    rig.clock.advance(10 * 86_400)
    assert [each.upload_id for each in (await rig.story(outcome.key)).outcomes] == [outcome.upload_id]
    assert (await rig.story(outcome.key, days=9.0)).outcomes == []


async def test_reading_stops_at_its_time_limit_and_says_so(rig: Rig) -> None:
    latest = await rig.moderated(prediction(order=2, scores=NSFW))
    for number in range(2):
        rig.publish(PREDICTIONS, image_key("images", f"{number}.jpg"), prediction(key=f"{number}.jpg"))
    letter = dead_letter(source_record(b"x"), agent="score", kind=POISON, reason="x", detail="", now_ms=EVENT_MS)
    rig.publish(letter.topic, letter.key, letter.record)
    # The limit is over before the first dead letter is read.
    story = await rig.story(latest.key, scan_seconds=-1.0)
    assert story.latest == latest
    assert any("was stopped after" in note for note in story.notes)
