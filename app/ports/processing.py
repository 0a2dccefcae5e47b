"""What a lane needs of a use case, and what a use case needs of its lane."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from app.ports.records import Completion, SourceRecord


class Processor(Protocol):
    """One agent's use case, framework-free (app/pipeline). The lane calls it for records concurrently."""

    async def process(self, record: SourceRecord) -> Completion:
        """Return what becomes of `record`.

        Concurrent calls may finish in any order; the lane releases in source order. A bad record is a completion with a
        dead letter, never an exception: an exception of any kind ends the process. Waiting for a service that is away
        happens inside (the lane shows `waiting-for-store` by `LaneStatus`). Cancellable at every await; a cancelled
        record is handled again later.
        """
        ...


@runtime_checkable
class FollowsPartitions(Protocol):
    """A Processor that must know where delivery of each partition begins."""

    def begins_at(self, topic: str, partition: int, position: int) -> None:
        """Begin anew with a partition: its records come from offset `position` on, and older calls of `process` for it
        are all cancelled. Quick; called before the first record."""
        ...


@runtime_checkable
class GivesUp(Protocol):
    """A Processor whose dead letters name more than the record's bytes: an upload, a claim."""

    def given_up(self, record: SourceRecord, kind: str, detail: str) -> Completion:
        """Return the completion of a record that must not be handled: its dead letter of `kind`, with its claim.

        Only decodes the record. Never waits.
        """
        ...


class LaneStatus(Protocol):
    """What a processor says of itself while it waits, for the watchdog and /healthz."""

    def waiting(self, reason: str) -> None:
        """Say that work waits for `store`, `index`, `live`, `not-due` or `file`: standing still is then no stall."""
        ...

    def working(self) -> None:
        """Say that work goes on: from here on standing still too long ends the process."""
        ...


class Tables(Protocol):
    """Keyed state beside a partition. Reads are local and synchronous (microseconds)."""

    def get(self, table: str, partition: int, key: bytes) -> bytes | None:
        """Return the value of `key`, or None. The partition must be owned, else KeyError."""
        ...
