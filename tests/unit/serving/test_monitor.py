"""Following for figures: only while somebody asks."""

from __future__ import annotations

from app.serving.monitor import IDLE_SECONDS, Monitor
from app.serving.sliding_window import WINDOW_SECONDS
from app.systems.registry.avro import Codec
from app.topics import PREDICTIONS
from tests.support.eventually import eventually
from tests.support.fake_topic import FakeTopic
from tests.support.manual_clock import ManualClock
from tests.support.outcomes import prediction

CODEC = Codec()


async def test_it_begins_five_minutes_back_and_ends_when_nobody_asks() -> None:
    topic, clock = FakeTopic(PREDICTIONS), ManualClock()
    outcome = CODEC.encode(prediction())
    topic.append(0, outcome, timestamp_ms=clock.now_ms() - WINDOW_SECONDS * 1000 - 60_000)
    for _ in range(250):
        topic.append(1, outcome, timestamp_ms=clock.now_ms() - 60_000)
    topic.append(1, b"none of ours", timestamp_ms=clock.now_ms())
    monitor = Monitor(topic.open, CODEC.fields, clock)
    async with monitor.running():
        assert not monitor.follows()
        assert await monitor.asked() == ""
        assert monitor.window.total(clock.now_ms()).outcomes == {"scored": 250}
        topic.append(0, outcome, timestamp_ms=clock.now_ms())
        await eventually(lambda: monitor.window.total(clock.now_ms()).outcomes["scored"] == 251)
        await clock.sleep(IDLE_SECONDS + 1)
        await eventually(lambda: not monitor.follows())
        assert await monitor.asked() == ""
        assert monitor.follows()
        # What was published a while ago is read anew.
        assert monitor.window.total(clock.now_ms()).outcomes["scored"] == 251


async def test_without_a_broker_it_says_so() -> None:
    topic = FakeTopic(PREDICTIONS)
    topic.cut()
    monitor = Monitor(topic.open, CODEC.fields, ManualClock())
    async with monitor.running():
        assert "fake broker is away" in await monitor.asked()
