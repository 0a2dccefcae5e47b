"""Faust's consumer with our overrides, on a thread that answers from a list instead of a broker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest_asyncio
from faust.types import TP

from app.compose.bootstrap import faust_app
from app.settings import Settings, WorkerSettings
from app.streaming.ports import Opened, SourcePartition
from app.systems.faust.data_dir import claim_home
from app.systems.faust.transport import FETCH_RECORDS, TOPIC_BUFFER, Consumer

SOURCE = SourcePartition("s3.uploads", 0)
PARTITION = TP(*SOURCE)


class Thread:
    """Gives each fetch what the test put there, and lets it act while a fetch is under way."""

    def __init__(self) -> None:
        self.fetches: list[list[int]] = []
        self.during: Any = None
        self.asked: list[set[Any]] = []

    async def getmany(self, active_partitions: set[Any], timeout: float) -> dict[Any, list[Any]]:
        self.asked.append(active_partitions)
        if self.during is not None:
            act, self.during = self.during, None
            act()
        offsets = self.fetches.pop(0) if self.fetches else []
        return {PARTITION: [fetched(offset) for offset in offsets]} if offsets else {}

    def highwater(self, tp: Any) -> int:
        return 100


def fetched(offset: int) -> Any:
    return SimpleNamespace(
        topic=SOURCE.topic,
        partition=SOURCE.partition,
        offset=offset,
        timestamp=0,
        timestamp_type=0,
        headers=(),
        key=None,
        value=b"",
        checksum=None,
        serialized_key_size=0,
        serialized_value_size=0,
    )


@pytest_asyncio.fixture
async def consumer(tmp_path: Path) -> AsyncIterator[Any]:
    home = claim_home(WorkerSettings(data_dir=tmp_path), "identify")
    app = faust_app(Settings(), "identify", home)
    app.consumer_generation_id = 7
    made = app._new_consumer()
    made._thread = Thread()
    yield made
    home.release()


async def offsets_of(consumer: Any) -> list[int]:
    return [message.offset async for _, message in consumer.getmany(0.1)]


def opened(epoch: int = 7, position: int = 0) -> dict[SourcePartition, Opened]:
    return {SOURCE: Opened(epoch, position, 0)}


async def test_the_app_makes_our_consumer_which_never_commits_and_keeps_nothing(consumer: Any) -> None:
    assert isinstance(consumer, Consumer)
    consumer._acked[PARTITION] = [1, 2, 3]
    assert consumer._new_offset(PARTITION) is None
    for offset in range(0, 2_000, 2):
        await consumer._add_gap(PARTITION, offset, offset + 1)
    assert not consumer._gap


async def test_faust_resumes_no_source(consumer: Any) -> None:
    consumer._set_active_tps({PARTITION})
    consumer.pause_partitions({PARTITION})
    consumer.resume_partitions({PARTITION})
    assert PARTITION not in consumer._active_partitions
    consumer.begin(opened())
    assert PARTITION in consumer._active_partitions


async def test_what_is_delivered_is_noted(consumer: Any) -> None:
    consumer.begin(opened())
    consumer._thread.fetches = [[0, 2, 5]]
    assert await offsets_of(consumer) == [0, 2, 5]
    assert [consumer.deliveries.taken(SOURCE, 7, offset) for offset in (0, 2, 5)] == [True, True, True]


async def test_a_fetch_that_began_before_the_opening_delivers_nothing_of_it(consumer: Any) -> None:
    other = TP("s3.uploads", 1)
    consumer.begin({SourcePartition(*other): Opened(7, 0, 0)})
    consumer._thread.fetches = [[0, 1], [0, 1]]
    consumer._thread.during = lambda: consumer.begin(opened())
    assert await offsets_of(consumer) == []
    assert PARTITION not in consumer._thread.asked[0], "Faust's own set would have been changed under the fetch"
    assert await offsets_of(consumer) == [0, 1]


async def test_after_closing_nothing_is_delivered_until_the_next_opening(consumer: Any) -> None:
    consumer.begin(opened())
    consumer.close_sources()
    consumer._set_active_tps({PARTITION})
    consumer._thread.fetches = [[5, 6]]
    assert await offsets_of(consumer) == []
    assert consumer._thread.asked == [], "a closed source is not even fetched"
    consumer.app.consumer_generation_id = 8
    consumer.begin(opened(epoch=8, position=5))
    assert await offsets_of(consumer) == [5, 6]


async def test_an_offset_is_delivered_once_in_an_epoch_and_never_below_its_position(consumer: Any) -> None:
    consumer.begin(opened(position=10))
    consumer._thread.fetches = [[9, 10, 11], [11, 12]]
    assert await offsets_of(consumer) == [10, 11]
    assert await offsets_of(consumer) == [12]


def buffer_of(consumer: Any) -> Any:
    """What waits for the pump of the source's topic."""
    channel = consumer.app.topic(SOURCE.topic)
    consumer.app.topics.add(channel)
    return channel.queue


async def test_a_topic_whose_pump_is_behind_is_not_fetched_until_there_is_room(consumer: Any) -> None:
    other = TP("image.tasks.v1", 0)
    consumer.begin({**opened(), SourcePartition(*other): Opened(7, 0, 0)})
    queue = buffer_of(consumer)
    for number in range(TOPIC_BUFFER - FETCH_RECORDS + 1):
        queue.put_nowait(number)
    await offsets_of(consumer)
    queue.get_nowait()
    await offsets_of(consumer)
    assert consumer._thread.asked == [{other}, {PARTITION, other}]


async def test_with_no_room_anywhere_nothing_is_fetched(consumer: Any) -> None:
    consumer.begin(opened())
    queue = buffer_of(consumer)
    for number in range(TOPIC_BUFFER):
        queue.put_nowait(number)
    assert await offsets_of(consumer) == []
    assert consumer._thread.asked == [], "aiokafka would have taken the empty set for all partitions"


async def test_faust_itself_never_finds_a_buffer_nearly_full(consumer: Any) -> None:
    assert buffer_of(consumer).pressure_high_size > TOPIC_BUFFER
