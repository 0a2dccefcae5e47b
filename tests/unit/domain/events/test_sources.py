"""Events of any S3: sources without a row, next versions, more envelopes, R2, and fields of other stores."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.events import Created, Ignored, Malformed, Removed, dialects, parse_message
from tests.support.event_messages import ETAG, TIME_MS, created, events, message, only, reason, record


def in_connect(value: bytes) -> bytes:
    return json.dumps({"schema": {"type": "struct"}, "payload": json.loads(value)}).encode()


def in_json_text(value: bytes) -> bytes:
    return json.dumps(value.decode()).encode()


def in_sns_object(value: bytes) -> bytes:
    return json.dumps({"Type": "Notification", "Message": json.loads(value)}).encode()


def in_sqs_object(value: bytes) -> bytes:
    return message({"eventSource": "aws:sqs", "body": json.loads(value)})


def in_lambda_sns_object(value: bytes) -> bytes:
    return message({"EventSource": "aws:sns", "Sns": {"Message": json.loads(value)}})


@pytest.mark.parametrize("wrap", [in_connect, in_json_text, in_sns_object, in_sqs_object, in_lambda_sns_object])
def test_an_envelope_may_hold_an_object_or_text(wrap: Any) -> None:
    plain = message(record(), {"odd": 1}, record(object={"key": "b.jpg"}))
    assert events(wrap(plain)) == events(plain)
    bad = events(wrap(plain))[1]
    assert isinstance(bad, Malformed)
    assert bad.value == b'{"odd": 1}'


@pytest.mark.parametrize("wrap", [in_connect, in_json_text, in_sns_object, in_sqs_object])
def test_every_envelope_counts(wrap: Any) -> None:
    value = message(record())
    for _ in range(4):
        value = wrap(value)
    assert isinstance(only(value), Created)
    assert reason(wrap(value)) == "too_many_envelopes"


def test_a_connect_record_without_a_value_is_a_tombstone() -> None:
    assert parse_message(b'{"schema":null,"payload":null}') == ()


def test_a_record_may_come_without_records() -> None:
    assert events(json.dumps(record()).encode()) == events(message(record()))
    assert events(in_connect(json.dumps(record()).encode())) == events(message(record()))


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("wasabi:s3", "other:wasabi:s3"),
        (None, "other"),
        ("", "other"),
        (["aws:s3"], "other"),
        ("AWS:s3", "other:aws:s3-ebdf0790"),
        ("aws", "other:aws"),
        ("x" * 99, "other:" + "x" * 40 + "-5a9f112d"),
        ("a\nb", "other:a_b-59900c43"),
    ],
)
def test_a_source_without_a_row_gives_its_dialect_a_name(source: Any, name: str) -> None:
    event = created(message(record(eventSource=source)))
    assert event.dialect == name
    assert event.dialect not in dialects.BY_NAME and dialects.is_other(event.dialect)


@given(st.text(max_size=60), st.text(max_size=60))
def test_names_of_sources_are_short_and_never_meet(one: str, two: str) -> None:
    first, second = (dialects.dialect_of({"eventSource": source}).name for source in (one, two))
    assert len(first) <= 55 and first.isascii() and first.isprintable()
    assert (first == second) == (one == two)


@pytest.mark.parametrize(
    ("raw", "key", "other"),
    [
        ("a/photo.jpg", "a/photo.jpg", None),
        ("in+put/%C3%A4%2B.jpg", "in put/ä+.jpg", "in+put/%C3%A4%2B.jpg"),
        ("a%2Fb.jpg", "a/b.jpg", "a%2Fb.jpg"),
        # A plus sign alone does not tell: a space, as most stores write it, and the other reading is kept.
        ("a+b.jpg", "a b.jpg", "a+b.jpg"),
        # A character that form encoding would have replaced shows that the key was not encoded.
        ("a b+c.jpg", "a b+c.jpg", "a b c.jpg"),
        ("ä%41.jpg", "ä%41.jpg", "äA.jpg"),
        ("a&b+c.jpg", "a&b+c.jpg", "a&b c.jpg"),
        ("a\nb%41", "a\nb%41", "a\nbA"),
        # A key that does not decode was not encoded.
        ("100%", "100%", None),
        ("bad%E6%97.jpg", "bad%E6%97.jpg", None),
        ("a b%00", "a b%00", "a b\0"),
    ],
)
def test_the_key_of_a_source_without_a_row_is_read_by_its_shape(raw: str, key: str, other: str | None) -> None:
    event = created(message(record(eventSource="new:s3", object={"key": raw})))
    assert (event.key, event.alternate_key) == (key, other)


def test_a_source_without_a_row_may_have_any_version_and_leave_everything_else_out() -> None:
    bare = {
        "eventName": "s3:ObjectCreated:Put",
        "eventVersion": "1.0",
        "s3": {"bucket": {"name": "images"}, "object": {"key": "k"}},
    }
    event = created(message(bare))
    assert (event.dialect, event.new_version, event.etag, event.size_bytes) == ("other", "", None, None)


@pytest.mark.parametrize(
    ("version", "new"),
    [
        (None, ""),
        ("2.0", ""),
        ("2", ""),
        (2.9, ""),
        ("3.0", "3.0"),
        (3, "3"),
        ("3.1\n", "3.1_"),
        ("", "empty"),
        (["2.1"], "list"),
        ("9" * 99, "9" * 20),
    ],
)
def test_a_next_major_version_is_read_and_told(version: Any, new: str) -> None:
    assert created(message(record(eventVersion=version))).new_version == new
    ignored = only(message(record(eventVersion=version, eventName="ObjectTagging:Put")))
    assert isinstance(ignored, Ignored) and ignored.new_version == new


@pytest.mark.parametrize(
    ("given_etag", "expected"),
    [
        ('W/"Ab1"', "ab1"),
        ("0x8DBEEF+/=", "0x8dbeef+/="),
        ('""', None),
        (" ", None),
        (f"{ETAG}-12", f"{ETAG}-12"),
    ],
)
def test_etags_of_other_stores(given_etag: str, expected: str | None) -> None:
    assert created(message(record(object={"eTag": given_etag}))).etag == expected


@pytest.mark.parametrize("name", ["Test-Bucket", "my_bucket", "a.b.c", "x", "1", "-a-", "a" * 255, "10.0.0", "xn--a"])
def test_legacy_bucket_names_are_read(name: str) -> None:
    assert created(message(record(s3={"bucket": {"name": name}}))).bucket == name


@pytest.mark.parametrize(
    "key", ["line%0Afeed", "tab%09%1B[31m", "%7F%C2%85", "a/../b", "./a", "a//b", "...", "/a", "../b", "a%00b"]
)
def test_odd_keys_are_read(key: str) -> None:
    assert created(message(record(object={"key": key}))).key == unquote_plus(key)


@pytest.mark.parametrize(
    ("action", "name"),
    [
        ("PutObject", "ObjectCreated:Put"),
        ("CopyObject", "ObjectCreated:Copy"),
        ("CompleteMultipartUpload", "ObjectCreated:CompleteMultipartUpload"),
    ],
)
def test_uploads_of_r2(action: str, name: str) -> None:
    event = created(r2(action))
    assert (event.event_name, event.key, event.alternate_key) == (name, "a+b%20c.jpg", "a b c.jpg")
    assert (event.bucket, event.etag, event.size_bytes, event.sequencer) == ("images", ETAG, 5, None)
    assert event.event_time_ms == TIME_MS


@pytest.mark.parametrize("action", ["DeleteObject", "LifecycleDeletion"])
def test_removals_of_r2(action: str) -> None:
    event = only(r2(action))
    assert isinstance(event, Removed) and not event.delete_marker


def test_other_actions_of_r2_are_ignored() -> None:
    assert only(r2("AbortMultipartUpload")) == Ignored("r2", "AbortMultipartUpload")


def r2(action: str) -> bytes:
    thing = {"key": "a+b%20c.jpg", "size": 5, "eTag": ETAG}
    return json.dumps(
        {"account": "0", "action": action, "bucket": "images", "object": thing, "eventTime": "2026-11-23T09:15:04.123Z"}
    ).encode()
