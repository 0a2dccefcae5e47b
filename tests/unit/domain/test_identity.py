from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import identity
from app.domain.events import Created, Removed, parse_message
from schemas.records import Position
from tests.support.event_messages import ETAG, TIME, in_sns, message, record, versitygw


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


# Ids of the samples as they were before dialects became a table: outcomes on the topics and claims bear them.
_SAMPLES = Path(__file__).resolve().parents[2] / "samples" / "s3-events"
_GOLDEN = """\
aws-delete-marker 0 a95940147fff9c2f1131cbb61dd103ef 006B040435AA55CC1400000000000000
aws-delete 0 2cf56f3d458df4478cfb9aff3ef8bf74 006B040430AA55CC1300000000000000
aws-key-encoded 0 e1439af02b0934309f55d4147b0c3ed1 006B040421AA55CC1200000000000000
aws-multipart 0 9869a348a2ba3cc4dfa44ff899054581 006B040420AA55CC1100000000000000
aws-out-of-order 0 de072d8e28bfaa93974f26f9e99dd220 006B04044F0000000000000000000000
aws-out-of-order 1 92735fdffa1eb14c45c2704d780d2426 006B04044E1234567890000000000000
aws-put-v26-versioned 0 27514fcb827fb5e74af09e69d70691c2 006B040418A1B2C3D500000000000000
aws-put 0 e4a29c5640366f6767c39891802abdd6 006B040418A1B2C3D400000000000000
aws-two-records 0 e4a29c5640366f6767c39891802abdd6 006B040418A1B2C3D400000000000000
aws-two-records 1 5fd9e41d4351bf5004d404780791d977 006B040419A1B2C3D400000000000000
ceph-put 0 ccc224ad7593252b536dc2e0a469c8c8 6B040418075BCD15
eventbridge-created 0 1aad5fd041271a7f992cb29382b369f2 006B040418A1B2C3D600000000000000
eventbridge-delete-marker 0 147f6b5f55942feaa4045e3d54e6d385 006B040435AA55CC1500000000000000
malformed-foreign-record 1 e4a29c5640366f6767c39891802abdd6 006B040418A1B2C3D400000000000000
minio-delete-marker 0 3a9cf0be877dcea084279e586f4c62e3 18EAB62B36AC28290000000000000000
minio-delete 0 ba657eaaf756886d6657dabf1ad10807 18EAB62AED03817B0000000000000000
minio-key-encoded 0 a1bd0add9ba0f65c645281e78871abcb 18EAB62A8C884A6D0000000000000000
minio-multipart 0 672c1ebb70e5e227387c025f5e2093d0 18EAB62AC816A5F90000000000000000
minio-put-empty 0 eeb18fecf87fa0b8b35fd7c1fe9e01e7 18EAB62A9F0D7FD90000000000000000
minio-put 0 76c134a2592c6f0a7566a50e26a6897d 18EAB62A79A6217A0000000000000000
ministack-key-encoded 0 304959b244046302b7290a2f5c21ba2c 00000660F35FC92BA800000000000000
sns-wrapped-put 0 e4a29c5640366f6767c39891802abdd6 006B040418A1B2C3D400000000000000
sqs-sns-wrapped-put 0 e4a29c5640366f6767c39891802abdd6 006B040418A1B2C3D400000000000000
sqs-wrapped-put 0 e4a29c5640366f6767c39891802abdd6 006B040418A1B2C3D400000000000000
versitygw-delete-objects 0 92c941863c0ed8d1fd554436afb69269 001795447692000.0000000000000008
versitygw-key-raw 0 2a43c52e28fecb7cdcad061ddf437e44 001795447690000.0000000000000002
versitygw-multipart 0 c373264d4c61dfc6dbe4ff633885f2b1 001795447691000.0000000000000005
versitygw-put 0 c2560b6268b2d334f30a428605c83f3a 001795447690000.0000000000000001
"""


@pytest.mark.parametrize("line", _GOLDEN.splitlines())
def test_ids_and_orders_of_known_dialects_stay_what_they_were(line: str) -> None:
    name, part, expected_id, expected_order = line.split()
    sample = json.loads((_SAMPLES / f"{name}.json").read_text())
    event = parse_message(sample["message"].encode())[int(part)].event
    assert isinstance(event, Created | Removed)
    found = identity.upload_id_of(event) if isinstance(event, Created) else identity.removal_id(event)
    assert (found, identity.order_key_of(event)) == (expected_id, expected_order)


def test_events_of_other_sources_with_the_same_sequencer_are_the_same_upload_in_dialects_of_their_own() -> None:
    one, two = created(record(eventSource="a:s3")), created(record(eventSource="b:s3"))
    assert one.dialect != two.dialect
    assert identity.upload_id_of(one) == identity.upload_id_of(two)


def test_a_short_sequencer_of_an_unknown_store_counts_from_a_start_that_comes_again() -> None:
    before = record(eventSource="new:s3", object={"sequencer": "FF"}, eventTime="2026-11-23T09:15:04Z")
    after = record(eventSource="new:s3", object={"sequencer": 1}, eventTime="2026-11-23T10:00:00Z")
    assert identity.order_key_of(created(before)) < identity.order_key_of(created(after))
    again = record(eventSource="new:s3", object={"sequencer": "FF"}, eventTime="2026-11-23T10:00:00Z")
    assert id_of(before) != id_of(again)


def test_a_long_sequencer_of_an_unknown_store_orders_as_that_of_s3() -> None:
    event = created(record(eventSource="new:s3"))
    assert identity.order_key_of(event) == identity.order_key_of(created(record()))


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
