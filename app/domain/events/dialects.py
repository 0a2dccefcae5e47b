"""One S3 event record, or one EventBridge event, read by the rules of its dialect."""

from __future__ import annotations

from typing import Any, Final

from app.domain.events import fields
from app.domain.events.fields import BadField
from app.domain.events.model import Created, Ignored, Removed

AWS: Final = "aws"
EVENTBRIDGE: Final = "eventbridge"
MINIO: Final = "minio"
CEPH: Final = "ceph"
VERSITYGW: Final = "versitygw"

UPLOAD_KINDS: Final = frozenset({"Put", "Post", "Copy", "CompleteMultipartUpload"})
# The same four on EventBridge. Absent, or the bare word of an emulator: the detail-type alone says an upload.
_EVENTBRIDGE_REASONS: Final = {
    "PutObject": "Put",
    "POST Object": "Post",
    "CopyObject": "Copy",
    "CompleteMultipartUpload": "CompleteMultipartUpload",
    None: "Put",
    "ObjectCreated": "Put",
}
_SOURCES: Final = {"aws:s3": AWS, "minio:s3": MINIO, "ceph:s3": CEPH}
# A lifecycle rule that deletes is a removal like any other: AWS, then Ceph.
_LIFECYCLE_REMOVALS: Final = frozenset(
    {
        "LifecycleExpiration:Delete",
        "LifecycleExpiration:DeleteMarkerCreated",
        "ObjectLifecycle:Expiration:Current",
        "ObjectLifecycle:Expiration:NonCurrent",
    }
)
_RAW_KEYS: Final = frozenset({EVENTBRIDGE, CEPH, VERSITYGW})


def read_record(record: dict[str, Any]) -> Created | Removed | Ignored:
    """Return what one element of `Records` says. Raises BadField."""
    dialect = _dialect(record)
    _check_version(record.get("eventVersion"), "2")
    event_name = (fields.text(record.get("eventName"), "eventName") or "").removeprefix("s3:")
    if not event_name:
        raise BadField("not_an_s3_event", "no eventName")
    family, _, kind = event_name.partition(":")
    removal = family == "ObjectRemoved" or event_name in _LIFECYCLE_REMOVALS
    if not removal and not (family == "ObjectCreated" and kind in UPLOAD_KINDS):
        return Ignored(dialect, event_name)
    s3 = fields.mapping(record.get("s3"), "s3")
    thing = fields.mapping(s3.get("object"), "s3.object")
    bucket = _bucket(s3.get("bucket"))
    time = fields.time_ms(record.get("eventTime"))
    if removal:
        marker = kind == "DeleteMarkerCreated"
        return _removed(dialect, event_name, bucket, thing, "eTag", "versionId", marker, time)
    etag = fields.etag(thing.get("eTag"))
    sequencer = fields.sequencer(thing.get("sequencer"))
    if dialect == CEPH and kind == "Post" and etag is None:
        return Ignored(dialect, "ObjectCreated:Post without eTag: multipart initiated, no object yet")
    if sequencer is None and kind == "Put" and etag is not None and "-" in etag:
        # moto tells one multipart upload twice; a true Put has no ETag of parts.
        return Ignored(dialect, "ObjectCreated:Put with the ETag of a multipart upload, which has an event of its own")
    key, alternate = fields.key_readings(thing.get("key"), encoded=dialect not in _RAW_KEYS)
    return Created(
        dialect=dialect,
        event_name=event_name,
        bucket=bucket,
        key=key,
        alternate_key=alternate,
        version_id=fields.version(thing.get("versionId")),
        etag=etag,
        size_bytes=_size(dialect, kind, thing.get("size")),
        sequencer=sequencer,
        event_time_ms=time,
    )


def read_eventbridge(event: dict[str, Any]) -> Created | Removed | Ignored:
    """Return what one EventBridge event says. Raises BadField."""
    if event.get("source") != "aws.s3":
        raise BadField("not_an_s3_event", "an EventBridge event whose source is not aws.s3")
    detail_type = fields.text(event.get("detail-type"), "detail-type") or ""
    detail = fields.mapping(event.get("detail"), "detail")
    _check_version(detail.get("event-version"), "1")
    if detail_type not in ("Object Created", "Object Deleted"):
        return Ignored(EVENTBRIDGE, detail_type)
    thing = fields.mapping(detail.get("object"), "detail.object")
    bucket = _bucket(detail.get("bucket"))
    time = fields.time_ms(event.get("time"))
    tag_name = "etag" if "etag" in thing else "eTag"
    if detail_type == "Object Deleted":
        marker = detail.get("deletion-type") == "Delete Marker Created"
        name = "ObjectRemoved:DeleteMarkerCreated" if marker else "ObjectRemoved:Delete"
        return _removed(EVENTBRIDGE, name, bucket, thing, tag_name, "version-id", marker, time)
    reason = fields.text(detail.get("reason"), "reason")
    kind = _EVENTBRIDGE_REASONS.get(reason)
    if kind is None:
        return Ignored(EVENTBRIDGE, f"Object Created: {reason}")
    key, alternate = fields.key_readings(thing.get("key"), encoded=False)
    return Created(
        dialect=EVENTBRIDGE,
        event_name=f"ObjectCreated:{kind}",
        bucket=bucket,
        key=key,
        alternate_key=alternate,
        version_id=fields.version(thing.get("version-id")),
        etag=fields.etag(thing.get(tag_name)),
        size_bytes=fields.size(thing.get("size")),
        sequencer=fields.sequencer(thing.get("sequencer")),
        event_time_ms=time,
    )


def _removed(
    dialect: str,
    event_name: str,
    bucket: str,
    thing: dict[str, Any],
    etag_name: str,
    version_name: str,
    delete_marker: bool,
    time: int,
) -> Removed:
    key, alternate = fields.key_readings(thing.get("key"), encoded=dialect not in _RAW_KEYS)
    return Removed(
        dialect=dialect,
        event_name=event_name,
        bucket=bucket,
        key=key,
        alternate_key=alternate,
        version_id=fields.version(thing.get(version_name)),
        etag=fields.etag(thing.get(etag_name)),
        delete_marker=delete_marker,
        sequencer=fields.sequencer(thing.get("sequencer")),
        event_time_ms=time,
    )


def _dialect(record: dict[str, Any]) -> str:
    source = record.get("eventSource")
    dialect = _SOURCES.get(source) if isinstance(source, str) else None
    if dialect is None:
        raise BadField("not_an_s3_event", "record is not an S3 event: its eventSource is not one of a known store")
    if dialect == AWS:
        identity, s3 = record.get("userIdentity"), record.get("s3")
        configuration = s3.get("configurationId") if isinstance(s3, dict) else None
        capital = isinstance(identity, dict) and "PrincipalId" in identity
        if capital and isinstance(configuration, str) and configuration.endswith("-global"):
            return VERSITYGW
    return dialect


def _check_version(version: Any, major: str) -> None:
    # Only the major version breaks readers; minor ones add fields, which are ignored.
    if version is None:
        return
    if not isinstance(version, (str, int, float)) or str(version).split(".")[0] != major:
        raise BadField("unsupported_version", f"the event version is not {major}.x")


def _bucket(value: Any) -> str:
    name = fields.text(fields.mapping(value, "bucket").get("name"), "bucket name", fields.MAX_BUCKET_BYTES)
    if name is None:
        raise BadField("no_bucket", "no bucket name")
    return name


def _size(dialect: str, kind: str, value: Any) -> int | None:
    size = fields.size(value)
    if dialect == MINIO and size is None:
        return 0  # MinIO leaves the size of an empty object out
    if dialect == VERSITYGW and size == 0 and kind in ("Copy", "CompleteMultipartUpload"):
        return None  # versitygw says 0 whatever was stored
    return size
