"""Token buckets, alone and side by side."""

from __future__ import annotations

import pytest

from app.access.failed_sign_ins import FailedSignIns
from app.access.rates import Rates
from tests.support.manual_clock import ManualClock
from tests.support.memory.sessions import MemoryUse


def let_in(rates: Rates, tries: int, rate: float | None = None, key: str = "key") -> int:
    return sum(rates.take(key, rate) == 0 for _ in range(tries))


async def test_two_seconds_worth_at_once_and_the_rate_after_that() -> None:
    clock = ManualClock()
    rates = Rates(clock, 10.0)
    assert let_in(rates, 50) == 20
    await clock.sleep(0.5)
    assert let_in(rates, 50) == 5
    await clock.sleep(3600)
    assert let_in(rates, 50) == 20


async def test_what_a_refused_caller_is_told_is_when_to_come_again() -> None:
    clock = ManualClock()
    rates = Rates(clock, 1000.0)
    assert rates.take("slow", 0.25) == 0, "one at least, however small the rate"
    assert rates.take("slow", 0.25) == pytest.approx(4.0)
    await clock.sleep(3)
    assert rates.take("slow", 0.25) == pytest.approx(1.0)
    await clock.sleep(1)
    assert rates.take("slow", 0.25) == 0


def test_each_key_has_its_own() -> None:
    rates = Rates(ManualClock(), 1.0)
    assert [let_in(rates, 9, key=key) for key in ("a", "b")] == [2, 2]
    assert let_in(rates, 9, 3.0, key="a") == 6, "the rate of a key was changed"


async def test_several_processes_give_a_key_its_rate_together() -> None:
    clock, shared = ManualClock(), MemoryUse()
    processes = [Rates(clock, 100.0, shared) for _ in range(3)]
    admitted = 0
    # A minute in which each of them is asked for far more than the rate.
    for _ in range(300):
        for process in processes:
            admitted += let_in(process, 60)
        for process in processes:
            await process.exchange()
        await clock.sleep(0.2)
    whole = 100 * 60
    # Each lets a burst in before it knows of the others; that is owed, not given.
    assert whole * 0.9 <= admitted <= whole + 3 * 200


async def test_a_process_that_is_idle_leaves_the_rate_to_the_others() -> None:
    clock, shared = ManualClock(), MemoryUse()
    busy, idle = Rates(clock, 10.0, shared), Rates(clock, 10.0, shared)
    assert let_in(idle, 1) == 1
    admitted = 0
    for _ in range(500):
        admitted += let_in(busy, 10)
        await busy.exchange()
        await idle.exchange()
        await clock.sleep(0.2)
    assert admitted == pytest.approx(1000, abs=25)
    # What the others used while nobody asked here is not owed by it for ever.
    assert let_in(idle, 1) == 1


async def test_while_redis_is_away_each_counts_alone_and_nothing_is_owed_when_it_is_back() -> None:
    clock, shared = ManualClock(), MemoryUse()
    one, other = Rates(clock, 10.0, shared), Rates(clock, 10.0, shared)
    for rates in (one, other):
        assert let_in(rates, 1) == 1
        await rates.exchange()
    shared.available = False
    for _ in range(20):
        assert let_in(one, 2) == 2
        assert let_in(other, 2) == 2
        await one.exchange()
        await other.exchange()
        await clock.sleep(0.2)
    shared.available = True
    await one.exchange()
    await other.exchange()
    assert let_in(one, 2) == 2
    await one.exchange()
    await other.exchange()
    await clock.sleep(0.2)
    # Back in step: what one lets in is taken off the other.
    first = let_in(one, 100)
    await one.exchange()
    await other.exchange()
    assert first > 0
    assert let_in(other, 100) <= 20 - first + 4


async def test_counters_that_redis_lost_take_nothing_off() -> None:
    clock = ManualClock()
    first, second = MemoryUse(), MemoryUse()
    rates = Rates(clock, 10.0, first)
    let_in(rates, 5)
    await rates.exchange()
    rates._shared = second
    await clock.sleep(2)
    let_in(rates, 1)
    await rates.exchange()
    assert let_in(rates, 100) == 19


async def test_failures_are_forgiven_one_in_ten_seconds() -> None:
    clock = ManualClock()
    failed = FailedSignIns(clock)
    for _ in range(5):
        assert failed.wait_seconds("10.0.0.1") == 0
        failed.note("10.0.0.1")
    assert failed.wait_seconds("10.0.0.1") == 10
    assert failed.wait_seconds("10.0.0.2") == 0
    await clock.sleep(10)
    assert failed.wait_seconds("10.0.0.1") == 0
    failed.note("10.0.0.1")
    assert failed.wait_seconds("10.0.0.1") == 10


def test_only_so_many_addresses_are_remembered() -> None:
    failed = FailedSignIns(ManualClock())
    for number in range(10_020):
        failed.note(str(number))
    assert len(failed._failed) == 10_000
