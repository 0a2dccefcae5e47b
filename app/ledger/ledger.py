"""The ledger: every upload has exactly one outcome or one open dead letter.

It is computed from the topics alone, by the same parser that identify uses, and with a bucket also from its listing.
Reading follows the way of an upload, after the committed offsets of the agents were read: what they had not yet done at
that moment is in flight, and what they had done is on a topic that is read later. So a gap is never an upload that was
merely moving.
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from agents import IDENTIFY, INDEX, RETRY, SCORE
from app.dead_letters.dead_letters import read_redriven
from app.domain import identity
from app.domain.events import Created, Malformed, parse_message
from app.domain.filters import UploadFilter
from app.errors import Poison
from app.ledger.digest_sets import Ids, ObjectTimes, as_ids, ids_of, short
from app.ledger.sums import Example, Ledger, Side
from app.ports.clock import Clock
from app.ports.objects import ObjectStore
from app.ports.records import RecordCodec, SourceRecord
from app.ports.topics import AtOffsets, AtTime, Bound, ConsumerGroups, TopicLog, of_topic
from app.streaming.suspects import CRASHED_WORKER, PARKED
from app.topics import (
    BACKFILL,
    DEAD_LETTERS,
    PREDICTIONS,
    UPLOADS,
)
from schemas.records import DeadLetter, ImagePrediction, ImageTask

EXAMPLES: Final = 10
# A listing tells seconds on AWS, an event milliseconds; a notification takes seconds, sometimes a minute.
MODIFIED_SLACK_MS: Final = 1_000
NOTIFICATION_SECONDS: Final = 60.0
_LISTING_BATCH: Final = 5_000
# Kinds of letters that identify makes of a message before it parses it.
_WHOLE_MESSAGES: Final = frozenset({CRASHED_WORKER, PARKED})
# The topics with uploads that have no outcome, and the group of the agent that handles them.
READERS: Final = {topic: agent.group for agent in (IDENTIFY, SCORE, RETRY) for topic in agent.topics}


@dataclass(frozen=True, slots=True)
class Scope:
    """What is looked at: one bucket or all, keys below a prefix, uploads identified since a time or all kept ones."""

    bucket: str | None = None
    prefix: str = ""
    since_ms: int | None = None

    def holds(self, bucket: str | None, key: str | None) -> bool:
        """Whether an object of this bucket and key is looked at."""
        if self.bucket is not None and bucket != self.bucket:
            return False
        return not self.prefix or (key or "").startswith(self.prefix)


@dataclass(frozen=True, slots=True)
class _Listed:
    """A task that reconcile made from a listing."""

    upload_id: str
    bucket: str
    key: str
    object_short: int
    from_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class _Open:
    """A dead letter: of which upload (None: of a record that is none), and whether a job's."""

    letter_id: str
    upload: int | None
    job: bool


@dataclass(frozen=True, slots=True)
class _Missing:
    """An object that the bucket lists and nobody told of."""

    bucket: str
    key: str
    etag: str | None


class LedgerReader:
    """Reads the topics once and what was added to them again at each `read`.

    Holds 24 bytes for each notified upload and 8 for each outcome, and sorts copies of them to count: measured 150 MB
    at the peak, and 2.4 s of CPU, for a million uploads.
    """

    def __init__(
        self,
        log: TopicLog,
        groups: ConsumerGroups,
        codec: RecordCodec,
        clock: Clock,
        uploads: UploadFilter,
        scope: Scope,
        store: ObjectStore | None,
    ) -> None:
        self._log = log
        self._groups = groups
        self._codec = codec
        self._clock = clock
        self._filter = uploads
        self._scope = scope
        self._store = store
        self._ends: dict[str, dict[int, int]] = {}
        self._ids: array[int] = array("Q")
        self._objects: array[int] = array("Q")
        self._times: array[int] = array("q")
        self._malformed: dict[int, str] = {}
        self._listed: dict[int, _Listed] = {}
        self._jobs: array[int] = array("Q")
        self._outcomes: array[int] = array("Q")
        self._job_outcomes: array[int] = array("Q")
        self._letters: dict[str, _Open] = {}
        # Partition, offset, upload: what identify had still before it.
        self._pending: list[tuple[int, int, int]] = []
        self._known = ObjectTimes()

    async def read(self) -> Ledger:
        """Return the ledger as of this moment. Raises BrokerUnavailable, StoreUnavailable."""
        groups = await self._groups.committed(sorted(set(READERS.values())))
        committed = {topic: of_topic(groups[group], topic) for topic, group in READERS.items()}
        await self._read_uploads(committed[UPLOADS])
        await self._read_backfill()
        moving = await self._moving(committed)
        await self._read_letters()
        redriven = await read_redriven(self._log, self._codec)
        await self._read_outcomes()
        missing, young = await self._never_notified()
        return await self._count(moving, set(redriven), missing, young)

    # --- reading ---

    async def _new(self, topic: str) -> AsyncIterator[SourceRecord]:
        """Yield what was added to `topic` since the last time."""
        before = self._ends.get(topic)
        since = self._scope.since_ms
        start: Bound | None = AtOffsets(before) if before is not None else AtTime(since) if since is not None else None
        end = await self._log.ends(topic)
        async with aclosing(self._log.scan(topic, start, AtOffsets(end))) as records:
            async for record in records:
                yield record
        self._ends[topic] = end

    async def _read_uploads(self, done: Mapping[int, int]) -> None:
        self._pending = [entry for entry in self._pending if entry[1] >= done.get(entry[0], 0)]
        async for record in self._new(UPLOADS):
            for found in self._uploads_in(record):
                if record.offset >= done.get(record.partition, 0):
                    self._pending.append((record.partition, record.offset, found))

    def _uploads_in(self, record: SourceRecord) -> Iterator[int]:
        for parsed in parse_message(record.value):
            event = parsed.event
            if isinstance(event, Created) and self._looked_at(event.bucket, event.key):
                upload = short(identity.upload_id_of(event))
                object_id = identity.object_id(event.bucket, event.key, event.etag, event.version_id)
                self._ids.append(upload)
                self._objects.append(short(object_id))
                self._times.append(event.event_time_ms)
                if self._store is not None:
                    self._known.add(object_id, event.event_time_ms)
                yield upload
            elif isinstance(event, Malformed) and self._scope.holds(event.bucket, event.key):
                letter_id = identity.letter_id(record.position, parsed.part, IDENTIFY.name)
                self._malformed[short(letter_id)] = letter_id
                yield short(letter_id)

    def _looked_at(self, bucket: str, key: str) -> bool:
        return self._filter.admits(bucket, key) and self._scope.holds(bucket, key)

    async def _read_backfill(self) -> None:
        async for record in self._new(BACKFILL):
            task = self._task(record)
            if task is None or not self._scope.holds(task.bucket, task.key):
                continue
            if task.job_id is not None:
                self._jobs.append(short(task.upload_id))
            elif task.covers_from_ms is not None and task.covers_until_ms is not None:
                object_id = identity.object_id_of(task)
                self._listed[short(task.upload_id)] = _Listed(
                    task.upload_id,
                    task.bucket,
                    task.key,
                    short(object_id),
                    task.covers_from_ms,
                    task.covers_until_ms,
                )
                if self._store is not None:
                    self._known.add(object_id, task.event_time_ms)

    async def _moving(self, committed: Mapping[str, Mapping[int, int]]) -> Ids:
        """Return the uploads that an agent had still before it when the committed offsets were read."""
        moving = [entry[2] for entry in self._pending]
        for topic in READERS:
            if topic == UPLOADS:
                continue
            offsets = AtOffsets(committed[topic])
            async with aclosing(self._log.scan(topic, offsets)) as records:
                async for record in records:
                    task = self._task(record)
                    if task is not None:
                        moving.append(short(task.upload_id))
        return ids_of(moving)

    def _task(self, record: SourceRecord) -> ImageTask | None:
        try:
            return self._codec.decode_as(record.value, ImageTask)
        except Poison:
            return None  # score or retry made a dead letter of it

    async def _read_letters(self) -> None:
        async for record in self._new(DEAD_LETTERS):
            try:
                letter = self._codec.decode_as(record.value, DeadLetter)
            except Poison:
                continue
            if letter.agent == IDENTIFY.name and letter.part < 0 and letter.kind in _WHOLE_MESSAGES:
                self._add_message(letter)
                continue
            if letter.agent == IDENTIFY.name:
                found = _Open(letter.letter_id, short(letter.letter_id), False)
                bucket, key = letter.bucket, letter.object_key
            elif (task := task_of_letter(self._codec, letter)) is not None:
                found = _Open(letter.letter_id, short(task.upload_id), task.job_id is not None)
                bucket, key = task.bucket, task.key
            else:
                found = _Open(letter.letter_id, None, False)
                bucket, key = letter.bucket, letter.object_key
            if self._scope.holds(bucket, key):
                self._letters[letter.letter_id] = found

    def _add_message(self, letter: DeadLetter) -> None:
        """Note the letter of a message that identify has not handled, once for each upload that it tells of."""
        uploads = 0
        for parsed in parse_message(letter.value):
            event = parsed.event
            if isinstance(event, Created) and self._looked_at(event.bucket, event.key):
                uploads += 1
                upload = short(identity.upload_id_of(event))
                self._letters[f"{letter.letter_id}/{upload}"] = _Open(letter.letter_id, upload, False)
        if not uploads and self._scope.holds(letter.bucket, letter.object_key):
            self._letters[letter.letter_id] = _Open(letter.letter_id, None, False)

    async def _read_outcomes(self) -> None:
        async for record in self._new(PREDICTIONS):
            outcome = self._outcome(record)
            if outcome is not None:
                (self._outcomes if outcome.job_id is None else self._job_outcomes).append(short(outcome.upload_id))

    def _outcome(self, record: SourceRecord) -> ImagePrediction | None:
        try:
            outcome = self._codec.decode_as(record.value, ImagePrediction)
        except Poison:
            return None
        return outcome if self._scope.holds(outcome.bucket, outcome.key) else None

    async def _never_notified(self) -> tuple[list[_Missing], int]:
        """Return the listed objects that nobody told of, and how many more are too young to say so."""
        if self._store is None or self._scope.bucket is None:
            return [], 0
        missing: list[_Missing] = []
        young = 0
        newest_ms = self._clock.now_ms() - int(NOTIFICATION_SECONDS * 1000)
        batch: list[tuple[_Missing, str, int]] = []

        def settle() -> int:
            seen = self._known.seen_since(
                (object_id for _, object_id, _ in batch),
                (modified // 1000 * 1000 - MODIFIED_SLACK_MS for *_, modified in batch),
            )
            unseen = [entry for entry, hit in zip(batch, seen, strict=True) if not hit]
            missing.extend(entry[0] for entry in unseen if entry[2] <= newest_ms)
            batch.clear()
            return sum(entry[2] > newest_ms for entry in unseen)

        async for listed in self._store.list(self._scope.bucket, self._scope.prefix):
            since = self._scope.since_ms
            if not self._filter.admits(listed.bucket, listed.key) or (since is not None and listed.modified_ms < since):
                continue
            object_id = identity.object_id(listed.bucket, listed.key, listed.etag, None)
            batch.append((_Missing(listed.bucket, listed.key, listed.etag), object_id, listed.modified_ms))
            if len(batch) >= _LISTING_BATCH:
                young += settle()
        return missing, young + settle()

    # --- counting ---

    async def _count(self, moving: Ids, redriven: set[str], never: list[_Missing], young: int) -> Ledger:
        alias = self._same_uploads()
        letters = [letter for letter in self._letters.values() if letter.letter_id not in redriven]
        closed = {number for number, letter_id in self._malformed.items() if letter_id in redriven}
        notified = np.unique(as_ids(self._ids))
        extra = [number for number in self._listed if number not in alias]
        malformed = [number for number in self._malformed if number not in closed]
        side = Side(
            expected=np.unique(np.concatenate((notified, ids_of(extra), ids_of(malformed)))),
            outcomes=_renamed(as_ids(self._outcomes), alias),
            letters=_renamed(
                ids_of(letter.upload for letter in letters if letter.upload is not None and not letter.job), alias
            ),
            pending=_renamed(moving, alias),
        )
        jobs = Side(
            expected=np.unique(as_ids(self._jobs)),
            outcomes=as_ids(self._job_outcomes).copy(),
            letters=ids_of(letter.upload for letter in letters if letter.upload is not None and letter.job),
            pending=moving,
        )
        if self._scope.since_ms is not None:
            side = await self._with_earlier_outcomes(side, alias)
        outcomes, open_letters, lost, twice, in_flight = side.sums()
        job_outcomes, job_letters, job_lost, job_twice, job_in_flight = jobs.sums()
        ledger = Ledger(
            uploads=len(side.expected) + len(never) + young,
            outcomes=outcomes,
            open_dead_letters=open_letters,
            lost=len(lost) + len(never),
            duplicated=len(twice),
            in_flight=in_flight + young,
            never_notified=len(never),
            job_tasks=len(jobs.expected),
            job_outcomes=job_outcomes,
            job_open_dead_letters=job_letters,
            job_lost=len(job_lost),
            job_duplicated=len(job_twice),
            job_in_flight=job_in_flight,
            other_dead_letters=sum(letter.upload is None for letter in letters),
        )
        if ledger.balanced:
            return ledger
        reverse = {target: number for number, target in alias.items()}
        gaps = {int(number) for number in lost[:EXAMPLES]} | {int(number) for number in job_lost[:EXAMPLES]}
        doubles = {int(number) for number in twice[:EXAMPLES]} | {int(number) for number in job_twice[:EXAMPLES]}
        doubles |= {reverse[number] for number in doubles if number in reverse}
        examples = [
            Example("never notified", "", missing.bucket, missing.key, f"ETag {missing.etag}")
            for missing in never[:EXAMPLES]
        ]
        return replace(ledger, examples=(*examples, *await self._gaps(gaps), *await self._doubles(doubles)))

    def _same_uploads(self) -> dict[int, int]:
        """Return for listed uploads the notified upload that is the same one: object and time window agree.

        One listed task stands for one notification, as at the claims. Of several, the one without an outcome is meant:
        its own task was the repeat.
        """
        if not self._listed:
            return {}
        wanted = {listed.object_short for listed in self._listed.values()}
        hits = np.flatnonzero(np.isin(as_ids(self._objects), ids_of(wanted)))
        by_object: dict[int, dict[int, int]] = {}
        for index in hits:
            by_object.setdefault(self._objects[index], {})[self._ids[index]] = self._times[index]
        outcomes = set(
            as_ids(self._outcomes)[np.isin(as_ids(self._outcomes), ids_of(self._notified(by_object)))].tolist()
        )
        alias: dict[int, int] = {}
        taken: set[int] = set()
        for number, listed in self._listed.items():
            found = [
                upload
                for upload, time in by_object.get(listed.object_short, {}).items()
                if listed.from_ms <= time <= listed.until_ms and upload not in taken
            ]
            if found:
                alias[number] = min(found, key=lambda upload: (upload in outcomes, upload))
                taken.add(alias[number])
        return alias

    @staticmethod
    def _notified(by_object: Mapping[int, Mapping[int, int]]) -> Iterator[int]:
        for uploads in by_object.values():
            yield from uploads

    async def _with_earlier_outcomes(self, side: Side, alias: Mapping[int, int]) -> Side:
        """Return `side` with the outcomes before the time looked at of uploads that were repeated after it."""
        _, _, lost, _, _ = side.sums()
        if not len(lost) or self._scope.since_ms is None:
            return side
        missing = set(lost.tolist())
        earlier = []
        async with aclosing(self._log.scan(PREDICTIONS, None, AtTime(self._scope.since_ms))) as records:
            async for record in records:
                outcome = self._outcome(record)
                if outcome is not None:
                    number = short(outcome.upload_id)
                    number = alias.get(number, number)
                    if number in missing:
                        earlier.append(number)
        return replace(side, outcomes=np.concatenate((side.outcomes, ids_of(earlier))))

    # --- examples ---

    async def _gaps(self, wanted: set[int]) -> list[Example]:
        found = [
            Example("lost", listed.upload_id, listed.bucket, listed.key, "enqueued by reconcile")
            for number, listed in self._listed.items()
            if number in wanted
        ]
        left = wanted - {short(example.upload_id) for example in found}
        for topic in (UPLOADS, BACKFILL):
            if not left:
                break
            async with aclosing(self._log.scan(topic)) as records:
                async for record in records:
                    for example in self._named(record):
                        if short(example.upload_id) in left:
                            left.discard(short(example.upload_id))
                            found.append(example)
        return found

    def _named(self, record: SourceRecord) -> Iterator[Example]:
        where = f"{record.topic}/{record.partition}/{record.offset}"
        if record.topic == BACKFILL:
            task = self._task(record)
            if task is not None:
                yield Example("lost", task.upload_id, task.bucket, task.key, where)
            return
        for parsed in parse_message(record.value):
            event = parsed.event
            if isinstance(event, Created):
                yield Example("lost", identity.upload_id_of(event), event.bucket, event.key, where)
            elif isinstance(event, Malformed):
                letter_id = identity.letter_id(record.position, parsed.part, IDENTIFY.name)
                yield Example("lost", letter_id, event.bucket or "", event.key or "", f"{where} part {parsed.part}")

    async def _doubles(self, wanted: set[int]) -> list[Example]:
        found = []
        if wanted:
            async with aclosing(self._log.scan(PREDICTIONS)) as records:
                async for record in records:
                    outcome = self._outcome(record)
                    if outcome is not None and short(outcome.upload_id) in wanted:
                        where = f"{record.topic}/{record.partition}/{record.offset} attempt {outcome.attempt}"
                        found.append(Example("duplicated", outcome.upload_id, outcome.bucket, outcome.key, where))
        return found


def task_of_letter(codec: RecordCodec, letter: DeadLetter) -> ImageTask | None:
    """Return the task in a letter; None when its record was something else, cannot be read, or went to score too."""
    if letter.agent == INDEX.name:
        return None
    try:
        return codec.decode_as(letter.value, ImageTask)
    except Poison:
        return None


def _renamed(ids: Ids, alias: Mapping[int, int]) -> Ids:
    """Return a copy of `ids` in which each listed upload has the name of its notification."""
    renamed = ids.copy()
    if alias:
        for index in np.flatnonzero(np.isin(renamed, ids_of(alias))):
            renamed[index] = alias[int(renamed[index])]
    return renamed
