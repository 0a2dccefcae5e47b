"""The parser's rules, one by one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.domain.events import (
    MAX_MESSAGE_BYTES,
    MAX_RECORDS,
    Created,
    Ignored,
    Malformed,
    Removed,
    parse_message,
    single_record_message,
)
from tests.support.event_messages import (
    ETAG,
    TIME_MS,
    created,
    events,
    in_lambda_sns,
    in_sns,
    in_sqs,
    message,
    only,
    reason,
    record,
    versitygw,
)

BAD_BUCKETS = (
    "a/b",
    "..",
    ".a",
    "a.",
    "a..b",
    "a:80",
    "user@evil.example",
    "a?x",
    "a#x",
    "a%2e",
    "a\nb",
    "a b",
    "\u00e4",
    "10.0.0.1",
    "[::1]",
)


@pytest.mark.parametrize("wrap", [in_sns, in_sqs, in_lambda_sns])
def test_each_envelope_holds_the_same_event(wrap: Any) -> None:
    plain = message(record())
    assert events(wrap(plain)) == events(plain)


def test_four_envelopes_are_opened_and_a_fifth_is_not() -> None:
    value = message(record())
    for _ in range(4):
        value = in_sns(value)
    assert isinstance(only(value), Created)
    assert reason(in_sns(value)) == "too_many_envelopes"
    assert reason(in_sqs(value)) == "too_many_envelopes"


def test_eventbridge_counts_as_an_envelope() -> None:
    value = eventbridge()
    for _ in range(3):
        value = in_sqs(value)
    assert isinstance(only(value), Created)
    assert reason(in_sqs(value)) == "too_many_envelopes"


def eventbridge(**changes: Any) -> bytes:
    detail = {
        "bucket": {"name": "images"},
        "object": {"key": "a+b%20c.jpg", "size": 5, "etag": ETAG, "sequencer": "00AB"},
        "reason": "PutObject",
    } | changes.pop("detail", {})
    return json.dumps(
        {"source": "aws.s3", "detail-type": "Object Created", "time": "2026-11-23T09:15:04Z", "detail": detail}
        | changes
    ).encode()


@pytest.mark.parametrize(
    ("given", "kind"),
    [("PutObject", "Put"), ("POST Object", "Post"), ("CopyObject", "Copy"), ("CompleteMultipartUpload",) * 2],
)
def test_eventbridge_reasons(given: str, kind: str) -> None:
    event = created(eventbridge(detail={"reason": given}))
    assert (event.event_name, event.key, event.alternate_key) == (f"ObjectCreated:{kind}", "a+b%20c.jpg", "a b c.jpg")


def test_eventbridge_of_another_source_or_type() -> None:
    assert reason(eventbridge(source="aws.ec2")) == "not_an_s3_event"
    assert isinstance(only(eventbridge(**{"detail-type": "Object Tags Added"})), Ignored)
    assert isinstance(only(eventbridge(detail={"reason": "SomethingNew"})), Ignored)
    assert created(eventbridge(detail={"event-version": "2.0"})).new_version == "2.0"
    assert reason(eventbridge(detail={"event-version": "2.0", "bucket": {}})) == "unsupported_version"


def test_the_key_of_aws_is_decoded_and_the_other_reading_kept() -> None:
    event = created(message(record(object={"key": "in+put/%C3%A4%2B.jpg"})))
    assert (event.key, event.alternate_key) == ("in put/ä+.jpg", "in+put/%C3%A4%2B.jpg")
    assert created(message(record())).alternate_key is None


def test_the_key_of_versitygw_and_ceph_is_taken_as_it_is() -> None:
    for raw in (versitygw(object={"key": "a+b %41"}), record(eventSource="ceph:s3", object={"key": "a+b %41"})):
        event = created(message(raw))
        assert (event.key, event.alternate_key) == ("a+b %41", "a b A")
    assert created(message(versitygw(object={"key": "100%"}))).alternate_key is None


@pytest.mark.parametrize("key", ["bad%E6%97.jpg", "100%", "%ZZ", "%"])
def test_a_key_that_does_not_decode_is_malformed(key: str) -> None:
    assert reason(message(record(object={"key": key}))) == "bad_key_encoding"


@pytest.mark.parametrize(
    ("kind", "is_upload"),
    [
        ("Put", True),
        ("Post", True),
        ("Copy", True),
        ("CompleteMultipartUpload", True),
        ("PutTagging", False),
        ("PutLegalHold", False),
        ("put", False),
        ("", False),
        ("*", False),
    ],
)
@pytest.mark.parametrize("prefix", ["", "s3:"])
def test_an_upload_is_one_of_four(kind: str, is_upload: bool, prefix: str) -> None:
    event = only(message(record(eventName=f"{prefix}ObjectCreated:{kind}")))
    assert isinstance(event, Created if is_upload else Ignored)
    if isinstance(event, Created):
        assert event.event_name == f"ObjectCreated:{kind}"


@pytest.mark.parametrize(
    ("name", "marker"),
    [
        ("ObjectRemoved:Delete", False),
        ("ObjectRemoved:DeleteMarkerCreated", True),
        ("s3:ObjectRemoved:DeleteObjects", False),
        ("LifecycleExpiration:Delete", False),
        ("LifecycleExpiration:DeleteMarkerCreated", True),
        ("ObjectLifecycle:Expiration:NonCurrent", False),
    ],
)
def test_removals(name: str, marker: bool) -> None:
    event = only(message(record(eventName=name, object={"versionId": "v1"})))
    assert isinstance(event, Removed)
    assert (event.delete_marker, event.version_id) == (marker, "v1")


def test_an_archived_or_restored_object_is_no_removal() -> None:
    for name in ("LifecycleTransition", "ObjectRestore:Completed", "ObjectLifecycle:Transition:Current"):
        assert isinstance(only(message(record(eventName=name))), Ignored)


def test_etag_version_sequencer_and_time_are_normalised() -> None:
    event = created(
        message(record(object={"eTag": '"ABCdef-2"', "versionId": "null", "sequencer": "00ab"}, eventTime="bad"))
    )
    assert (event.etag, event.version_id, event.sequencer, event.event_time_ms) == ("abcdef-2", None, "00AB", 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23T09:15:04.123Z", TIME_MS),
        ("2026-11-23T09:15:04.123456Z", TIME_MS),
        ("2026-11-23T09:15:04.1Z", TIME_MS - 23),
        ("2026-11-23T09:15:04Z", TIME_MS - 123),
        ("2026-11-23T10:15:04.123+01:00", TIME_MS),
        ("2026-11-23T09:15:04.123", TIME_MS),
        ("2026-11-23 09:15:04.123001Z", TIME_MS),
        ("٢٠٢٦-11-23T09:15:04Z", 0),
        ("2026-13-23T09:15:04Z", 0),
        ("0001-01-01T00:00:00+23:59", 0),
        ("", 0),
        (17, 0),
        (None, 0),
    ],
)
def test_event_times(text: Any, expected: int) -> None:
    assert created(message(record(eventTime=text))).event_time_ms == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (record(object={"size": "1024"}), 1024),
        (record(object={"size": None}), None),
        (record(object={"size": 0}), 0),
        (record(eventSource="minio:s3", object={"size": None}), 0),
        (versitygw(object={"size": 0}), 0),
        (versitygw(object={"size": 0}, eventName="ObjectCreated:Copy"), None),
        (versitygw(object={"size": 0}, eventName="ObjectCreated:CompleteMultipartUpload"), None),
        (versitygw(object={"size": 7}, eventName="ObjectCreated:Copy"), 7),
    ],
)
def test_sizes(raw: dict[str, Any], expected: int | None) -> None:
    assert created(message(raw)).size_bytes == expected


@pytest.mark.parametrize("size", ["many", -1, True, 2**63, [], {}, float("inf"), float("nan")])
def test_a_size_that_is_none_is_malformed(size: Any) -> None:
    assert reason(message(record(object={"size": size}))) == "bad_size"


def test_both_marks_make_versitygw_and_one_alone_does_not() -> None:
    assert created(message(versitygw())).dialect == "versitygw"
    assert created(message(record(s3={"configurationId": "x-global"}))).dialect == "aws"
    assert created(message(record(userIdentity={"PrincipalId": "x"}))).dialect == "aws"


def test_moto_tells_a_multipart_upload_twice_and_it_counts_once() -> None:
    put = record(object={"eTag": f"{ETAG}-2", "sequencer": None})
    complete = record(
        object={"eTag": f"{ETAG}-2", "sequencer": None}, eventName="ObjectCreated:CompleteMultipartUpload"
    )
    assert [type(event) for event in events(message(put, complete))] == [Ignored, Created]


def test_ceph_says_post_when_a_multipart_upload_only_starts() -> None:
    starts = record(eventSource="ceph:s3", eventName="ObjectCreated:Post", object={"eTag": "", "size": 0})
    form = record(eventSource="ceph:s3", eventName="ObjectCreated:Post")
    assert [type(event) for event in events(message(starts, form))] == [Ignored, Created]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (record(eventVersion="3.0", object={"key": None}), "unsupported_version"),
        (record(eventVersion=["2.1"], s3={"bucket": {}}), "unsupported_version"),
        ({"eventSource": "aws:dynamodb", "eventName": "INSERT", "dynamodb": {}}, "not_an_s3_event"),
        (record(eventSource="gcp:s3", object={"key": None}), "no_key"),
        (record(eventSource="gcp:s3", s3={"bucket": {}}), "no_bucket"),
        (record(eventName=None), "not_an_s3_event"),
        (record(eventName=7), "bad_field"),
        (record(object={"key": None}), "no_key"),
        (record(object={"key": ""}), "no_key"),
        (record(object={"key": 7}), "bad_field"),
        (record(object={"key": "k" * 1025}), "too_long"),
        (record(object={"key": "\ud800"}), "bad_field"),
        (record(object={"eTag": "e" * 129}), "too_long"),
        (record(object={"sequencer": 1.5}), "bad_field"),
        (record(object={"sequencer": "0 1"}), "bad_sequencer"),
        (record(object={"eTag": "e1\nx-evil: 1"}), "bad_etag"),
        (record(object={"eTag": "e1\n"}), "bad_etag"),
        (record(object={"eTag": "e 1"}), "bad_etag"),
        (record(object={"eTag": 'e"1'}), "bad_etag"),
        (record(object={"eTag": "\u00e91"}), "bad_etag"),
        (record(object={"versionId": "v\r1"}), "bad_version_id"),
        (record(object={"versionId": "v 1"}), "bad_version_id"),
        (record(object={"versionId": "v" * 1025}), "too_long"),
        (record(eventName="ObjectRemoved:\x1b[31m"), "bad_field"),
        *((record(s3={"bucket": {"name": name}}), "bad_bucket") for name in BAD_BUCKETS),
        (record(s3={"bucket": {}}), "no_bucket"),
        (record(s3={"bucket": "images"}), "not_an_s3_event"),
        (record(s3=None) if False else {**record(), "s3": None}, "not_an_s3_event"),
        ({"eventSource": "aws:sqs"}, "not_an_s3_event"),
        ({"EventSource": "aws:sns", "Sns": 1}, "not_an_s3_event"),
        ({}, "not_an_s3_event"),
        (None, "not_an_s3_event"),
        (1, "not_an_s3_event"),
    ],
)
def test_a_bad_record_does_not_hold_up_its_neighbours(raw: Any, expected: str) -> None:
    value = message(record(), raw, record(object={"key": "last.jpg"}))
    first, bad, last = parse_message(value)
    assert isinstance(first.event, Created)
    assert isinstance(last.event, Created)
    assert isinstance(bad.event, Malformed)
    assert (bad.event.reason, bad.part) == (expected, 1)
    assert json.loads(bad.event.value) == raw
    assert bad.event.value in value
    # Alone and wrapped again it says the same: that is what a redrive sends.
    assert reason(single_record_message(bad.event.value)) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", "not_json"),
        (b"\xff", "not_json"),
        (b"{", "not_json"),
        (b"[" * 5_000, "not_json"),
        (b'{"Records":' + b"[" * 5_000 + b"]" * 5_000 + b"}", "not_json"),
        (b"7" * 5_000, "not_json"),
        (b"[]", "not_an_s3_event"),
        (b"null", "not_an_s3_event"),
        (b"{}", "not_an_s3_event"),
        (b'{"Records":{}}', "not_an_s3_event"),
        (b'{"Type":"Notification","Message":{}}', "not_an_s3_event"),
        (b'{"Type":"Notification","Message":[]}', "not_an_s3_event"),
        (b'{"schema":{},"payload":7}', "not_an_s3_event"),
        (b'"no json inside"', "not_json"),
        (b'{"action":"PutObject","bucket":"a/b","object":{"key":"k"}}', "bad_bucket"),
        (b'{"action":"PutObject","bucket":"images","object":{}}', "no_key"),
        (b'{"s3":{"bucket":{"name":"images"}},"eventName":"ObjectCreated:Put"}', "not_an_s3_event"),
        (in_sns(b"no json"), "not_json"),
        (b" " * (MAX_MESSAGE_BYTES + 1), "message_too_large"),
        (message(*[{}] * (MAX_RECORDS + 1)), "too_many_records"),
    ],
)
def test_a_bad_message_is_one_bad_whole(value: bytes, expected: str) -> None:
    (parsed,) = parse_message(value)
    assert isinstance(parsed.event, Malformed)
    assert (parsed.part, parsed.event.reason, parsed.event.value) == (-1, expected, value)


def test_a_bad_body_among_good_ones_keeps_its_envelope() -> None:
    good = message(record(), record(object={"key": "b.jpg"}))
    value = in_sqs(good, b"no json", good)
    found = parse_message(value)
    assert [parsed.part for parsed in found] == [0, 1, 2, 3, 4]
    bad = found[2].event
    assert isinstance(bad, Malformed)
    assert json.loads(bad.value) == {"eventSource": "aws:sqs", "body": "no json"}


def test_a_bad_record_inside_an_envelope_keeps_its_own_bytes() -> None:
    value = in_sqs(message(record(), {"foreign": True}))
    bad = parse_message(value)[1].event
    assert isinstance(bad, Malformed)
    assert bad.value == b'{"foreign": true}'


def test_tombstones_and_messages_without_records_say_nothing() -> None:
    assert parse_message(None) == ()
    assert parse_message(b'{"Records":[]}') == ()


def test_a_byte_order_mark_is_no_fault() -> None:
    assert isinstance(only(b"\xef\xbb\xbf" + message(record())), Created)


def test_the_last_of_two_records_members_counts_as_in_json() -> None:
    value = b'{"Records":[1,2],"Records":[' + json.dumps(record()).encode() + b', {"x":[1,{"y":"]}"}]} ]}'
    good, bad = parse_message(value)
    assert isinstance(good.event, Created)
    assert isinstance(bad.event, Malformed)
    assert bad.event.value == b'{"x":[1,{"y":"]}"}]}'


def test_unknown_fields_are_ignored() -> None:
    raw = record(eventVersion="2.9", brandNew={"a": [1]}, object={"more": 1}, s3={"less": None})
    assert isinstance(only(message(raw)), Created)
