"""Parser of bucket notifications: every dialect and envelope becomes one form.

`parse_message` is the whole interface. It never raises, whatever the bytes are. docs/events.md states the rules.
"""

from app.domain.events import dialects
from app.domain.events.model import (
    Created,
    Event,
    Ignored,
    Malformed,
    Parsed,
    Removed,
    TestEvent,
)
from app.domain.events.parser import MAX_ENVELOPES, MAX_MESSAGE_BYTES, MAX_RECORDS, parse_message, single_record_message

__all__ = [
    "MAX_ENVELOPES",
    "MAX_MESSAGE_BYTES",
    "MAX_RECORDS",
    "Created",
    "Event",
    "Ignored",
    "Malformed",
    "Parsed",
    "Removed",
    "TestEvent",
    "dialects",
    "parse_message",
    "single_record_message",
]
