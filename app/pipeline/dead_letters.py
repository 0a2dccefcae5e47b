"""Construction of dead letters, the same for every agent."""

from __future__ import annotations

from typing import Final, TypeVar

from app.domain import identity
from app.errors import Poison
from app.ports.clock import Clock
from app.ports.processing import GivesUp, Processor
from app.ports.records import Completion, Output, RecordCodec, SourceRecord
from app.streaming.suspects import CRASHES, GivenUp
from app.topics import DEAD_LETTERS
from schemas.records import DeadLetter, ImageTask, Record

# The only exception to the limit of 16 KB for records. A broker's default limit is 1,048,588 bytes for a message:
# 900 KiB of value, 16 KiB of key and 5 KB for the rest stay below it, and below aiokafka's default of 1 MiB for a
# request. S3 sends at most 64 KB and SQS carries at most 1 MiB, so truncation is rare.
MAX_VALUE_BYTES: Final = 900 * 1024
MAX_KEY_BYTES: Final = 16 * 1024
MAX_DETAIL_CHARACTERS: Final = 500

POISON: Final = "poison"
USED_UP: Final = "used_up"

_R = TypeVar("_R", bound=Record)


def dead_letter(
    record: SourceRecord,
    *,
    agent: str,
    kind: str,
    reason: str,
    detail: str,
    now_ms: int,
    part: int = -1,
    value: bytes | None = None,
    attempts: int = 1,
    first_seen_ms: int | None = None,
    upload_id: str | None = None,
    bucket: str | None = None,
    object_key: str | None = None,
    job_id: str | None = None,
) -> Output:
    """Return the dead letter of `record`, or of its part `part` whose bytes are `value`.

    `kind` is POISON (cannot be read), USED_UP (all attempts failed) or a kind of GivenUp. The value is truncated at
    MAX_VALUE_BYTES, and the letter then contains its true length. Such a letter is redriven from its source position
    while the topic still has the record.
    """
    original = record.value if value is None else value
    letter = DeadLetter(
        letter_id=identity.letter_id(record.position, part, agent),
        source=record.position,
        part=part,
        source_timestamp_ms=max(0, record.timestamp_ms),
        agent=agent,
        kind=kind,
        reason=reason,
        # The text of a library may quote bytes of a server that are not valid UTF-8; a record must not contain them.
        detail=detail[:MAX_DETAIL_CHARACTERS].encode("utf-8", "replace").decode(),
        attempts=attempts,
        upload_id=upload_id,
        bucket=bucket,
        object_key=object_key,
        key=record.key if record.key is None or len(record.key) <= MAX_KEY_BYTES else None,
        value=None if original is None else original[:MAX_VALUE_BYTES],
        value_bytes=0 if original is None else len(original),
        first_seen_ms=max(0, record.timestamp_ms) if first_seen_ms is None else first_seen_ms,
        dead_at_ms=now_ms,
        job_id=job_id,
    )
    return Output(DEAD_LETTERS, identity.letter_key(record.position), letter)


class DeadLetters:
    """Decoding for one agent: a record that cannot be decoded becomes a dead letter."""

    def __init__(self, agent: str, codec: RecordCodec, clock: Clock) -> None:
        self._agent = agent
        self._codec = codec
        self._clock = clock

    def decoded(self, record: SourceRecord, kind: type[_R]) -> _R | Completion:
        """Return the `kind` in `record`. If it cannot be decoded, return the completion with its dead letter."""
        try:
            return self._codec.decode_as(record.value, kind)
        except Poison as poison:
            return self.poison(record, poison)

    def poison(self, record: SourceRecord, poison: Poison, task: ImageTask | None = None) -> Completion:
        """Return the completion of a record that the agent cannot use because of `poison`."""
        letter = self.letter(record, POISON, poison.reason, poison.detail, task=task)
        return Completion(outputs=(letter,), dead_letters=1)

    def task_in(self, record: SourceRecord) -> ImageTask | None:
        """Return the task in `record`, or None if it cannot be decoded."""
        try:
            return self._codec.decode_as(record.value, ImageTask)
        except Poison:
            return None

    def letter(
        self, record: SourceRecord, kind: str, reason: str, detail: str, *, task: ImageTask | None, attempts: int = 1
    ) -> Output:
        """Return the dead letter of `record`. It names the upload of `task`, if the task could be decoded."""
        return dead_letter(
            record,
            agent=self._agent,
            kind=kind,
            reason=reason,
            detail=detail,
            now_ms=self._clock.now_ms(),
            attempts=attempts,
            first_seen_ms=task.identified_at_ms if task else None,
            upload_id=task.upload_id if task else None,
            bucket=task.bucket if task else None,
            object_key=task.key if task else None,
            job_id=task.job_id if task else None,
        )


class GiveUp:
    """Factory of completions for the records that one agent must not handle."""

    def __init__(self, agent: str, processor: Processor, clock: Clock) -> None:
        self._agent = agent
        self._processor = processor
        self._clock = clock

    def __call__(self, record: SourceRecord, given_up: GivenUp) -> Completion:
        """Return the dead letter of `record`, with the details that the processor reads from it.

        The processor decodes the record for that. After more than CRASHES crashes even this crashed, so the letter then
        has only the bytes.
        """
        if isinstance(self._processor, GivesUp) and given_up.crashes <= CRASHES:
            return self._processor.given_up(record, given_up.kind, given_up.detail)
        letter = dead_letter(
            record,
            agent=self._agent,
            kind=given_up.kind,
            reason=given_up.kind,
            detail=given_up.detail,
            now_ms=self._clock.now_ms(),
        )
        return Completion(outputs=(letter,), dead_letters=1)
