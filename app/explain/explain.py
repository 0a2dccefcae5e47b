"""The whole story of one image, from the index and the topics: each answers without the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from app.domain.identity import declared_topic, image_key
from app.domain.policy import Policy, RuleReport, evaluate, report_rules, subject_of
from app.domain.standing import removes, removes_one_version, replaces, same_upload, standing_of
from app.errors import BrokerUnavailable, Poison, PolicyError, RedisUnavailable, StartupRefused
from app.pipeline.control_topic import read_control
from app.pipeline.moderate import POLICY_KIND
from app.pipeline.policies import PolicyArchive, read_policy
from app.ports.clock import Clock
from app.ports.index import Index
from app.ports.records import RecordCodec
from app.ports.topics import AtOffsets, AtTime, TopicLog
from app.topics import DEAD_LETTERS, FLAGGED, PREDICTIONS, REMOVED
from schemas.records import DeadLetter, FlaggedImage, ImagePrediction, ImageRemoved, ImageTask, Position, Record

_R = TypeVar("_R", bound=Record)
DAY_MS: Final = 86_400_000
# What a message of S3 tells fits; more is not printed.
_MAX_EVENT_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Ruling:
    """A policy applied again to one outcome. `why`: how the version was found; `agrees`: the same action as then."""

    policy: Policy
    why: str
    action: str
    reports: tuple[RuleReport, ...]
    agrees: bool | None


@dataclass(slots=True)
class Story:
    """Everything known of one bucket/key. Lists are in their topics' order; `notes` say what could not be read."""

    bucket: str
    key: str
    outcomes: list[ImagePrediction] = field(default_factory=list)
    flags: list[FlaggedImage] = field(default_factory=list)
    removals: list[ImageRemoved] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    latest: ImagePrediction | None = None
    flag: FlaggedImage | None = None
    removed: ImageRemoved | None = None
    event: bytes | None = None
    task: ImageTask | None = None
    ruling: Ruling | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def known(self) -> bool:
        """Whether anything at all was found."""
        return bool(self.latest or self.outcomes or self.removals or self.flags or self.dead_letters)


@dataclass(frozen=True, slots=True)
class ExplainParts:
    """What an explanation is drawn from. `scan_seconds` bounds the reading of the topics."""

    log: TopicLog
    index: Index
    codec: RecordCodec
    clock: Clock
    policies_dir: Path
    policy_path: Path
    days: float
    scan_seconds: float


class _OutOfTime(Exception):
    """The bound on reading the topics is reached."""


async def explain(parts: ExplainParts, bucket: str, key: str) -> Story:
    """Return the story of bucket/key. Raises BrokerUnavailable when neither the index nor the topics answer."""
    story = Story(bucket, key)
    index_answers = await _from_index(parts, story)
    try:
        await _from_topics(parts, story)
        _settle_latest(story)
        await _details(parts, story)
        archive = await read_control(parts.log, parts.codec, POLICY_KIND)
        known = PolicyArchive(archive.values(), parts.policies_dir, parts.policy_path)
    except (BrokerUnavailable, StartupRefused) as error:
        if not index_answers:
            raise
        story.notes.append(f"the topics cannot be read, so this is the latest outcome alone: {error}")
        known = PolicyArchive((), parts.policies_dir, parts.policy_path)
    if story.latest is not None:
        story.ruling = _rule(parts, story, story.latest, known)
    return story


async def _from_index(parts: ExplainParts, story: Story) -> bool:
    try:
        found = await parts.index.image(story.bucket, story.key)
    except RedisUnavailable as error:
        story.notes.append(f"the index does not answer, the topics tell alone: {error}")
        return False
    if found is not None:
        story.latest, story.flag = found.prediction, found.flag
    return True


async def _from_topics(parts: ExplainParts, story: Story) -> None:
    until = parts.clock.monotonic() + parts.scan_seconds
    try:
        story.outcomes = await _of_image(parts, story, PREDICTIONS, ImagePrediction, until)
        story.flags = await _of_image(parts, story, FLAGGED, FlaggedImage, until)
        story.removals = await _of_image(parts, story, REMOVED, ImageRemoved, until)
        story.dead_letters = await _letters(parts, story, until)
    except _OutOfTime:
        story.notes.append(
            f"reading the topics was stopped after {parts.scan_seconds:g} s; give fewer --days or more --seconds"
        )


async def _of_image(parts: ExplainParts, story: Story, topic: str, kind: type[_R], until: float) -> list[_R]:
    """Return the records of the image; only the partition that its key lies in is read."""
    key = image_key(story.bucket, story.key)
    ends = await parts.log.ends(topic)
    partition = parts.log.partition_of(key, len(ends))
    start = AtTime(max(0, round(parts.clock.now_ms() - parts.days * DAY_MS)))
    found = []
    async with aclosing(parts.log.scan(topic, start, AtOffsets({partition: ends[partition]}))) as records:
        async for record in records:
            if record.key == key:
                decoded = _decoded(parts.codec, record.value, kind)
                if decoded is not None:
                    found.append(decoded)
            elif record.offset % 1000 == 0 and parts.clock.monotonic() > until:
                raise _OutOfTime
    return found


async def _letters(parts: ExplainParts, story: Story, until: float) -> list[DeadLetter]:
    start = AtTime(max(0, round(parts.clock.now_ms() - parts.days * DAY_MS)))
    mark = story.key.encode()
    found = []
    async with aclosing(parts.log.scan(DEAD_LETTERS, start)) as records:
        async for record in records:
            if parts.clock.monotonic() > until:
                raise _OutOfTime
            if record.value is None or mark not in record.value:
                continue
            letter = _decoded(parts.codec, record.value, DeadLetter)
            if letter is not None and (letter.bucket, letter.object_key) == (story.bucket, story.key):
                found.append(letter)
    return found


def _decoded(codec: RecordCodec, value: bytes | None, kind: type[_R]) -> _R | None:
    try:
        return codec.decode_as(value, kind)
    except Poison:
        return None


def _settle_latest(story: Story) -> None:
    """Choose the latest of what index and topics tell; the topics know removals that the index forgot."""
    outcomes = [*([story.latest] if story.latest is not None else []), *story.outcomes]
    there = [outcome for outcome in outcomes if _removal_of(story, outcome) is None]
    latest = _latest(there or outcomes)
    story.latest = latest
    if latest is None:
        return
    for flag in story.flags:
        if same_upload(standing_of(flag), standing_of(latest)) and (
            story.flag is None or flag.decided_at_ms >= story.flag.decided_at_ms
        ):
            story.flag = flag
    story.removed = _removal_of(story, latest)


def _removal_of(story: Story, outcome: ImagePrediction) -> ImageRemoved | None:
    """Return the last removal of the image that took `outcome` away; erasing one version does not tell what is left."""
    standing = standing_of(outcome)
    found = [one for one in story.removals if not removes_one_version(one) and removes(one, standing)]
    return found[-1] if found else None


def _latest(outcomes: Sequence[ImagePrediction]) -> ImagePrediction | None:
    latest: ImagePrediction | None = None
    for outcome in outcomes:
        if latest is None or replaces(standing_of(outcome), standing_of(latest)):
            latest = outcome
    return latest


async def _details(parts: ExplainParts, story: Story) -> None:
    latest = story.latest
    if latest is None:
        return
    # The index keeps no `previous`, and of the same outcome the topic's own record tells more.
    for outcome in story.outcomes:
        if outcome.upload_id == latest.upload_id:
            story.latest = outcome
    story.event = await _value_at(parts, latest.source)
    task = await _value_at(parts, latest.task)
    story.task = None if task is None else _decoded(parts.codec, task, ImageTask)


async def _value_at(parts: ExplainParts, position: Position) -> bytes | None:
    """Return the record at `position`, None when its topic no longer holds it."""
    topic = declared_topic(position.topic)
    if not topic or position.offset < 0:
        return None
    start = AtOffsets({position.partition: position.offset})
    end = AtOffsets({position.partition: position.offset + 1})
    async with aclosing(parts.log.scan(topic, start, end)) as records:
        async for record in records:
            if (record.partition, record.offset) == (position.partition, position.offset):
                return None if record.value is None else record.value[:_MAX_EVENT_BYTES]
    return None


def _rule(parts: ExplainParts, story: Story, latest: ImagePrediction, archive: PolicyArchive) -> Ruling | None:
    for policy, why in _policies(parts, story, archive):
        subject = subject_of(latest)
        action = evaluate(policy, subject).action
        flag = story.flag
        agrees = None if flag is None or flag.upload_id != latest.upload_id else action == flag.action
        return Ruling(policy, why, action, report_rules(policy, subject), agrees)
    story.notes.append("no policy was found, so no rules are shown")
    return None


def _policies(parts: ExplainParts, story: Story, archive: PolicyArchive) -> Iterator[tuple[Policy, str]]:
    if story.flag is not None:
        recorded = archive.find(story.flag.policy, story.flag.policy_version)
        if recorded is not None:
            yield recorded, "recorded in the flag"
            return
        story.notes.append(
            f"policy {story.flag.policy} {story.flag.policy_version} of the flag was not kept; another one is shown"
        )
    newest = archive.newest()
    if newest is not None:
        yield newest, "the newest that a moderate worker ran"
    try:
        yield read_policy(parts.policy_path), "the file of this machine"
    except PolicyError as error:
        story.notes.append(str(error))
