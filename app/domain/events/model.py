"""Events that a bucket notification can contain, in one form for all dialects."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Created:
    """Upload of an object. `key` is decoded; `etag` has no quotes and is lower case.

    `alternate_key`: the other reading of the key (decoded if `key` is not, and the reverse); None if both are equal.
    `size_bytes`: None if unknown. `sequencer`: upper case. `event_time_ms`: 0 if absent. `new_version`: the event's
    version if its dialect does not know the major number, else empty.
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
    """Deletion of an object or of one of its versions. With `delete_marker`, `version_id` is that of the marker.

    `alternate_key` and `new_version`: see Created.
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
    """A well-formed event that is neither an upload nor a removal. `new_version`: see Created."""

    dialect: str
    why: str
    new_version: str = ""


@dataclass(frozen=True, slots=True)
class TestEvent:
    """Test message that a store sends once when notifications are configured."""

    __test__ = False  # not a test class, whatever pytest makes of the name

    bucket: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """A message or a record that cannot be read. `reason` is a stable code, `detail` is for people.

    `value`: the bytes of the record if the message has other records, else of the whole message.
    """

    reason: str
    detail: str
    value: bytes
    bucket: str | None
    key: str | None


Event = Created | Removed | Ignored | TestEvent | Malformed


@dataclass(frozen=True, slots=True)
class Parsed:
    """One event and its position. `part` numbers the records of a message in all envelopes; -1: the whole message."""

    part: int
    event: Event
