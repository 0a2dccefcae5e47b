"""Dialects of upload events, one row for each vendor's way to write them.

To add a dialect, add a row here and a sample in tests/samples/s3-events (docs/events.md).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from app.domain.events.fields import KeyForm, is_hex

AWS: Final = "aws"
EVENTBRIDGE: Final = "eventbridge"
MINIO: Final = "minio"
CEPH: Final = "ceph"
VERSITYGW: Final = "versitygw"
RUSTFS: Final = "rustfs"
STORAGEGRID: Final = "storagegrid"
R2: Final = "r2"
# Dialect of a record with S3's form and no event source. Unknown sources get `other:` and their name.
OTHER: Final = "other"


class Order(Enum):
    """Rule by which a dialect's sequencers order the events of one key."""

    PADDED = "hex digits, padded on the right with zeros and compared as text"
    COUNTER = "a counter that restarts with its process: compared by event time, then by number"
    LITTLE_ENDIAN = "two little-endian 32-bit numbers, seconds and nanoseconds"
    SHAPE = "unknown: a short sequencer is taken as a counter, a longer one as S3's"
    NONE = "no sequencers"


@dataclass(frozen=True, slots=True)
class Dialect:
    """One dialect.

    `source`: the event source; empty if the envelope identifies the dialect. `marked`: recognises this dialect among
    those with the same source.
    """

    name: str
    source: str
    key: KeyForm
    order: Order
    marked: Callable[[Mapping[str, Any]], bool] | None = None
    major_version: str | None = "2"
    no_version_ids: frozenset[str] = frozenset({"null"})
    # Size of a creation event without a size.
    missing_size_bytes: int | None = None
    # Kinds of creation in which size 0 means unknown.
    zero_size_unknown: frozenset[str] = frozenset()
    # `Post` without an ETag: a multipart upload begins; the object does not exist yet.
    post_begins_multipart: bool = False
    # A multipart upload is also reported as `Put`, without a sequencer. That event is ignored; the upload's own counts.
    put_repeats_multipart: bool = False


def _is_versitygw(record: Mapping[str, Any]) -> bool:
    identity, s3 = record.get("userIdentity"), record.get("s3")
    configuration = s3.get("configurationId") if isinstance(s3, dict) else None
    capital = isinstance(identity, dict) and "PrincipalId" in identity
    return capital and isinstance(configuration, str) and configuration.endswith("-global")


_ROWS: Final = (
    # versitygw has the source aws:s3 too, so its row comes first.
    Dialect(
        VERSITYGW,
        "aws:s3",
        KeyForm.RAW,
        Order.COUNTER,
        marked=_is_versitygw,
        # Its events of these kinds always have size 0.
        zero_size_unknown=frozenset({"Copy", "CompleteMultipartUpload"}),
    ),
    # moto, whose source is aws:s3 too, reports a multipart upload twice.
    Dialect(AWS, "aws:s3", KeyForm.ENCODED, Order.PADDED, put_repeats_multipart=True),
    Dialect(MINIO, "minio:s3", KeyForm.ENCODED, Order.PADDED, missing_size_bytes=0),
    Dialect(RUSTFS, "rustfs:s3", KeyForm.ENCODED, Order.PADDED, missing_size_bytes=0),
    # Its manual shows no key that would need encoding. SHAPE refuses no key.
    Dialect(STORAGEGRID, "sgws:s3", KeyForm.SHAPE, Order.PADDED),
    Dialect(CEPH, "ceph:s3", KeyForm.RAW, Order.LITTLE_ENDIAN, post_begins_multipart=True),
    Dialect(EVENTBRIDGE, "", KeyForm.RAW, Order.PADDED, major_version="1"),
    Dialect(R2, "", KeyForm.RAW, Order.NONE, major_version=None),
)
BY_NAME: Final[Mapping[str, Dialect]] = {row.name: row for row in _ROWS}
_BY_SOURCE: Final = {
    source: tuple(row for row in _ROWS if row.source == source)
    for source in {row.source for row in _ROWS if row.source}
}

_MAX_SOURCE_CHARACTERS: Final = 40
_ODD: Final = re.compile(r"[^a-z0-9:._-]")
_ENDS_LIKE_A_DIGEST: Final = re.compile(r"-[0-9a-f]{8}\Z")
# Seconds since 1970 take eight hex digits, so a shorter sequencer contains no time.
_SHORTEST_TIME: Final = 8


def dialect_of(record: Mapping[str, Any]) -> Dialect:
    """Return the dialect of a record with S3's form: its row, or a new one for an unknown event source."""
    source = record.get("eventSource")
    if not isinstance(source, str):
        return _other("")
    for row in _BY_SOURCE.get(source, ()):
        if row.marked is None or row.marked(record):
            return row
    return _other(source)


def is_named(name: str) -> bool:
    """Return whether the dialect `name` has a row."""
    return name in BY_NAME


def is_other(name: str) -> bool:
    """Return whether `name` was made for an event source without a row."""
    return name == OTHER or name.startswith(f"{OTHER}:")


def order_of(name: str, sequencer: str) -> Order:
    """Return the rule for `sequencer` in the dialect `name`. Without a row, the sequencer's shape decides."""
    row = BY_NAME.get(name)
    order = row.order if row is not None else Order.SHAPE
    if order is Order.SHAPE:
        order = Order.COUNTER if is_hex(sequencer) and len(sequencer) < _SHORTEST_TIME else Order.PADDED
    return order


def _other(source: str) -> Dialect:
    return Dialect(_name_of(source), source, KeyForm.SHAPE, Order.SHAPE, major_version=None)


def _name_of(source: str) -> str:
    """Return a short, stable name. Different sources get different names, and no row has such a name."""
    if not source:
        return OTHER
    plain = _ODD.sub("_", source.lower())[:_MAX_SOURCE_CHARACTERS]
    if plain != source or _ENDS_LIKE_A_DIGEST.search(source):
        plain += "-" + hashlib.blake2b(source.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{OTHER}:{plain}"
