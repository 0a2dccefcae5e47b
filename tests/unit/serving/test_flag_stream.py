"""The hub: every flag once for each subscriber, however often it comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.positions import encode_positions
from app.errors import BrokerUnavailable
from app.serving.flag_stream import QUEUE, FlagEvent, FlagHub, NotAnEventId, Subscription, TooManyStreams
from app.serving.topic_watch import Following
from app.systems.prometheus import PrometheusMeters
from app.systems.registry.avro import Codec
from app.topics import FLAGGED
from tests.support.eventually import eventually
from tests.support.manual_clock import ManualClock
from tests.support.memory.topics import MemoryTopicLog
from tests.support.outcomes import flag_of, prediction

CODEC = Codec()
ALL: frozenset[str] = frozenset()


def _flag(number: int, **changes: Any) -> bytes:
    return CODEC.encode(flag_of(prediction(order=number + 1), flag_id=str(number), **changes))


@asynccontextmanager
async def _hub(log: MemoryTopicLog, most: int = 10) -> AsyncIterator[FlagHub]:
    hub = FlagHub(Following(log, (FLAGGED,), ManualClock()), log, CODEC, PrometheusMeters(), most=most)
    async with hub.running():
        yield hub


async def _take(subscription: Subscription, count: int) -> tuple[list[int], str]:
    """Take `count` flags and go; return their numbers and the last id that was told."""
    seen: list[int] = []
    last = ""
    async with aclosing(subscription.events(0.01)) as events:
        async for event in events:
            last = event.event_id
            if event.flag is not None:
                seen.append(int(event.flag.flag_id))
            if len(seen) == count:
                break
    subscription.close()
    return seen, last


async def test_a_subscriber_gets_what_comes_after_it() -> None:
    log = MemoryTopicLog(partitions=2)
    log.append(FLAGGED, _flag(0), partition=0)
    async with _hub(log) as hub:
        subscription = await hub.subscribe(ALL, None)
        for number in range(1, 6):
            log.append(FLAGGED, _flag(number), partition=number % 2)
        seen, _ = await _take(subscription, 5)
        assert sorted(seen) == [1, 2, 3, 4, 5]


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_whoever_comes_back_with_its_id_misses_nothing_and_sees_nothing_twice(data: st.DataObject) -> None:
    """Guarantee: over any number of reconnects, each flag once, in the order of its partition."""

    async def run() -> None:
        log = MemoryTopicLog(partitions=3)
        published: dict[int, list[int]] = {0: [], 1: [], 2: []}
        numbers = iter(range(10_000))

        def publish(most: int) -> int:
            count: int = data.draw(st.integers(0, most))
            for _ in range(count):
                partition, number = data.draw(st.integers(0, 2)), next(numbers)
                log.append(FLAGGED, _flag(number), partition=partition, holes=data.draw(st.integers(0, 2)))
                published[partition].append(number)
            return count

        async with _hub(log) as hub, _hub(log) as other:
            # Where a first subscriber is told that it begins.
            await eventually(lambda: hub.positions and other.positions)
            seen, event_id, left = list[int](), encode_positions(hub.positions), 0
            for _ in range(data.draw(st.integers(1, 6))):
                left += publish(8)
                chosen = data.draw(st.sampled_from([hub, other]))
                subscription = await chosen.subscribe(ALL, event_id)
                left += publish(4)
                count = data.draw(st.integers(0, left))
                if count:
                    found, event_id = await _take(subscription, count)
                    seen += found
                    left -= count
                subscription.close()
            if left:
                found, event_id = await _take(await hub.subscribe(ALL, event_id), left)
                seen += found
        assert sorted(seen) == sorted(number for numbers in published.values() for number in numbers)
        for numbers_of in published.values():
            assert [number for number in seen if number in numbers_of] == numbers_of

    asyncio.run(run())


async def test_actions_are_chosen_and_a_flag_taken_back_comes_to_those_who_had_it() -> None:
    log = MemoryTopicLog(partitions=2)
    async with _hub(log) as hub:
        subscription = await hub.subscribe(frozenset({"block"}), None)
        log.append(FLAGGED, _flag(0, action="review"), partition=0)
        log.append(FLAGGED, _flag(1, action="block"), partition=0)
        log.append(
            FLAGGED, _flag(2, action="none", state="cleared", previous_action="block", changed=True), partition=0
        )
        log.append(
            FLAGGED, _flag(3, action="none", state="cleared", previous_action="notify", changed=True), partition=0
        )
        log.append(FLAGGED, b"no flag at all", partition=0)
        log.append(FLAGGED, _flag(4, action="block"), partition=0)
        assert (await _take(subscription, 3))[0] == [1, 2, 4]


async def test_what_was_for_others_is_passed_while_nothing_comes() -> None:
    log = MemoryTopicLog(partitions=1)
    async with _hub(log) as hub:
        subscription = await hub.subscribe(frozenset({"block"}), None)
        async with aclosing(subscription.events(0.01)) as events:
            assert await anext(events) == FlagEvent(encode_positions({0: 0}), None)
            for number in range(3):
                log.append(FLAGGED, _flag(number, action="notify"), partition=0)
            told = await anext(events)
            while told.event_id != encode_positions({0: 3}):
                told = await anext(events)
            assert told.flag is None
        subscription.close()


async def test_a_subscriber_that_is_too_slow_is_ended_and_loses_nothing() -> None:
    log = MemoryTopicLog(partitions=2)
    async with _hub(log) as hub:
        slow = await hub.subscribe(ALL, None)
        first, quick = encode_positions(hub.positions), await hub.subscribe(ALL, None)
        for number in range(QUEUE + 1):
            log.append(FLAGGED, _flag(number), partition=0)
        await eventually(lambda: slow.ended)
        assert slow.ended == "slow"
        assert [event.flag async for event in slow.events(0.01)] == [None]
        slow.close()
        # Neither of them took anything, and so both are over; the id brings all of it.
        assert quick.ended == "slow"
        quick.close()
        again = await hub.subscribe(ALL, first)
        assert (await _take(again, QUEUE + 1))[0] == list(range(QUEUE + 1))


async def test_a_long_way_is_caught_up_in_steps() -> None:
    log = MemoryTopicLog(partitions=2)
    async with _hub(log) as hub:
        await eventually(lambda: hub.positions)
        begin = encode_positions(hub.positions)
        for number in range(4_500):
            log.append(FLAGGED, _flag(number, action="notify" if number % 100 else "block"), partition=number % 2)
        await eventually(lambda: sum(hub.positions.values()) == 4_500)
        seen, _ = await _take(await hub.subscribe(frozenset({"block"}), begin), 45)
        assert sorted(seen) == list(range(0, 4_500, 100))
        assert log.scanned == 3


async def test_an_id_that_the_topic_no_longer_holds_goes_on_at_its_start_and_says_so() -> None:
    log = MemoryTopicLog(partitions=2)
    for number in range(10):
        log.append(FLAGGED, _flag(number), partition=number % 2)
    log.forget_before(FLAGGED, 0, 3)
    async with _hub(log) as hub:
        subscription = await hub.subscribe(ALL, encode_positions({0: 1, 1: 4}))
        async with aclosing(subscription.events(0.01)) as events:
            assert "no longer holds" in (await anext(events)).note
        subscription.close()
        seen, _ = await _take(await hub.subscribe(ALL, encode_positions({0: 1, 1: 4})), 3)
        assert sorted(seen) == [6, 8, 9]
        # One that lies where nothing was lost needs no note.
        subscription = await hub.subscribe(ALL, encode_positions({0: 3, 1: 4}))
        async with aclosing(subscription.events(0.01)) as events:
            assert (await anext(events)).note == ""
        subscription.close()


@pytest.mark.parametrize("text", ["nonsense", encode_positions({0: 0, 1: 0, 2: 0}), encode_positions({0: 5, 1: 0})])
async def test_an_id_of_another_topic_is_refused(text: str) -> None:
    log = MemoryTopicLog(partitions=2)
    async with _hub(log) as hub:
        with pytest.raises(NotAnEventId):
            await hub.subscribe(ALL, text)


async def test_places_are_bounded_and_come_back() -> None:
    log = MemoryTopicLog(partitions=2)
    async with _hub(log, most=2) as hub:
        first, _ = await hub.subscribe(ALL, None), await hub.subscribe(ALL, None)
        with pytest.raises(TooManyStreams):
            await hub.subscribe(ALL, None)
        first.close()
        first.close()
        await hub.subscribe(ALL, None)
        with pytest.raises(TooManyStreams):
            await hub.subscribe(ALL, None)


async def test_closing_ends_everybody() -> None:
    log = MemoryTopicLog(partitions=2)
    async with _hub(log) as hub:
        subscription = await hub.subscribe(ALL, None)
        reading = asyncio.ensure_future(_take(subscription, 1))
        await asyncio.sleep(0)
        hub.close()
        async with asyncio.timeout(5):
            assert (await reading)[0] == []
        with pytest.raises(BrokerUnavailable):
            await hub.subscribe(ALL, None)


async def test_a_broker_that_goes_away_during_catching_up_ends_the_stream_with_its_id() -> None:
    log = MemoryTopicLog(partitions=2)
    async with _hub(log) as hub:
        await eventually(lambda: hub.positions)
        begin = encode_positions(hub.positions)
        log.append(FLAGGED, _flag(0), partition=0)
        await eventually(lambda: hub.positions[0] == 1)
        subscription = await hub.subscribe(ALL, begin)
        log.disconnect()
        events = [event async for event in subscription.events(0.01)]
        subscription.close()
        assert events[-1].event_id == begin and "come back" in events[-1].note
        log.connect()
        assert (await _take(await hub.subscribe(ALL, begin), 1))[0] == [0]
