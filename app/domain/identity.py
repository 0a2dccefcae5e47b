"""Identities, order keys and Kafka keys, computed from contents: the same event gives the same ids at every reading."""

from __future__ import annotations

import hashlib
from typing import Final

from app.domain.events import dialects
from app.domain.events.dialects import Order
from app.domain.events.fields import is_hex
from app.domain.events.model import Created, Removed
from app.topics import TOPICS
from schemas.records import ImageTask, Position

_ID_BYTES: Final = 16
_ORDER_WIDTH: Final = 32
_COUNTER_WIDTH: Final = 16
_TIME_WIDTH: Final = 15


def _digest(kind: str, *parts: str | None) -> str:
    """Hash length-delimited parts, so that different lists never give the same input. Absent differs from empty."""
    state = hashlib.blake2b(digest_size=_ID_BYTES, person=kind.encode()[:16])
    for part in parts:
        encoded = b"" if part is None else part.encode()
        state.update(b"-" if part is None else b"%d:" % len(encoded))
        state.update(encoded)
    return state.hexdigest()


def _distinguishing_time(dialect: str, sequencer: str | None, event_time_ms: int) -> str | None:
    # Some stores restart their counter at 1 after every restart, so the counter alone does not identify an upload.
    counts = sequencer is not None and dialects.order_of(dialect, sequencer) is Order.COUNTER
    return str(event_time_ms) if sequencer is None or counts else None


def upload_id(
    *,
    bucket: str,
    key: str,
    version_id: str | None,
    etag: str | None,
    sequencer: str | None,
    dialect: str,
    event_time_ms: int,
    job_id: str | None = None,
) -> str:
    """Return the identity of one outcome: equal for every repeat of one event, in any envelope.

    The dialect is not part of it: the same event by SQS and by EventBridge is one upload.
    """
    return _digest(
        "upload",
        bucket,
        key,
        version_id or etag,
        sequencer,
        _distinguishing_time(dialect, sequencer, event_time_ms),
        job_id,
    )


def upload_id_of(event: Created) -> str:
    """Return the identity of the upload that `event` reports."""
    return upload_id(
        bucket=event.bucket,
        key=event.key,
        version_id=event.version_id,
        etag=event.etag,
        sequencer=event.sequencer,
        dialect=event.dialect,
        event_time_ms=event.event_time_ms,
    )


def rescore_upload_id(original_upload_id: str, job_id: str) -> str:
    """Return the identity of the outcome of job `job_id` for an upload that already has an outcome."""
    return _digest("rescore", original_upload_id, job_id)


def listed_upload_id(bucket: str, key: str, etag: str | None, modified_ms: int) -> str:
    """Return the identity of an upload known only from a bucket listing (docs/adr/0005-listed-uploads.md)."""
    return _digest("listed", bucket, key, etag, str(modified_ms))


def object_id(bucket: str, key: str, etag: str | None, version_id: str | None) -> str:
    """Return the identity of an object's content under its key, independent of the time of its upload.

    A listing has no version ids, so the ETag is preferred: a notification and a listing of one object both have it.
    """
    return _digest("object", bucket, key, etag or version_id)


def object_id_of(task: ImageTask) -> str:
    """Return the object identity of `task`: the second claim key of reconcile and of late notifications."""
    return object_id(task.bucket, task.key, task.etag, task.version_id)


def removal_id(event: Removed) -> str:
    """Return the identity of one removal, under the first reading of its key."""
    time = _distinguishing_time(event.dialect, event.sequencer, event.event_time_ms)
    return _digest("removal", event.bucket, event.key, event.version_id, event.sequencer, time)


def other_removal_id(first_removal_id: str) -> str:
    """Return the identity of the same removal under the other reading of its key."""
    return _digest("other-removal", first_removal_id)


def order_key(dialect: str, sequencer: str | None, event_time_ms: int) -> str:
    """Return the order key: text that orders events of one bucket, key and dialect. An empty key has no order."""
    if sequencer is None or not is_hex(sequencer):
        return ""
    match dialects.order_of(dialect, sequencer):
        case Order.COUNTER:
            # A counter of the server's process: larger means later until a restart. Across restarts only time orders.
            if event_time_ms <= 0:
                return ""
            return f"{event_time_ms:0{_TIME_WIDTH}d}.{int(sequencer, 16):0{_COUNTER_WIDTH}X}"
        case Order.LITTLE_ENDIAN:
            # RGW writes a struct of two little-endian 32-bit numbers, seconds and nanoseconds.
            if len(sequencer) != 16:
                return ""
            seconds, nanoseconds = bytes.fromhex(sequencer[:8])[::-1], bytes.fromhex(sequencer[8:])[::-1]
            return (seconds + nanoseconds).hex().upper()
        case Order.NONE:
            return ""
        case _:
            return sequencer.ljust(_ORDER_WIDTH, "0")


def order_key_of(event: Created | Removed) -> str:
    """Return the order key of `event`."""
    return order_key(event.dialect, event.sequencer, event.event_time_ms)


def image_key(bucket: str, key: str) -> bytes:
    """Return the Kafka key of all records of one image: its predictions, flags and removals."""
    return f"{bucket}/{key}".encode()


def content_hint(etag: str | None, bucket: str, key: str) -> bytes:
    """Return the Kafka key of a task. Equal ETags bring equal bytes to one partition; this is only an optimisation."""
    return etag.encode() if etag else image_key(bucket, key)


def task_key(task: ImageTask) -> bytes:
    """Return the Kafka key of `task`, the same on every topic."""
    return content_hint(task.etag, task.bucket, task.key)


def declared_topic(name: str) -> str:
    """Return the name of a topic in app/topics.py, without the prefix of an installation."""
    for spec in TOPICS:
        if name.endswith(spec.name):
            return spec.name
    return name


def letter_id(source: Position, part: int, agent: str) -> str:
    """Return the identity of a dead letter: one for each malformed record of each message, the same for every agent."""
    return _digest("letter", agent, declared_topic(source.topic), str(source.partition), str(source.offset), str(part))


def letter_key(source: Position) -> bytes:
    """Return the Kafka key of dead letters of one source position."""
    return f"{declared_topic(source.topic)}/{source.partition}/{source.offset}".encode()
