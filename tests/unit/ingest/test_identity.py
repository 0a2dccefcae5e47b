from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import identity
from app.domain.events import Created, Removed, parse_message
from schemas.records import Position
from tests.unit.ingest.messages import ETAG, TIME, in_sns, message, record, versitygw


def created(raw: dict[str, Any]) -> Created:
    (parsed,) = parse_message(message(raw))
    assert isinstance(parsed.event, Created)
    return parsed.event


def id_of(raw: dict[str, Any]) -> str:
    return identity.upload_id_of(created(raw))


def test_a_repeat_has_the_same_id_through_any_envelope() -> None:
    (parsed,) = parse_message(in_sns(message(record())))
    assert isinstance(parsed.event, Created)
    assert identity.upload_id_of(parsed.event) == id_of(record())


def test_the_same_upload_told_by_eventbridge_has_the_same_id() -> None:
    event = {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "time": "2026-11-23T09:15:09Z",
        "detail": {
            "bucket": {"name": "images"},
            "object": {"key": "a/photo.jpg", "etag": ETAG, "sequencer": "006B040418A1B2C3D4"},
            "reason": "PutObject",
        },
    }
    (parsed,) = parse_message(json.dumps(event).encode())
    assert isinstance(parsed.event, Created)
    assert identity.upload_id_of(parsed.event) == id_of(record())


@pytest.mark.parametrize(
    "other",
    [
        record(s3={"bucket": {"name": "images2"}}),
        record(object={"key": "a/photo2.jpg"}),
        record(object={"eTag": "00" * 16}),
        record(object={"versionId": "v1"}),
        record(object={"sequencer": "006B040418A1B2C3D5"}),
        record(object={"sequencer": None}),
    ],
)
def test_another_upload_has_another_id(other: dict[str, Any]) -> None:
    assert id_of(other) != id_of(record())


def test_with_a_sequencer_the_event_time_says_nothing() -> None:
    assert id_of(record(eventTime="2026-01-01T00:00:00Z")) == id_of(record())


def test_without_a_sequencer_the_event_time_tells_uploads_apart() -> None:
    first = record(object={"sequencer": None})
    assert id_of(first) == id_of(record(object={"sequencer": None}, eventTime=TIME))
    assert id_of(first) != id_of(record(object={"sequencer": None}, eventTime="2026-11-23T09:15:05Z"))


def test_a_restarted_versitygw_counts_again_and_its_uploads_stay_apart() -> None:
    before = versitygw(object={"sequencer": "1"}, eventTime="2026-11-23T09:15:04Z")
    after = versitygw(object={"sequencer": "1"}, eventTime="2026-11-23T10:00:00Z")
    assert id_of(before) != id_of(after)


def test_a_rescoring_has_an_id_of_its_own() -> None:
    upload = id_of(record())
    assert len({upload, identity.rescore_upload_id(upload, "job-1"), identity.rescore_upload_id(upload, "job-2")}) == 3


@given(st.lists(st.text(max_size=4), min_size=4, max_size=4), st.lists(st.text(max_size=4), min_size=4, max_size=4))
def test_parts_never_run_together(one: list[str], two: list[str]) -> None:
    def upload(parts: list[str]) -> str:
        bucket, key, etag, sequencer = parts
        return identity.upload_id(
            bucket=bucket, key=key, version_id=None, etag=etag, sequencer=sequencer, dialect="aws", event_time_ms=0
        )

    assert (upload(one) == upload(two)) == (one == two)


def test_order_of_hex_sequencers_is_that_of_right_padded_text() -> None:
    later, earlier = identity.order_key("aws", "006B04044F", 0), identity.order_key("aws", "006B04044E1234567890", 0)
    assert later > earlier
    assert identity.order_key("minio", "18EA", 0) == identity.order_key("minio", "18EA00", 0)


@given(st.integers(1, 2**40), st.integers(1, 2**40))
def test_versitygw_counters_order_as_numbers_within_a_second(one: int, two: int) -> None:
    first, second = (identity.order_key("versitygw", f"{count:X}", 1_000) for count in (one, two))
    assert (first < second) == (one < two)


def test_after_a_restart_of_versitygw_time_orders() -> None:
    assert identity.order_key("versitygw", "1", 1_795_425_305_000) > identity.order_key(
        "versitygw", "FFFF", 1_795_425_304_000
    )


@given(st.integers(0, 2**32 - 1), st.integers(0, 10**9 - 1), st.integers(0, 2**32 - 1), st.integers(0, 10**9 - 1))
def test_ceph_sequencers_order_as_times(seconds: int, nanos: int, seconds2: int, nanos2: int) -> None:
    def key(second: int, nano: int) -> str:
        raw = second.to_bytes(4, "little") + nano.to_bytes(4, "little")
        return identity.order_key("ceph", raw.hex().upper(), 0)

    assert (key(seconds, nanos) < key(seconds2, nanos2)) == ((seconds, nanos) < (seconds2, nanos2))


@pytest.mark.parametrize(
    ("dialect", "sequencer"), [("aws", None), ("aws", "not hex"), ("ceph", "AB"), ("versitygw", "A")]
)
def test_what_orders_nothing(dialect: str, sequencer: str | None) -> None:
    assert identity.order_key(dialect, sequencer, 0) == ""


def test_the_hint_brings_equal_etags_to_one_partition() -> None:
    assert identity.content_hint("ab", "x", "y") == identity.content_hint("ab", "z", "w") == b"ab"
    assert identity.content_hint(None, "x", "y") == b"x/y"


def test_a_listing_and_a_notification_name_the_same_object() -> None:
    event = created(record(object={"versionId": "v1"}))
    assert identity.object_id("images", "a/photo.jpg", ETAG, None) == identity.object_id(
        event.bucket, event.key, event.etag, event.version_id
    )


def test_removals_and_letters() -> None:
    (parsed,) = parse_message(message(record(eventName="ObjectRemoved:Delete")))
    assert isinstance(parsed.event, Removed)
    assert identity.removal_id(parsed.event) != identity.removal_id(replace(parsed.event, sequencer="00"))
    source = Position("s3.uploads", 1, 2)
    assert identity.letter_id(source, -1, "identify") != identity.letter_id(source, 0, "identify")
    assert identity.letter_id(source, -1, "identify") == identity.letter_id(
        replace(source, topic="test-7.s3.uploads"), -1, "identify"
    )
    assert identity.letter_key(replace(source, topic="test-7.s3.uploads")) == b"s3.uploads/1/2"
