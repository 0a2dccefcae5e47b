"""Readers of one S3 event record, EventBridge event or R2 event, by the rules of its dialect."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from app.domain.events import dialects, fields
from app.domain.events.dialects import Dialect
from app.domain.events.fields import BadField
from app.domain.events.model import Created, Ignored, Removed

UPLOAD_KINDS: Final = frozenset({"Put", "Post", "Copy", "CompleteMultipartUpload"})
# The same four on EventBridge. If the reason is absent or the bare word of an emulator, the detail-type decides.
_EVENTBRIDGE_REASONS: Final = {
    "PutObject": "Put",
    "POST Object": "Post",
    "CopyObject": "Copy",
    "CompleteMultipartUpload": "CompleteMultipartUpload",
    None: "Put",
    "ObjectCreated": "Put",
}
_R2_ACTIONS: Final = {
    "PutObject": "ObjectCreated:Put",
    "CopyObject": "ObjectCreated:Copy",
    "CompleteMultipartUpload": "ObjectCreated:CompleteMultipartUpload",
    "DeleteObject": "ObjectRemoved:Delete",
    "LifecycleDeletion": "LifecycleExpiration:Delete",
}
# Deletions by a lifecycle rule count as removals: AWS, then Ceph.
_LIFECYCLE_REMOVALS: Final = frozenset(
    {
        "LifecycleExpiration:Delete",
        "LifecycleExpiration:DeleteMarkerCreated",
        "ObjectLifecycle:Expiration:Current",
        "ObjectLifecycle:Expiration:NonCurrent",
    }
)
_ODD_VERSION: Final = re.compile(r"[^0-9A-Za-z.]")

_Event = Created | Removed | Ignored


def has_s3_form(body: Mapping[str, Any]) -> bool:
    """Return whether `body` is an event record of S3's form outside a `Records` array."""
    return isinstance(body.get("s3"), dict) and "eventName" in body


def has_r2_form(body: Mapping[str, Any]) -> bool:
    """Return whether `body` is an event of Cloudflare R2."""
    return isinstance(body.get("action"), str) and isinstance(body.get("object"), dict) and "bucket" in body


def read_record(record: Mapping[str, Any]) -> _Event:
    """Return the event in one element of `Records`. Raises BadField."""
    dialect = dialects.dialect_of(record)
    if not dialects.is_named(dialect.name) and not isinstance(record.get("s3"), dict):
        raise BadField("not_an_s3_event", "the record has neither the source of a known store nor S3's form")
    return _read(dialect, record.get("eventVersion"), lambda: _s3(dialect, record))


def read_eventbridge(event: Mapping[str, Any]) -> _Event:
    """Return the event in one EventBridge event. Raises BadField."""
    if event.get("source") != "aws.s3":
        raise BadField("not_an_s3_event", "an EventBridge event whose source is not aws.s3")
    detail = fields.mapping(event.get("detail"), "detail")
    row = dialects.BY_NAME[dialects.EVENTBRIDGE]
    return _read(row, detail.get("event-version"), lambda: _eventbridge(row, event, detail))


def read_r2(event: Mapping[str, Any]) -> _Event:
    """Return the event in one event of Cloudflare R2. Raises BadField."""
    action = fields.name(event.get("action"), "action") or ""
    name = _R2_ACTIONS.get(action)
    row = dialects.BY_NAME[dialects.R2]
    if name is None:
        return Ignored(row.name, action)
    thing = fields.mapping(event.get("object"), "object")
    bucket = fields.bucket(event.get("bucket"))
    time = fields.time_ms(event.get("eventTime"))
    if name.startswith("ObjectCreated:"):
        return _created(row, name, bucket, thing, ("eTag", "versionId"), time)
    return _removed(row, name, bucket, thing, ("eTag", "versionId"), False, time)


def _read(dialect: Dialect, version: Any, read: Callable[[], _Event]) -> _Event:
    """Return the event of `read`. An unknown major version is noted and accepted if all needed fields are readable."""
    new = _new_major(dialect, version)
    try:
        event = read()
    except BadField as error:
        if not new:
            raise
        raise BadField("unsupported_version", f"event version {new} of {dialect.name}: {error.detail}") from error
    return replace(event, new_version=new) if new else event


def _new_major(dialect: Dialect, version: Any) -> str:
    """Return the version if its major number is not the dialect's, else empty. Minor versions only add fields."""
    if version is None or dialect.major_version is None:
        return ""
    text = str(version)[:20] if isinstance(version, (str, int, float)) else type(version).__name__
    return "" if text.split(".")[0] == dialect.major_version else _ODD_VERSION.sub("_", text) or "empty"


def _s3(dialect: Dialect, record: Mapping[str, Any]) -> _Event:
    event_name = (fields.name(record.get("eventName"), "eventName") or "").removeprefix("s3:")
    if not event_name:
        raise BadField("not_an_s3_event", "no eventName")
    family, _, kind = event_name.partition(":")
    removal = family == "ObjectRemoved" or event_name in _LIFECYCLE_REMOVALS
    if not removal and not (family == "ObjectCreated" and kind in UPLOAD_KINDS):
        return Ignored(dialect.name, event_name)
    s3 = fields.mapping(record.get("s3"), "s3")
    thing = fields.mapping(s3.get("object"), "s3.object")
    bucket = fields.bucket(fields.mapping(s3.get("bucket"), "bucket").get("name"))
    time = fields.time_ms(record.get("eventTime"))
    names = ("eTag", "versionId")
    if removal:
        return _removed(dialect, event_name, bucket, thing, names, kind == "DeleteMarkerCreated", time)
    etag = fields.etag(thing.get("eTag"))
    if dialect.post_begins_multipart and kind == "Post" and etag is None:
        return Ignored(dialect.name, "ObjectCreated:Post without eTag: multipart initiated, no object yet")
    parts = kind == "Put" and etag is not None and "-" in etag
    if dialect.put_repeats_multipart and parts and fields.sequencer(thing.get("sequencer")) is None:
        why = "ObjectCreated:Put with the ETag of a multipart upload, which has an event of its own"
        return Ignored(dialect.name, why)
    return _created(dialect, event_name, bucket, thing, names, time)


def _eventbridge(row: Dialect, event: Mapping[str, Any], detail: Mapping[str, Any]) -> _Event:
    detail_type = fields.name(event.get("detail-type"), "detail-type") or ""
    if detail_type not in ("Object Created", "Object Deleted"):
        return Ignored(row.name, detail_type)
    thing = fields.mapping(detail.get("object"), "detail.object")
    bucket = fields.bucket(fields.mapping(detail.get("bucket"), "bucket").get("name"))
    time = fields.time_ms(event.get("time"))
    names = ("etag" if "etag" in thing else "eTag", "version-id")
    if detail_type == "Object Deleted":
        marker = detail.get("deletion-type") == "Delete Marker Created"
        name = "ObjectRemoved:DeleteMarkerCreated" if marker else "ObjectRemoved:Delete"
        return _removed(row, name, bucket, thing, names, marker, time)
    reason = fields.name(detail.get("reason"), "reason")
    kind = _EVENTBRIDGE_REASONS.get(reason)
    if kind is None:
        return Ignored(row.name, f"Object Created: {reason}")
    return _created(row, f"ObjectCreated:{kind}", bucket, thing, names, time)


def _created(
    dialect: Dialect, event_name: str, bucket: str, thing: Mapping[str, Any], names: tuple[str, str], time: int
) -> Created:
    key, alternate = fields.key_readings(thing.get("key"), dialect.key)
    etag_name, version_name = names
    size = fields.size(thing.get("size"))
    if size is None:
        size = dialect.missing_size_bytes
    elif size == 0 and event_name.partition(":")[2] in dialect.zero_size_unknown:
        size = None
    return Created(
        dialect=dialect.name,
        event_name=event_name,
        bucket=bucket,
        key=key,
        alternate_key=alternate,
        version_id=fields.version(thing.get(version_name), dialect.no_version_ids),
        etag=fields.etag(thing.get(etag_name)),
        size_bytes=size,
        sequencer=fields.sequencer(thing.get("sequencer")),
        event_time_ms=time,
    )


def _removed(
    dialect: Dialect,
    event_name: str,
    bucket: str,
    thing: Mapping[str, Any],
    names: tuple[str, str],
    delete_marker: bool,
    time: int,
) -> Removed:
    key, alternate = fields.key_readings(thing.get("key"), dialect.key)
    etag_name, version_name = names
    return Removed(
        dialect=dialect.name,
        event_name=event_name,
        bucket=bucket,
        key=key,
        alternate_key=alternate,
        version_id=fields.version(thing.get(version_name), dialect.no_version_ids),
        etag=fields.etag(thing.get(etag_name)),
        delete_marker=delete_marker,
        sequencer=fields.sequencer(thing.get("sequencer")),
        event_time_ms=time,
    )
