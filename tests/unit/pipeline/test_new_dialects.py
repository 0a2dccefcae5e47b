"""Sources and versions that have no row: counted under few labels, logged once."""

from __future__ import annotations

import logging

import pytest

from app.domain.filters import UploadFilter
from app.pipeline.identify import IdentifyProcessor
from app.pipeline.new_dialects import MAX_LABELS, MORE
from app.ports.records import SourceRecord
from app.settings import Settings
from app.topics import TASKS
from tests.support.event_messages import message, record
from tests.support.manual_clock import ManualClock
from tests.support.streaming.counted import CountedMeters

OTHER = "sightline_events_other_dialect_total"
VERSION = "sightline_events_new_version_total"


@pytest.fixture
def meters() -> CountedMeters:
    return CountedMeters()


@pytest.fixture
def processor(meters: CountedMeters) -> IdentifyProcessor:
    return IdentifyProcessor(UploadFilter.of(Settings()), ManualClock(), meters)


async def run(processor: IdentifyProcessor, value: bytes) -> list[str]:
    completion = await processor.process(SourceRecord("s3.uploads", 0, 1, 0, None, value))
    return [output.topic for output in completion.outputs]


async def test_known_dialects_and_versions_count_nothing(
    processor: IdentifyProcessor, meters: CountedMeters, caplog: pytest.LogCaptureFixture
) -> None:
    assert await run(processor, message(record(), record(eventSource="rustfs:s3", eventVersion="2.7"))) == [TASKS] * 2
    assert not [name for name, *_ in meters.counts if name in (OTHER, VERSION)]
    assert not caplog.records


async def test_each_source_is_logged_once_and_counted_every_time(
    processor: IdentifyProcessor, meters: CountedMeters, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    value = message(record(eventSource="wasabi:s3"), record(eventSource="wasabi:s3", eventName="ObjectTagging:Put"))
    assert await run(processor, value) == [TASKS]
    assert await run(processor, message(record(eventSource="new:s3"))) == [TASKS]
    assert await run(processor, value) == [TASKS]
    assert meters.counts[OTHER, "other:wasabi:s3"] == 4 and meters.counts[OTHER, "other:new:s3"] == 1
    assert [line.getMessage().split(" have ")[0] for line in caplog.records] == [
        "events of dialect other:wasabi:s3",
        "events of dialect other:new:s3",
    ]


async def test_a_new_version_is_logged_once_and_counted_every_time(
    processor: IdentifyProcessor, meters: CountedMeters, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    for _ in range(3):
        assert await run(processor, message(record(eventVersion="3.0"))) == [TASKS]
    assert meters.counts[VERSION, "aws 3.0"] == 3
    (line,) = caplog.records
    assert "events of dialect aws have version 3.0" in line.getMessage()


async def test_labels_and_lines_are_bounded_whatever_the_events_say(
    processor: IdentifyProcessor, meters: CountedMeters, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    events = 3 * MAX_LABELS
    for number in range(events):
        await run(processor, message(record(eventSource=f"source-{number}\n"), record(eventVersion=f"{number + 3}.0")))
    for name in (OTHER, VERSION):
        labels = [label for metric, label in meters.counts if metric == name]
        assert len(labels) == MAX_LABELS + 1
        assert meters.counts[name, MORE] == events - MAX_LABELS
    assert len(caplog.records) == 2 * MAX_LABELS
    assert all("\n" not in line.getMessage() for line in caplog.records)
