"""Reconcile: objects of a bucket that nobody told of, found by its listing and put on the backfill lane.

Notifications get lost: servers were measured to drop them while a broker is down. What is enqueued here claims its
upload by object and time window, so that a notification which arrives late after all is a repeat, and one that arrived
first makes this task the repeat (docs/adr/0005-listed-uploads.md).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Final

from app.domain import identity
from app.domain.events import Created, parse_message
from app.domain.filters import UploadFilter
from app.errors import Poison
from app.ledger.digest_sets import ObjectTimes
from app.ledger.ledger import MODIFIED_SLACK_MS, READERS, task_of_letter
from app.pipeline.listing import task_of_listed
from app.ports.clock import Clock
from app.ports.objects import ListedObject, ObjectStore
from app.ports.publishing import Producer
from app.ports.records import RecordCodec
from app.ports.topics import AtOffsets, AtTime, ConsumerGroups, TopicLog, of_topic
from app.topics import BACKFILL, DEAD_LETTERS, PREDICTIONS, UPLOADS
from schemas.records import DeadLetter, ImagePrediction, ImageTask

_LISTING_BATCH: Final = 1_000
_EXAMPLES: Final = 10


@dataclass(frozen=True, slots=True)
class Place:
    """What to look at: `older_than_ms` leaves out what may still be notified, `within_ms` what is too old to tell.

    Outcomes are kept for a time only: an object older than what is scanned would look as if it had none.
    """

    bucket: str
    prefix: str
    older_than_ms: int
    within_ms: int


@dataclass(slots=True)
class Counts:
    """What was found. Every listed object is in exactly one of the groups after `listed`."""

    listed: int = 0
    filtered: int = 0
    too_young: int = 0
    too_old: int = 0
    accounted: int = 0
    missing: int = 0
    enqueued: int = 0
    outcomes_scanned: int = 0
    examples: list[str] = field(default_factory=list)


# Told of progress: the counts so far and the phase, `scanning`, or `listing`.
Report = Callable[[Counts, str], None]


@dataclass(frozen=True, slots=True)
class ReconcileParts:
    """Everything that it needs from outside."""

    log: TopicLog
    groups: ConsumerGroups
    codec: RecordCodec
    clock: Clock
    uploads: UploadFilter
    store: ObjectStore
    producer: Producer | None


async def reconcile(parts: ReconcileParts, place: Place, *, rate_per_second: float | None, report: Report) -> Counts:
    """Return what was found; with a producer what is missing is enqueued on the way, at most at the rate.

    Memory: 16 bytes for each outcome and task in the time looked at, 48 while they are sorted (48 MB a million); the
    listing itself passes through in batches of 1,000. Ended halfway it may simply be started again: an object has the
    same upload id every time. Raises BrokerUnavailable, StoreUnavailable, BucketUnavailable.
    """
    counts = Counts()
    known = await _accounted(parts, place, counts, report)
    began_ms = parts.clock.now_ms()
    pace = _Pace(parts.clock, rate_per_second)
    async for batch in _batches(parts.store.list(place.bucket, place.prefix)):
        candidates = [listed for listed in batch if _eligible(parts, place, counts, listed, began_ms)]
        seen = known.seen_since(
            (identity.object_id(listed.bucket, listed.key, listed.etag, None) for listed in candidates),
            (covers_from_ms(listed.modified_ms) for listed in candidates),
        )
        missing = [listed for listed, hit in zip(candidates, seen, strict=True) if not hit]
        counts.accounted += len(candidates) - len(missing)
        counts.missing += len(missing)
        counts.examples += [f"s3://{listed.bucket}/{listed.key}" for listed in missing][
            : _EXAMPLES - len(counts.examples)
        ]
        if parts.producer is not None:
            tasks = [listed_task(listed, began_ms, place.older_than_ms) for listed in missing]
            for some in pace.portions(tasks):
                await parts.producer.send_batch(
                    [(BACKFILL, identity.task_key(task), parts.codec.encode(task)) for task in some]
                )
                counts.enqueued += len(some)
                report(counts, "listing")
                await pace.wait(len(some))
        report(counts, "listing")
    return counts


def covers_from_ms(modified_ms: int) -> int:
    """Return the earliest event time of the upload that a listing shows with this time of modification.

    AWS lists whole seconds; versitygw lists fractions and tells events in whole seconds.
    """
    return modified_ms // 1000 * 1000 - MODIFIED_SLACK_MS


def listed_task(listed: ListedObject, listed_at_ms: int, older_than_ms: int) -> ImageTask:
    """Return the task of an object that nobody told of.

    It stands for event times up to the middle between the youngest object taken and the listing: a multipart upload is
    listed under the time when it began and told of when it was complete, and clocks differ. What is uploaded after the
    listing lies behind that, by half of `older_than_ms`, and is an upload of its own.
    """
    return replace(
        task_of_listed(listed, listed_at_ms),
        covers_from_ms=covers_from_ms(listed.modified_ms),
        covers_until_ms=listed_at_ms - older_than_ms // 2,
    )


def _eligible(parts: ReconcileParts, place: Place, counts: Counts, listed: ListedObject, now_ms: int) -> bool:
    counts.listed += 1
    if not parts.uploads.admits(listed.bucket, listed.key):
        counts.filtered += 1
    elif listed.modified_ms > now_ms - place.older_than_ms:
        counts.too_young += 1
    elif listed.modified_ms < now_ms - place.within_ms:
        counts.too_old += 1
    else:
        return True
    return False


async def _batches(objects: AsyncIterator[ListedObject]) -> AsyncIterator[list[ListedObject]]:
    batch: list[ListedObject] = []
    async for listed in objects:
        batch.append(listed)
        if len(batch) >= _LISTING_BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


async def _accounted(parts: ReconcileParts, place: Place, counts: Counts, report: Report) -> ObjectTimes:
    """Return the objects that have an outcome, a dead letter or a task in flight, with their latest event times."""
    known = ObjectTimes()
    # Before everything else: what the agents had done by then is on a topic that is read afterwards.
    groups = await parts.groups.committed(sorted(set(READERS.values())))

    def note(thing: ImageTask | ImagePrediction) -> None:
        if thing.bucket == place.bucket and thing.key.startswith(place.prefix) and thing.job_id is None:
            known.add(identity.object_id(thing.bucket, thing.key, thing.etag, thing.version_id), thing.event_time_ms)

    for topic, group in READERS.items():
        async with aclosing(parts.log.scan(topic, AtOffsets(of_topic(groups[group], topic)))) as records:
            async for record in records:
                if topic == UPLOADS:
                    for parsed in parse_message(record.value):
                        event = parsed.event
                        if isinstance(event, Created) and event.bucket == place.bucket:
                            object_id = identity.object_id(event.bucket, event.key, event.etag, event.version_id)
                            known.add(object_id, event.event_time_ms)
                elif (task := _decoded(parts.codec, record.value, ImageTask)) is not None:
                    note(task)
    since = AtTime(parts.clock.now_ms() - place.within_ms - MODIFIED_SLACK_MS)
    async with aclosing(parts.log.scan(DEAD_LETTERS, since)) as records:
        async for record in records:
            letter = _decoded(parts.codec, record.value, DeadLetter)
            # Redriven or not: then its task is in flight or has come to something by now.
            if letter is not None and (task := task_of_letter(parts.codec, letter)) is not None:
                note(task)
    async with aclosing(parts.log.scan(PREDICTIONS, since)) as records:
        async for record in records:
            outcome = _decoded(parts.codec, record.value, ImagePrediction)
            if outcome is not None:
                note(outcome)
                counts.outcomes_scanned += 1
                if counts.outcomes_scanned % _LISTING_BATCH == 0:
                    report(counts, "scanning")
    return known


def _decoded(codec: RecordCodec, value: bytes | None, record: type[Any]) -> Any:
    try:
        return codec.decode_as(value, record)
    except Poison:
        return None


class _Pace:
    """Keeps to a rate by waiting after each portion; a portion is at most what one second allows."""

    def __init__(self, clock: Clock, rate_per_second: float | None) -> None:
        self._clock = clock
        self._rate = rate_per_second
        self._sent = 0
        self._began = clock.monotonic()

    def portions(self, tasks: Sequence[ImageTask]) -> list[Sequence[ImageTask]]:
        size = _LISTING_BATCH if self._rate is None else max(1, min(_LISTING_BATCH, int(self._rate)))
        return [tasks[at : at + size] for at in range(0, len(tasks), size)]

    async def wait(self, sent: int) -> None:
        self._sent += sent
        if self._rate is not None:
            ahead_seconds = self._began + self._sent / self._rate - self._clock.monotonic()
            if ahead_seconds > 0:
                await self._clock.sleep(ahead_seconds)
