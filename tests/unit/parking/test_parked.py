"""Parked records as a worker reads them: its own, of the topics that are there, until they are taken back."""

from __future__ import annotations

import asyncio
import json

from app.parking.parked import PARKED_KIND
from app.parking.records import ParkedRecords
from app.systems.registry.avro import Codec
from app.topics import CONTROL, TASKS
from schemas.records import ControlRecord
from tests.support.eventually import eventually
from tests.support.manual_clock import ManualClock
from tests.support.memory.topics import MemoryTopicLog

CODEC = Codec()
IDS = {TASKS: "id-1"}
Parked = dict[tuple[str, int, int], str]


class Following:
    """ParkedRecords on a topic in memory; `seen` is what it told last."""

    def __init__(self) -> None:
        self.log = MemoryTopicLog()
        self.seen: list[Parked] = []
        self.parked = ParkedRecords(
            self.log, CODEC, ManualClock(), "score", IDS, lambda parked: self.seen.append(dict(parked))
        )

    def write(self, name: str, *, parked: bool = True, topic_id: str = "id-1", kind: str = PARKED_KIND) -> None:
        body = json.dumps({"parked": parked, "topic_id": topic_id})
        self.log.append(CONTROL, CODEC.encode(ControlRecord(kind, name, body, 0, "ann")), partition=0)


async def test_only_parks_of_this_agent_and_of_the_topics_that_are_there_count() -> None:
    following = Following()
    following.write(f"score/{TASKS}/1/7")
    following.write(f"index/{TASKS}/1/8")
    following.write(f"score/{TASKS}/1/9", topic_id="of-a-topic-that-is-gone")
    following.write(f"score/{TASKS}/1/10", kind="redriven")
    following.write("score/nonsense")
    following.log.append(CONTROL, b"no record of ours", partition=0)
    await following.parked.read()
    assert following.seen == [{(TASKS, 1, 7): "parked by ann"}]


async def test_a_park_that_was_taken_back_is_over_and_nothing_new_is_told_of_nothing_new() -> None:
    following = Following()
    following.write(f"score/{TASKS}/0/1")
    following.write(f"score/{TASKS}/0/2")
    await following.parked.read()
    following.write(f"score/{TASKS}/0/1", parked=False)
    await following.parked.read()
    await following.parked.read()
    assert following.seen == [
        {(TASKS, 0, 1): "parked by ann", (TASKS, 0, 2): "parked by ann"},
        {(TASKS, 0, 2): "parked by ann"},
    ]
    assert following.log.scanned == 2


async def test_a_broker_that_is_away_is_waited_for() -> None:
    following = Following()
    following.log.disconnect()
    task = asyncio.create_task(following.parked.follow())
    await asyncio.sleep(0)
    following.write(f"score/{TASKS}/0/1")
    following.log.connect()
    await eventually(lambda: following.seen == [{(TASKS, 0, 1): "parked by ann"}])
    task.cancel()
