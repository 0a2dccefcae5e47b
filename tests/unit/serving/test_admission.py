"""Who is let in, who is told to come again, and when."""

from __future__ import annotations

import pytest

from app.errors import Overloaded
from app.serving.admission import Admission, BodyRoom, Place
from tests.support.manual_clock import HeldClock


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


def work(admission: Admission, clock: HeldClock, pictures: int, seconds_each: float) -> None:
    """Finish pictures one after another."""
    for _ in range(pictures):
        place = admission.enter(None)
        clock.advance(seconds_each)
        place.leave()
        admission.finished()


def fill(admission: Admission, count: int) -> list[Place]:
    return [admission.enter(None) for _ in range(count)]


def test_no_more_than_the_limit_is_in_hand(clock: HeldClock) -> None:
    admission = Admission(2, clock)
    first, _ = fill(admission, 2)
    with pytest.raises(Overloaded, match="2 pictures are being computed"):
        admission.enter(None)
    first.leave()
    first.leave()
    assert admission.in_hand == 1, "a place is given back once"
    admission.enter(None)


def test_when_to_come_again_follows_the_measured_throughput(clock: HeldClock) -> None:
    admission = Admission(12, clock)
    work(admission, clock, 40, 0.5)
    assert admission.per_second == pytest.approx(2.0, rel=0.05)
    fill(admission, 12)
    with pytest.raises(Overloaded) as refused:
        admission.enter(None)
    assert refused.value.retry_after_seconds == pytest.approx(6, abs=1)


def test_a_deadline_that_cannot_be_met_is_refused_at_once(clock: HeldClock) -> None:
    admission = Admission(32, clock)
    work(admission, clock, 20, 0.1)
    fill(admission, 10)
    with pytest.raises(Overloaded, match=r"about 1\.0 s now"):
        admission.enter(0.5)
    admission.enter(1.5)
    admission.enter(None)


def test_with_nothing_in_hand_everybody_is_let_in(clock: HeldClock) -> None:
    admission = Admission(4, clock)
    work(admission, clock, 1, 30.0)
    admission.enter(0.001).leave()


def test_nothing_is_foretold_before_the_first_picture(clock: HeldClock) -> None:
    admission = Admission(2, clock)
    fill(admission, 2)
    with pytest.raises(Overloaded) as refused:
        admission.enter(0.001)
    assert refused.value.retry_after_seconds == 2


def test_time_without_work_slows_nothing_down(clock: HeldClock) -> None:
    admission = Admission(4, clock)
    work(admission, clock, 20, 0.1)
    clock.advance(3600)
    assert admission.per_second == pytest.approx(10, rel=0.05)


def test_a_machine_that_stands_still_is_noticed(clock: HeldClock) -> None:
    admission = Admission(4, clock)
    work(admission, clock, 20, 0.1)
    fill(admission, 1)
    clock.advance(60)
    rate = admission.per_second
    assert rate is not None and rate < 0.2


async def test_room_for_bodies_is_bounded_and_refused_when_it_does_not_come() -> None:
    bodies = BodyRoom(1000)
    room = await bodies.take(800, None)
    with pytest.raises(Overloaded, match="bytes of bodies"):
        await bodies.take(800, 0.01)
    room.keep(100)
    other = await bodies.take(800, 0.01)
    room.release()
    room.release()
    other.release()
    (await bodies.take(1000, 0.01)).release()
