"""`identify`: turns bucket notifications into upload tasks, removals and dead letters."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Final, assert_never

from app.domain import identity
from app.domain.events import Created, Ignored, Malformed, Parsed, Removed, TestEvent, parse_message
from app.domain.filters import UploadFilter
from app.domain.retries import LIVE
from app.domain.tasks import first_task
from app.metrics import Meters
from app.pipeline.dead_letters import POISON, dead_letter
from app.pipeline.new_dialects import NewDialects
from app.ports.clock import Clock
from app.ports.records import Completion, Output, SourceRecord
from app.topics import REMOVED, TASKS
from schemas.records import ImageRemoved, ImageTask, Position

AGENT: Final = "identify"


class IdentifyProcessor:
    """The `Processor` of `s3.uploads`; pure except for the clock.

    `counts`: number of events since the start by kind: created, removed, filtered, ignored, test, tombstone,
    malformed. Repeats of one event give equal upload ids; `score` drops them by their claims.
    """

    def __init__(self, uploads: UploadFilter, clock: Clock, meters: Meters | None = None) -> None:
        self._uploads = uploads
        self._clock = clock
        self._meters = meters
        self._new = NewDialects(meters)
        self.counts: Counter[str] = Counter()

    async def process(self, record: SourceRecord) -> Completion:
        """Return tasks, removals and dead letters in the order of the message's records. Never raises or waits."""
        if record.value is None:
            self._count("tombstone")
            return Completion()
        outputs: list[Output] = []
        letters = 0
        now_ms = self._clock.now_ms()
        for parsed in parse_message(record.value):
            outputs += self._outputs(record, parsed, now_ms)
            letters += isinstance(parsed.event, Malformed)
        return Completion(outputs=tuple(outputs), dead_letters=letters)

    def _count(self, kind: str) -> None:
        self.counts[kind] += 1
        if self._meters is not None:
            self._meters.count("sightline_events_total", kind=kind)

    def _outputs(self, record: SourceRecord, parsed: Parsed, now_ms: int) -> tuple[Output, ...]:
        if isinstance(parsed.event, Created | Removed | Ignored):
            self._new.note(parsed.event)
        match parsed.event:
            case Created() as event:
                if not self._uploads.admits(event.bucket, event.key):
                    self._count("filtered")
                    return ()
                self._count("created")
                task = task_of(event, record.position, now_ms)
                return (Output(TASKS, identity.task_key(task), task),)
            case Removed() as event:
                if not self._uploads.admits(event.bucket, event.key):
                    self._count("filtered")
                    return ()
                self._count("removed")
                return tuple(
                    Output(REMOVED, identity.image_key(removal.bucket, removal.key), removal)
                    for removal in removals_of(event, record.position)
                )
            case Malformed() as event:
                self._count("malformed")
                letter = dead_letter(
                    record,
                    agent=AGENT,
                    kind=POISON,
                    reason=event.reason,
                    detail=event.detail,
                    now_ms=now_ms,
                    part=parsed.part,
                    value=event.value,
                    bucket=event.bucket,
                    object_key=event.key,
                )
                return (letter,)
            case Ignored():
                self._count("ignored")
                return ()
            case TestEvent():
                self._count("test")
                return ()
            case never:
                assert_never(never)


def task_of(event: Created, source: Position, now_ms: int) -> ImageTask:
    """Return the task of the first attempt to score the upload that `event` reports."""
    return first_task(
        event,
        upload_id=identity.upload_id_of(event),
        order_key=identity.order_key_of(event),
        identified_at_ms=now_ms,
        source=source,
        lane=LIVE,
    )


def removals_of(event: Removed, source: Position) -> tuple[ImageRemoved, ...]:
    """Return the removal that `event` reports, once for each reading of its key.

    The outcome of an upload has the reading under which the object was read. A removed object cannot be read any more,
    so its removal is published under both readings. The second one concerns only images under the other reading
    (docs/adr/0007-removals-by-both-readings.md).
    """
    first = ImageRemoved(
        removal_id=identity.removal_id(event),
        bucket=event.bucket,
        key=event.key,
        version_id=event.version_id,
        delete_marker=event.delete_marker,
        dialect=event.dialect,
        sequencer=event.sequencer,
        order_key=identity.order_key_of(event),
        event_time_ms=event.event_time_ms,
        source=source,
    )
    if event.alternate_key is None:
        return (first,)
    other_id = identity.other_removal_id(first.removal_id)
    return first, replace(first, removal_id=other_id, key=event.alternate_key, event_key=event.key)
