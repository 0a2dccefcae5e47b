"""Parser of messages: removes envelopes, reads each record separately, never raises."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from app.domain.events import fields, records, spans
from app.domain.events.fields import BadField
from app.domain.events.model import Event, Ignored, Malformed, Parsed, TestEvent

# SNS in SQS in EventBridge is three; a fourth for a bridge that adds its own.
MAX_ENVELOPES: Final = 4
# S3 sends at most 64 KB. SQS carries at most 1 MiB, which is also Kafka's default limit for a message.
MAX_MESSAGE_BYTES: Final = 1024 * 1024
# AWS sends one record in a message. 4,000 of the shortest real records fill a megabyte, so a message with more is not a
# notification. A dead letter for each of its braces could fill a disk.
MAX_RECORDS: Final = 4_000

# Fields of the envelope that Kafka Connect's JSON converter writes with `schemas.enable`.
_CONNECT: Final = frozenset({"schema", "payload"})
_SNS_SET_UP: Final = frozenset({"SubscriptionConfirmation", "UnsubscribeConfirmation"})


def parse_message(value: bytes | None) -> tuple[Parsed, ...]:
    """Return the events of one message, in their order. Never raises.

    None (a tombstone) and a message without records have no events. A record that cannot be read becomes a Malformed
    and does not affect its neighbours. If it is the only record, the Malformed carries the whole message (part -1).
    """
    if value is None:
        return ()
    if len(value) > MAX_MESSAGE_BYTES:
        return (_whole(value, "message_too_large", f"{len(value)} bytes, at most {MAX_MESSAGE_BYTES} are read"),)
    try:
        text = value.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return (_whole(value, "not_json", f"not UTF-8: {error.reason} at byte {error.start}"),)
    events: list[Event] = []
    for event in _message(text, 0, None):
        events.append(event)
        if len(events) > MAX_RECORDS:
            return (_whole(value, "too_many_records", f"more than {MAX_RECORDS} records in one message"),)
    if len(events) == 1 and isinstance(events[0], Malformed):
        return (Parsed(-1, replace(events[0], value=value)),)
    return tuple(Parsed(part, event) for part, event in enumerate(events))


def single_record_message(record: bytes) -> bytes:
    """Return a message with the single record `record`, the `value` of a Malformed that had neighbours."""
    return b'{"Records":[' + record + b"]}"


class _Array:
    """JSON text with a Records array. Its elements are cut out once, and only if one of them is malformed."""

    __slots__ = ("_cut", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._cut: list[str] | None = None

    def element_text(self, index: int) -> str:
        if self._cut is None:
            try:
                self._cut = spans.record_texts(self._text)
            except RecursionError:
                self._cut = []
        # An array nested down to the limit cannot be cut: the element's text then includes its neighbours.
        return self._cut[index] if index < len(self._cut) else self._text


@dataclass(frozen=True, slots=True)
class _Element:
    """One element of a Records array."""

    array: _Array
    index: int

    def text(self) -> str:
        return self.array.element_text(self.index)


def _message(text: str, envelopes: int, element: _Element | None) -> Iterator[Event]:
    """Yield the events of one JSON text. `element` is the innermost record that contains the text."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        yield _malformed(BadField("not_json", f"not JSON: {type(error).__name__}: {str(error)[:200]}"), element, text)
        return
    try:
        inner, event, elements = _open(body, text)
    except BadField as error:
        yield _malformed(error, element, text, body)
        return
    if inner is not None or (isinstance(body, dict) and "detail-type" in body):
        envelopes += 1
        if envelopes > MAX_ENVELOPES:
            yield _malformed(BadField("too_many_envelopes", f"more than {MAX_ENVELOPES} envelopes"), element, text)
            return
    if inner is not None:
        yield from _message(inner, envelopes, element)
    if event is not None:
        yield event
    array = _Array(text)
    for index, record in enumerate(elements):
        yield from _record(record, envelopes, _Element(array, index))


def _open(body: Any, text: str) -> tuple[str | None, Event | None, list[Any]]:
    """Return the content of a message: the text inside its envelope, one event, or a list of records."""
    if isinstance(body, str):
        return body, None, []
    if not isinstance(body, dict):
        raise BadField("not_an_s3_event", "the message is not a JSON object")
    if "Records" in body:
        if not isinstance(body["Records"], list):
            raise BadField("not_an_s3_event", "Records is not a list")
        return None, None, body["Records"]
    if "payload" in body and body.keys() <= _CONNECT:
        # A Connect record whose value is null is a tombstone.
        return None if body["payload"] is None else _inner(body, text, "payload"), None, []
    if "Message" in body and (body.get("Type") == "Notification" or body.get("Action") == "Publish"):
        return _inner(body, text, "Message"), None, []
    if isinstance(body.get("Type"), str) and body["Type"] in _SNS_SET_UP:
        return None, Ignored("sns", body["Type"]), []
    if "detail-type" in body and "detail" in body:
        return None, records.read_eventbridge(body), []
    if body.get("Event") == "s3:TestEvent":
        bucket = body.get("Bucket")
        return None, TestEvent(bucket if isinstance(bucket, str) else ""), []
    if records.has_s3_form(body):
        return None, records.read_record(body), []
    if records.has_r2_form(body):
        return None, records.read_r2(body), []
    raise BadField("not_an_s3_event", "neither an event nor an envelope of SNS, SQS, EventBridge or Kafka Connect")


def _record(record: Any, envelopes: int, element: _Element) -> Iterator[Event]:
    try:
        if not isinstance(record, dict):
            raise BadField("not_an_s3_event", "a record is not an object")
        if record.get("eventSource") == "aws:sqs":
            inner = _inner(record, element.text, "body")
        elif record.get("EventSource") == "aws:sns":
            sns = fields.mapping(record.get("Sns"), "Sns")
            inner = _inner(sns, lambda: spans.member_text(element.text(), "Sns"), "Message")
        else:
            yield records.read_record(record)
            return
        if envelopes + 1 > MAX_ENVELOPES:
            raise BadField("too_many_envelopes", f"more than {MAX_ENVELOPES} envelopes")
    except BadField as error:
        yield _malformed(error, element, "", {"Records": [record]})
        return
    yield from _message(inner, envelopes + 1, element)


def _inner(body: dict[str, Any], text: str | Callable[[], str], name: str) -> str:
    """Return the message inside an envelope as text: the member `name`, which is JSON text or an object."""
    value = body.get(name)
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise BadField("not_an_s3_event", f"the envelope's {name} is neither text nor an object")
    try:
        return spans.member_text(text if isinstance(text, str) else text(), name)
    except RecursionError as error:
        raise BadField("not_json", "nested too deeply") from error


def _malformed(error: BadField, element: _Element | None, text: str, body: Any = None) -> Malformed:
    bucket, key = _named(body)
    value = (element.text() if element is not None else text).encode("utf-8", "surrogatepass")
    return Malformed(error.reason, error.detail, value, bucket, key)


def _whole(value: bytes, reason: str, detail: str) -> Parsed:
    return Parsed(-1, Malformed(reason, detail, value, None, None))


def _named(body: Any) -> tuple[str | None, str | None]:
    """Return bucket and key of a malformed record as far as they can be read. For the operator only."""
    records = body.get("Records") if isinstance(body, dict) else None
    record = records[0] if isinstance(records, list) and records else body
    if not isinstance(record, dict):
        return None, None
    part = record.get("s3", record.get("detail", record))
    if not isinstance(part, dict):
        return None, None
    bucket, thing = part.get("bucket"), part.get("object")
    name = bucket.get("name") if isinstance(bucket, dict) else bucket
    key = thing.get("key") if isinstance(thing, dict) else None
    return _short(name), _short(key)


def _short(value: Any) -> str | None:
    return value.encode("utf-8", "replace").decode()[:1024] if isinstance(value, str) else None
