"""The dead letter of a record on one of our own topics that does not decode."""

from __future__ import annotations

import hashlib

from app import topics
from app.errors import Poison
from app.ports import Completion, Output, SourceRecord
from schemas.records import DeadLetter

# Our own records stay under 16 KB, so this cuts only what somebody else wrote to the topic.
MAX_VALUE_BYTES = 256 * 1024


def unreadable(record: SourceRecord, agent: str, poison: Poison, now_ms: int) -> Completion:
    """Return the completion that puts `record` aside with its original bytes."""
    position = f"{record.topic}/{record.partition}/{record.offset}"
    value = record.value
    letter = DeadLetter(
        letter_id=hashlib.sha256(f"dead\x00{agent}\x00{position}\x00-1".encode()).hexdigest()[:32],
        source=record.position,
        part=-1,
        source_timestamp_ms=record.timestamp_ms,
        agent=agent,
        kind="poison",
        reason=poison.reason,
        detail=poison.detail,
        attempts=1,
        upload_id=None,
        bucket=None,
        object_key=None,
        key=record.key,
        value=None if value is None else value[:MAX_VALUE_BYTES],
        value_bytes=0 if value is None else len(value),
        first_seen_ms=record.timestamp_ms,
        dead_at_ms=now_ms,
        job_id=None,
    )
    return Completion(outputs=(Output(topics.DEAD_LETTERS, position.encode(), letter),), dead_letters=1)
