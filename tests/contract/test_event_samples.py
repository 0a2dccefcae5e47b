"""Every sample notification, captured, documented or made, is read as it says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.domain import identity
from app.domain.events import Created, Event, Ignored, Malformed, Removed, TestEvent, parse_message
from app.domain.events.dialects import BY_NAME
from app.domain.filters import UploadFilter
from app.pipeline.dead_letters import dead_letter
from app.pipeline.identify import IdentifyProcessor
from app.ports.records import SourceRecord
from app.settings import Settings
from app.topics import DEAD_LETTERS, REMOVED, TASKS
from schemas.records import DeadLetter, ImageRemoved, ImageTask
from tests.support.manual_clock import ManualClock

SAMPLES = sorted((Path(__file__).resolve().parents[1] / "samples" / "s3-events").glob("*.json"))
KINDS: dict[str, type[Event]] = {
    "created": Created,
    "removed": Removed,
    "ignored": Ignored,
    "test": TestEvent,
    "malformed": Malformed,
}


def load(path: Path) -> dict[str, Any]:
    sample: dict[str, Any] = json.loads(path.read_text())
    return sample


def source(value: bytes) -> SourceRecord:
    return SourceRecord("s3.uploads", 2, 17, 1_795_425_305_000, None, value)


def test_there_are_samples_of_every_dialect() -> None:
    dialects = {event.get("dialect") for path in SAMPLES for event in load(path)["events"]}
    assert dialects >= set(BY_NAME)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_sample_is_read_as_expected(path: Path) -> None:
    sample = load(path)
    found = [parsed.event for parsed in parse_message(sample["message"].encode())]
    assert len(found) == len(sample["events"])
    for event, expected in zip(found, sample["events"], strict=True):
        assert isinstance(event, KINDS[expected["kind"]])
        for name, value in expected.items():
            if name == "order_key" and isinstance(event, Created):
                assert identity.order_key_of(event) == value
            elif name == "why" and isinstance(event, Ignored):
                assert event.why == value
            elif name != "kind":
                assert getattr(event, name) == value, name


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
async def test_identify_makes_of_each_sample_what_it_says(path: Path) -> None:
    sample = load(path)
    processor = IdentifyProcessor(UploadFilter.of(Settings()), ManualClock())
    completion = await processor.process(source(sample["message"].encode()))
    topics = {"created": TASKS, "removed": REMOVED, "malformed": DEAD_LETTERS}
    expected = [topics[event["kind"]] for event in sample["events"] if event["kind"] in topics]
    assert [output.topic for output in completion.outputs] == expected
    assert completion.dead_letters == expected.count(DEAD_LETTERS)
    records = {"created": ImageTask, "removed": ImageRemoved, "malformed": DeadLetter}
    assert [type(output.record) for output in completion.outputs] == [
        records[event["kind"]] for event in sample["events"] if event["kind"] in records
    ]


def test_of_two_events_of_one_key_the_newer_has_the_larger_order_key() -> None:
    sample = next(load(path) for path in SAMPLES if path.stem == "aws-out-of-order")
    orders = [
        identity.order_key_of(p.event)
        for p in parse_message(sample["message"].encode())
        if isinstance(p.event, Created)
    ]
    assert orders.index(max(orders)) == sample["newest"]


def test_a_malformed_message_keeps_its_bytes() -> None:
    for path in SAMPLES:
        value = load(path)["message"].encode()
        parsed = parse_message(value)
        if len(parsed) == 1 and isinstance(parsed[0].event, Malformed):
            assert parsed[0].part == -1
            assert parsed[0].event.value == value
            letter = dead_letter(
                source(value), agent="identify", kind="poison", reason="x", detail="", now_ms=1, value=value
            ).record
            assert isinstance(letter, DeadLetter)
            assert letter.value == value
