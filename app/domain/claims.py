"""Claims: the rule that decides which source record may publish the outcome of an upload. Pure.

The lane stores the rows in the table `uploads`. A row belongs to an object identity (bucket, key, ETag) and lists the
claims on it, the newest last. Repeats of one notification have the same upload id and are recognised in this row.
A task that reconcile made from a bucket listing has no notification's id: it claims a window of event times instead.
The late notification of the same upload is recognised in the same row, in either order of arrival. An upload of the
same bytes outside the window is a new upload. See docs/adr/0005-listed-uploads.md.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Final

from schemas.records import Position

# Upper bound of the uploads of equal bytes under one key that are kept apart within the lifetime of a claim. S3 repeats
# an event within minutes, so after sixteen later uploads of the same object no repeat is left. 16 claims take 1.5 KB.
MAX_CLAIMS_PER_ROW: Final = 16

_VERSION: Final = 1
_FIXED: Final = struct.Struct(">HIqqqq")
_LENGTH: Final = struct.Struct(">B")
_NO_TIME: Final = -1


@dataclass(frozen=True, slots=True)
class StoredClaim:
    """One claim of a row.

    A claim from a listing has `covers_from_ms` and `covers_until_ms`. Its `stands_for` is the upload id of the
    notification that was recognised as the same upload, or empty.
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
        """Return whether the claim came from a listing."""
        return self.covers_from_ms is not None and self.covers_until_ms is not None

    def covers(self, event_time_ms: int) -> bool:
        """Return whether `event_time_ms` lies in the window of the claim's listing."""
        if self.covers_from_ms is None or self.covers_until_ms is None:
            return False
        return self.covers_from_ms <= event_time_ms <= self.covers_until_ms


@dataclass(frozen=True, slots=True)
class Decision:
    """Result of a claim. `repeat`: publish nothing. `row`: the new row, stored before the commit; None: no change."""

    repeat: bool
    row: bytes | None


def row_key(upload_id: str, object_id: str) -> bytes:
    """Return the key of the row that a claim belongs to. The outcome of a job has its own row."""
    return (object_id or upload_id).encode()


def decide(row: bytes | None, claim: StoredClaim) -> Decision:
    """Return whether `claim` may publish, given its row.

    Claims on the same upload: the same position continues, a higher attempt takes over, every other claim is a repeat.
    A listed claim and a notification of the same object are the same upload if the event time lies in the listing's
    window. One listed claim stands for one notification. Raises ValueError for a row that this version cannot read.
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
    """Return the claims of a row. Raises ValueError for bytes that are not a row."""
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
