"""Claims: which source record may publish the outcome of an upload. Pure; the lane keeps the rows in table `uploads`.

A row belongs to an object identity (bucket, key, ETag) and lists the claims on it, the newest last. Repeats of one
notification meet there by their upload id. What reconcile enqueues from a bucket listing has no notification's id: it
claims a window of event times instead, and meets the late notification of the same upload in the same row, whichever of
the two comes first. An upload of the same bytes outside the window is a new upload. See
docs/adr/0005-listed-uploads.md.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Final

from schemas.records import Position

# Uploads of the same bytes under the same key within the claims' lifetime that are told apart; S3 repeats an event
# within minutes, so sixteen later uploads of the very same object are far beyond any repeat. 16 claims take 1.5 KB.
MAX_CLAIMS_PER_ROW: Final = 16

_VERSION: Final = 1
_FIXED: Final = struct.Struct(">HIqqqq")
_LENGTH: Final = struct.Struct(">B")
_NO_TIME: Final = -1


@dataclass(frozen=True, slots=True)
class StoredClaim:
    """One claim of a row.

    With `covers_from_ms` and `covers_until_ms` it came from a listing; `stands_for` is then the upload id of the one
    notification that was recognised as the same upload, empty before.
    """

    upload_id: str
    attempt: int
    position: Position
    event_time_ms: int
    covers_from_ms: int | None = None
    covers_until_ms: int | None = None
    stands_for: str = ""

    @property
    def listed(self) -> bool:
        """Whether it came from a listing."""
        return self.covers_from_ms is not None and self.covers_until_ms is not None

    def covers(self, event_time_ms: int) -> bool:
        """Whether the listing that it came from saw the upload of that time."""
        if self.covers_from_ms is None or self.covers_until_ms is None:
            return False
        return self.covers_from_ms <= event_time_ms <= self.covers_until_ms


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a source record: `repeat` publishes nothing; `row`, unless None, is stored before the commit."""

    repeat: bool
    row: bytes | None


def row_key(upload_id: str, object_id: str) -> bytes:
    """Return the key of the row that a claim belongs to; a job's outcome has a row of its own."""
    return (object_id or upload_id).encode()


def decide(row: bytes | None, claim: StoredClaim) -> Decision:
    """Return whether `claim` may publish, given its row.

    The same upload: its own position goes on, a higher attempt takes over, anything else is a repeat. A listed claim
    and a notification of the same object are the same upload when the event time lies in the listing's window; one
    listed claim stands for one notification. Raises ValueError for a row that nobody of this version wrote.
    """
    stored = decode_row(row)
    for index, other in enumerate(stored):
        if claim.upload_id != other.upload_id:
            continue
        if other.position == claim.position:
            return Decision(False, None)
        if claim.attempt <= other.attempt:
            return Decision(True, None)
        return Decision(False, _encode(_put(stored, index, replace(claim, stands_for=other.stands_for))))
    for index, other in enumerate(stored):
        if claim.listed and not other.listed and claim.covers(other.event_time_ms):
            return Decision(True, None)
        if claim.listed or not other.covers(claim.event_time_ms):
            continue
        if other.stands_for == claim.upload_id:
            return Decision(True, None)
        if not other.stands_for:
            return Decision(True, _encode(_put(stored, index, replace(other, stands_for=claim.upload_id))))
    return Decision(False, _encode((*stored, claim)[-MAX_CLAIMS_PER_ROW:]))


def decode_row(row: bytes | None) -> tuple[StoredClaim, ...]:
    """Return the claims of a row. Raises ValueError for bytes that are no row."""
    if row is None:
        return ()
    try:
        if row[0] != _VERSION:
            raise ValueError(f"a claims row of version {row[0]}")
        claims, at = [], 1
        while at < len(row):
            upload_id, at = _text(row, at)
            stands_for, at = _text(row, at)
            topic, at = _text(row, at)
            attempt, partition, offset, time, start, end = _FIXED.unpack_from(row, at)
            at += _FIXED.size
            claim = StoredClaim(upload_id, attempt, Position(topic, partition, offset), time, stands_for=stands_for)
            claims.append(claim if start == _NO_TIME else replace(claim, covers_from_ms=start, covers_until_ms=end))
        return tuple(claims)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"not a claims row: {error}") from error


def _encode(claims: tuple[StoredClaim, ...]) -> bytes:
    parts = [bytes([_VERSION])]
    for claim in claims:
        for text in (claim.upload_id, claim.stands_for, claim.position.topic):
            encoded = text.encode()
            parts += (_LENGTH.pack(len(encoded)), encoded)
        start, end = claim.covers_from_ms, claim.covers_until_ms
        window = (_NO_TIME, _NO_TIME) if start is None or end is None else (max(0, start), end)
        parts.append(
            _FIXED.pack(
                min(claim.attempt, 0xFFFF),
                claim.position.partition,
                claim.position.offset,
                claim.event_time_ms,
                *window,
            )
        )
    return b"".join(parts)


def _text(row: bytes, at: int) -> tuple[str, int]:
    (length,) = _LENGTH.unpack_from(row, at)
    start = at + _LENGTH.size
    if start + length > len(row):
        raise IndexError("cut off")
    return row[start : start + length].decode(), start + length


def _put(claims: tuple[StoredClaim, ...], index: int, claim: StoredClaim) -> tuple[StoredClaim, ...]:
    return (*claims[:index], claim, *claims[index + 1 :])
