"""Whatever arrives, the parser returns and identify publishes something that the codec can write."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from app.domain import identity
from app.domain.events import Created, Ignored, Malformed, parse_message
from app.domain.filters import UploadFilter
from app.domain.object_names import key_fault, reference_fault
from app.pipeline.identify import IdentifyProcessor
from app.ports.records import SourceRecord
from app.settings import Settings
from app.systems.registry.avro import Codec
from app.topics import DEAD_LETTERS
from schemas.records import DeadLetter
from tests.support.event_messages import ETAG, in_lambda_sns, in_sns, in_sqs, record
from tests.support.manual_clock import ManualClock

CODEC = Codec()
OUR_LIMIT_BYTES = 16 * 1024

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=()), max_size=40)
)
WORD_LINES = """Records s3 object bucket name key eTag size sequencer eventSource eventName eventTime eventVersion body
Type Message Event detail detail-type source Sns EventSource versionId version-id etag reason userIdentity PrincipalId
configurationId schema payload action Action account EventName eventSource"""
SAYING_LINES = f"""aws:s3 minio:s3 ceph:s3 aws:sqs aws:sns aws.s3 Notification s3:TestEvent ObjectCreated:Put {ETAG}
ObjectCreated:Post s3:ObjectRemoved:Delete 2.1 3.0 a+b%20c.jpg %ff x-global rustfs:s3 sgws:s3 new:s3 Publish PutObject
DeleteObject ../x images 10.0.0.1"""
WORDS = st.sampled_from(WORD_LINES.split())
SAYINGS = st.sampled_from(SAYING_LINES.split())
JSON = st.recursive(
    SCALARS | SAYINGS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=5), inner, max_size=6),
    max_leaves=12,
)
FIELDS = st.sampled_from(["key", "size", "eTag", "versionId", "sequencer"])
RECORD = st.builds(
    lambda top, thing: record(**top, object=thing),
    st.dictionaries(
        st.sampled_from(["eventVersion", "eventSource", "eventTime", "eventName", "userIdentity"]), JSON, max_size=2
    ),
    st.dictionaries(FIELDS, SCALARS | SAYINGS, max_size=3),
)


Wrap = Callable[[Any], Any]
WRAPS: tuple[Wrap, ...] = (
    lambda body: {"schema": None, "payload": body},
    lambda body: {"Type": "Notification", "Message": body},
    lambda body: {"Records": [{"eventSource": "aws:sqs", "body": body}]},
    lambda body: {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": body}}]},
)


def check(value: bytes) -> None:
    parsed = parse_message(value)
    for one in parsed:
        if isinstance(one.event, Malformed):
            assert one.event.value == value if one.part == -1 else one.part >= 0
    source = SourceRecord("s3.uploads", 0, 5, 1_795_425_304_123, b"k", value)
    processor = IdentifyProcessor(UploadFilter.of(Settings()), ManualClock())
    completion = _run(processor.process(source))
    assert completion.dead_letters == sum(isinstance(one.event, Malformed) for one in parsed)
    for output in completion.outputs:
        wire = CODEC.encode(output.record)
        assert CODEC.decode(wire) == output.record
        if output.topic == DEAD_LETTERS:
            assert isinstance(output.record, DeadLetter)
        else:
            assert len(wire) < OUR_LIMIT_BYTES


def _run(coroutine: Any) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("identify waited")


@given(st.binary(max_size=300))
def test_any_bytes(value: bytes) -> None:
    check(value)


@given(JSON)
def test_any_json(value: Any) -> None:
    check(json.dumps(value).encode())


@given(st.lists(RECORD | JSON, max_size=4), st.lists(st.sampled_from([in_sns, in_sqs, in_lambda_sns]), max_size=5))
def test_nearly_right_records_in_any_envelopes(records: list[Any], wraps: list[Any]) -> None:
    value = json.dumps({"Records": records}).encode()
    for wrap in wraps:
        value = wrap(value)
    check(value)
    if len(wraps) <= 4:
        assert len(parse_message(value)) >= len(records) or any(
            isinstance(entry, dict) and (entry.get("eventSource") == "aws:sqs" or entry.get("EventSource") == "aws:sns")
            for entry in records
        )


@given(st.text(max_size=60), st.integers(0, 200))
def test_cut_off_messages(text: str, length: int) -> None:
    check(json.dumps({"Records": [record(object={"key": text})]}, ensure_ascii=False).encode()[:length])


# Text that may be more than one thing: a number, a header, a path, the half of a character.
NASTY = SCALARS | st.sampled_from(
    ["e1\nx: y", "\0", "a/../../b", "evil.example:80#", "%00", "\udcff", "a" * 2000, 7, 1e999]
)


@given(
    st.sampled_from(["aws:s3", "minio:s3", "ceph:s3", "rustfs:s3", "sgws:s3", "new:s3"]) | NASTY,
    st.dictionaries(FIELDS, NASTY, max_size=5),
    st.just("images") | NASTY,
    st.sampled_from(["2.1", "3.0"]) | NASTY,
)
def test_what_is_read_can_be_asked_for_and_everything_else_is_a_dead_letter(
    event_source: Any, thing: dict[str, Any], bucket: Any, version: Any
) -> None:
    raw = record(eventSource=event_source, eventVersion=version, s3={"bucket": {"name": bucket}}, object=thing)
    value = json.dumps({"Records": [raw]}).encode()
    check(value)
    (parsed,) = parse_message(value)
    event = parsed.event
    if isinstance(event, Created):
        assert reference_fault(event.bucket, event.key, event.version_id, event.etag) is None
        assert identity.upload_id_of(event) and identity.order_key_of(event) is not None
        assert event.alternate_key is None or key_fault(event.alternate_key) is None
    else:
        assert isinstance(event, Malformed | Ignored)


@given(JSON, st.lists(st.sampled_from(list(WRAPS)), max_size=5))
def test_any_json_in_any_envelopes_of_objects(value: Any, wraps: list[Wrap]) -> None:
    text = json.dumps(value)
    for wrap in wraps:
        text = json.dumps(wrap(json.loads(text)))
    check(text.encode())


@given(st.sampled_from(list(WRAPS)))
def test_envelopes_without_end_return(wrap: Wrap) -> None:
    body: Any = record()
    for _ in range(200):
        body = wrap(body)
    check(json.dumps(body).encode())
