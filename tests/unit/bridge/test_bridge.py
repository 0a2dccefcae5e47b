"""The bridge on memory twins: nothing is deleted before Kafka has it, and no outage ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from app.bridge.bridge import MAX_BODY_BYTES, Bridge
from app.errors import BrokerUnavailable
from app.systems.prometheus import PrometheusMeters
from app.systems.registry.avro import Codec
from app.topics import DEAD_LETTERS, UPLOADS
from schemas.records import DeadLetter, Position
from tests.support.eventually import eventually
from tests.support.manual_clock import ManualClock
from tests.support.memory.queue import MemoryNotificationQueue


class Broker:
    """A Producer that remembers; `failures` calls fail first, `lost_answers` take the records and fail all the same."""

    def __init__(self, failures: int = 0, lost_answers: int = 0) -> None:
        self.failures = failures
        self.lost_answers = lost_answers
        self.records: list[tuple[str, bytes | None, bytes]] = []

    async def send_and_wait(self, topic: str, key: bytes | None, value: bytes) -> Position:
        await self.send_batch([(topic, key, value)])
        return Position(topic, 0, len(self.records) - 1)

    async def send_batch(self, records: Sequence[tuple[str, bytes | None, bytes]]) -> None:
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise BrokerUnavailable("away")
        self.records.extend(records)
        if self.lost_answers:
            self.lost_answers -= 1
            raise BrokerUnavailable("the answer was lost")

    async def close(self) -> None:
        pass


def bridge_of(
    queue: MemoryNotificationQueue,
    broker: Broker,
    *,
    clock: ManualClock | None = None,
    receivers: int = 3,
    visibility: float = 60,
) -> Bridge:
    return Bridge(
        queue,
        broker,
        Codec(),
        clock or ManualClock(),
        PrometheusMeters(),
        receivers=receivers,
        visibility_seconds=visibility,
    )


async def run_until_empty(bridge: Bridge, queue: MemoryNotificationQueue) -> None:
    running = asyncio.create_task(bridge.run())
    await eventually(lambda: len(queue) == 0, every_seconds=0.001)
    bridge.stop()
    async with asyncio.timeout(5):
        await running


async def test_every_message_arrives_and_is_deleted() -> None:
    queue, broker = MemoryNotificationQueue(ManualClock()), Broker()
    bodies = [f"body {n}" for n in range(137)]
    queue.put(bodies)
    bridge = bridge_of(queue, broker)
    await run_until_empty(bridge, queue)
    assert sorted(value.decode() for _, _, value in broker.records) == sorted(bodies)
    assert {topic for topic, _, _ in broker.records} == {UPLOADS}
    assert (bridge.state.bridged, bridge.state.deleted) == (137, 137)


async def test_a_broker_that_is_away_for_a_while_loses_nothing() -> None:
    queue, broker = MemoryNotificationQueue(ManualClock()), Broker(failures=4)
    queue.put(["one", "two"])
    await run_until_empty(bridge_of(queue, broker, receivers=1), queue)
    assert [value for _, _, value in broker.records] == [b"one", b"two"]


async def test_a_broker_that_is_away_longer_than_the_visibility_lets_the_messages_go_and_meets_them_again() -> None:
    clock = ManualClock()
    queue, broker = MemoryNotificationQueue(clock, visibility_seconds=20), Broker(failures=9)
    queue.put(["one"])
    bridge = bridge_of(queue, broker, clock=clock, receivers=1, visibility=20)
    await run_until_empty(bridge, queue)
    assert [value for _, _, value in broker.records] == [b"one"]
    assert clock.monotonic() > 20


async def test_a_lost_answer_repeats_and_never_loses() -> None:
    queue, broker = MemoryNotificationQueue(ManualClock()), Broker(lost_answers=1)
    queue.put(["one"])
    await run_until_empty(bridge_of(queue, broker, receivers=1), queue)
    assert [value for _, _, value in broker.records] == [b"one", b"one"]
    assert len({key for _, key, _ in broker.records}) == 1


async def test_a_queue_that_is_away_is_waited_for() -> None:
    queue, broker = MemoryNotificationQueue(ManualClock()), Broker()
    queue.put(["one"])
    queue.away = True
    bridge = bridge_of(queue, broker)
    running = asyncio.create_task(bridge.run())
    await eventually(lambda: bridge.state.away == {"queue"}, every_seconds=0.001)
    assert bridge.state.shown() == (True, {"bridged": 0, "deleted": 0, "waiting_for": ["queue"]})
    queue.away = False
    await eventually(lambda: len(queue) == 0, every_seconds=0.001)
    assert bridge.state.away == set()
    bridge.stop()
    await running


async def test_stopped_while_the_broker_is_away_the_messages_stay_in_the_queue() -> None:
    queue, broker = MemoryNotificationQueue(ManualClock()), Broker(failures=10**9)
    queue.put(["one"])
    bridge = bridge_of(queue, broker, receivers=1, visibility=10**6)
    running = asyncio.create_task(bridge.run())
    await eventually(lambda: "broker" in bridge.state.away, every_seconds=0.001)
    bridge.stop()
    async with asyncio.timeout(5):
        await running
    assert len(queue) == 1
    assert bridge.state.deleted == 0


async def test_a_message_whose_texts_are_no_utf8_arrives_all_the_same() -> None:
    queue, broker = MemoryNotificationQueue(ManualClock()), Broker()
    queue.put(["half a pair \ud800"])
    queue._waiting[0] = ("message-\ud800", queue._waiting[0][1])
    await run_until_empty(bridge_of(queue, broker), queue)
    ((_, key, value),) = broker.records
    assert key == b"message-\xed\xa0\x80" and value == b"half a pair \xed\xa0\x80"


async def test_a_message_too_large_for_kafka_is_a_dead_letter_and_holds_up_nobody() -> None:
    queue, broker = MemoryNotificationQueue(ManualClock()), Broker()
    queue.put(["x" * (MAX_BODY_BYTES + 1), "small"])
    await run_until_empty(bridge_of(queue, broker, receivers=1), queue)
    by_topic = {topic: value for topic, _, value in broker.records}
    assert by_topic[UPLOADS] == b"small"
    letter = Codec().decode_as(by_topic[DEAD_LETTERS], DeadLetter)
    assert (letter.agent, letter.reason, letter.value_bytes) == ("bridge", "message_too_large", MAX_BODY_BYTES + 1)
