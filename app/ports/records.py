"""Records: as a worker reads them, and the results that leave in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

from app.domain.claims import StoredClaim
from schemas.records import Position, Record

_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """One Kafka record as it was read; bytes are untouched."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None

    @property
    def position(self) -> Position:
        """Where it lies."""
        return Position(self.topic, self.partition, self.offset)


@dataclass(frozen=True, slots=True)
class Output:
    """One record to publish. The topic name is without the installation's prefix; the partition follows the key."""

    topic: str
    key: bytes
    record: Record


@dataclass(frozen=True, slots=True)
class Claim:
    """The right of one source record to be the one that publishes the outcome of `upload_id`.

    Taken at release, in source order: a stored claim of another position with the same or a higher attempt makes this
    record a repeat (no output); a lower stored attempt is taken over.
    `app.domain.claims.decide(row, claim)` is that decision, on the row `claims.row_key(upload_id, object_id)` of table
    `uploads`; what it returns to be stored is written, and its changelog record awaited, before the commit.
    """

    upload_id: str
    attempt: int
    # The second key (app/domain/claims.py decides with it): the object's identity without a time, empty for a job; the
    # upload's event time; and, of a task that reconcile made from a listing, the event times it stands for.
    object_id: str = ""
    event_time_ms: int = 0
    covers_from_ms: int | None = None
    covers_until_ms: int | None = None

    def stored_at(self, position: Position) -> StoredClaim:
        """Return this claim as the record at `position` asks for it."""
        return StoredClaim(
            self.upload_id,
            self.attempt,
            position,
            self.event_time_ms,
            self.covers_from_ms,
            self.covers_until_ms,
        )


@dataclass(frozen=True, slots=True)
class TableWrite:
    """An upsert made after the commit; losing it costs work, never correctness."""

    table: str
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Completion:
    """What became of one source record: everything that leaves together with its offset, in one transaction.

    `dead_letters` counts against the ceiling. An empty completion only moves the offset.
    """

    outputs: tuple[Output, ...] = ()
    claim: Claim | None = None
    writes: tuple[TableWrite, ...] = ()
    dead_letters: int = 0


class RecordCodec(Protocol):
    """Records to and from the wire. Pure computation; safe to share between tasks."""

    def encode(self, record: Record) -> bytes:
        """Return the framed bytes of `record` in the newest version of its schema."""
        ...

    def decode(self, value: bytes | None) -> Record:
        """Return the record in `value`. Raises Poison(`not_avro` | `unknown_schema_id` | `undecodable`)."""
        ...

    def decode_as(self, value: bytes | None, record: type[_R]) -> _R:
        """Return the record in `value`, which must be a `record`; else Poison(`unexpected_record`)."""
        ...
