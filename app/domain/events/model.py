"""What a bucket notification can say, whatever dialect it was said in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Created:
    """An object was uploaded. `key` is decoded; `etag` has no quotes and is lower case.

    `alternate_key` is the other reading of the key (decoded where `key` is as it came, and the reverse), None when both
    are the same. `size_bytes` is None when unknown. `sequencer` is upper case; `event_time_ms` 0 when absent.
    `new_version` is the version of an event whose major number its dialect does not know, else empty.
    """

    dialect: str
    event_name: str
    bucket: str
    key: str
    alternate_key: str | None
    version_id: str | None
    etag: str | None
    size_bytes: int | None
    sequencer: str | None
    event_time_ms: int
    new_version: str = ""


@dataclass(frozen=True, slots=True)
class Removed:
    """An object, or one version of it, was deleted. With `delete_marker`, `version_id` is the marker's own.

    `alternate_key` and `new_version` as in Created.
    """

    dialect: str
    event_name: str
    bucket: str
    key: str
    alternate_key: str | None
    version_id: str | None
    etag: str | None
    delete_marker: bool
    sequencer: str | None
    event_time_ms: int
    new_version: str = ""


@dataclass(frozen=True, slots=True)
class Ignored:
    """A well-formed event that is neither an upload nor a removal. `new_version` as in Created."""

    dialect: str
    why: str
    new_version: str = ""


@dataclass(frozen=True, slots=True)
class TestEvent:
    """What a store sends once when a notification is set up."""

    __test__ = False  # not a test class, whatever pytest makes of the name

    bucket: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """A message or a record that cannot be read. `reason` is a stable code, `detail` is for people.

    `value` holds the bytes of the record alone where it has neighbours, else of the whole message.
    """

    reason: str
    detail: str
    value: bytes
    bucket: str | None
    key: str | None


Event = Created | Removed | Ignored | TestEvent | Malformed


@dataclass(frozen=True, slots=True)
class Parsed:
    """One event and where it stood: `part` counts the records of a message through all its envelopes.

    -1: the message as a whole.
    """

    part: int
    event: Event
