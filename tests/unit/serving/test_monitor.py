"""Following for figures: only while somebody asks."""

from __future__ import annotations

from app.serving.monitor import IDLE_SECONDS, Monitor
from app.serving.sliding_window import WINDOW_SECONDS
from app.systems.registry.avro import Codec
from app.topics import PREDICTIONS
from tests.support.eventually import eventually
from tests.support.manual_clock import ManualClock
from tests.support.memory.topics import MemoryTopicLog
from tests.support.outcomes import prediction

CODEC = Codec()


async def test_it_begins_five_minutes_back_and_ends_when_nobody_asks() -> None:
    log, clock = MemoryTopicLog(partitions=2), ManualClock()
    outcome = CODEC.encode(prediction())
    log.append(PREDICTIONS, outcome, partition=0, timestamp_ms=clock.now_ms() - WINDOW_SECONDS * 1000 - 60_000)
    for _ in range(250):
        log.append(PREDICTIONS, outcome, partition=1, timestamp_ms=clock.now_ms() - 60_000)
    log.append(PREDICTIONS, b"none of ours", partition=1, timestamp_ms=clock.now_ms())
    monitor = Monitor(log, CODEC.fields, clock)
    async with monitor.running():
        assert not monitor.follows()
        assert await monitor.asked() == ""
        assert monitor.window.total(clock.now_ms()).outcomes == {"scored": 250}
        log.append(PREDICTIONS, outcome, partition=0, timestamp_ms=clock.now_ms())
        await eventually(lambda: monitor.window.total(clock.now_ms()).outcomes["scored"] == 251)
        await clock.sleep(IDLE_SECONDS + 1)
        await eventually(lambda: not monitor.follows())
        assert await monitor.asked() == ""
        assert monitor.follows()
        # What was published a while ago is read anew.
        assert monitor.window.total(clock.now_ms()).outcomes["scored"] == 251


async def test_without_a_broker_it_says_so() -> None:
    log = MemoryTopicLog(partitions=2)
    log.disconnect()
    monitor = Monitor(log, CODEC.fields, ManualClock())
    async with monitor.running():
        assert "broker in memory is away" in await monitor.asked()
