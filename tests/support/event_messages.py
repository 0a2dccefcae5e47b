"""Notifications as tests need them, in the shapes of the samples."""

from __future__ import annotations

import json
from typing import Any

from app.domain.events import Created, Event, Malformed, parse_message

ETAG = "b2ea9f7fcea831a4a63b213f41a8855b"
TIME = "2026-11-23T09:15:04.123Z"
TIME_MS = 1_795_425_304_123


def record(**changes: Any) -> dict[str, Any]:
    """One AWS record; `object` and `s3` changes go inside, None removes a field."""
    thing = {"key": "a/photo.jpg", "size": 1024, "eTag": ETAG, "sequencer": "006B040418A1B2C3D4"}
    thing |= changes.pop("object", {})
    s3 = {"configurationId": "uploads", "bucket": {"name": "images"}} | changes.pop("s3", {})
    s3["object"] = {name: value for name, value in thing.items() if value is not None}
    found = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventTime": TIME,
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "x"},
        "s3": s3,
    } | changes
    return {name: value for name, value in found.items() if value is not None}


def versitygw(**changes: Any) -> dict[str, Any]:
    """One versitygw record."""
    base = {"userIdentity": {"PrincipalId": "x"}, "s3": {"configurationId": "webhook-global"}}
    return record(**(base | changes))


def message(*records: Any) -> bytes:
    """Return a notification of these records."""
    return json.dumps({"Records": list(records)}).encode()


def in_sns(value: bytes) -> bytes:
    return json.dumps({"Type": "Notification", "Message": value.decode()}).encode()


def in_sqs(*values: bytes) -> bytes:
    return message(*({"eventSource": "aws:sqs", "body": value.decode()} for value in values))


def in_lambda_sns(value: bytes) -> bytes:
    return message({"EventSource": "aws:sns", "Sns": {"Message": value.decode()}})


def events(value: bytes) -> list[Event]:
    return [parsed.event for parsed in parse_message(value)]


def only(value: bytes) -> Event:
    (event,) = events(value)
    return event


def created(value: bytes) -> Created:
    event = only(value)
    assert isinstance(event, Created), event
    return event


def reason(value: bytes) -> str:
    event = only(value)
    assert isinstance(event, Malformed), event
    return event.reason
