from __future__ import annotations

import threading

import pytest

from app.errors import DeadLetterCeiling
from app.settings import LaneSettings
from app.streaming.ceiling import WINDOW, Ceiling
from app.streaming.status import LaneState
from app.streaming.watchdog import LaneReport, Watchdog, WorkerReport
from tests.support.eventually import eventually

SETTINGS = LaneSettings(stall_seconds=60.0, tick_seconds=10.0)


def lane(state: LaneState, still_seconds: float, *, held_up: bool = False) -> LaneReport:
    return LaneReport("tasks/0", state, 3, still_seconds, held_up, 17, 0, 17, 20, 4)


class Monotonic:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("report", "ends"),
    [
        (WorkerReport("running", 0, (lane(LaneState.WORKING, 59),)), False),
        (WorkerReport("running", 0, (lane(LaneState.WORKING, 61),)), True),
        (WorkerReport("running", 0, (lane(LaneState.IDLE, 9999),)), False),
        (WorkerReport("running", 0, (lane(LaneState.NOT_DUE, 9999),)), False),
        (WorkerReport("running", 0, (lane(LaneState.YIELDING, 9999),)), False),
        (WorkerReport("running", 0, (lane(LaneState.WAITING_FOR_STORE, 9999, held_up=True),)), False),
        (
            WorkerReport(
                "running", 0, (lane(LaneState.WORKING, 61), lane(LaneState.WAITING_FOR_STORE, 61, held_up=True))
            ),
            False,
        ),
        (WorkerReport("recovering", 61, ()), True),
        (WorkerReport("recovering", 59, ()), False),
    ],
)
def test_only_what_says_that_it_works_and_stands_still_is_a_stall(report: WorkerReport, ends: bool) -> None:
    watchdog = Watchdog(SETTINGS, Monotonic(), lambda _: None)
    watchdog.tick(report)
    assert (watchdog.verdict() is not None) is ends


def test_a_loop_that_does_not_tick_is_a_stall() -> None:
    monotonic = Monotonic()
    watchdog = Watchdog(SETTINGS, monotonic, lambda _: None)
    watchdog.tick(WorkerReport("running", 0, ()))
    monotonic.now += 9
    assert watchdog.verdict() is None
    monotonic.now += 2
    assert watchdog.verdict() == "the event loop has not ticked for 11 s"


async def test_the_thread_tells_of_a_stall_once() -> None:
    told: list[str] = []
    said = threading.Event()

    def on_stall(reason: str) -> None:
        told.append(reason)
        said.set()

    watchdog = Watchdog(SETTINGS, Monotonic(), on_stall)
    watchdog.tick(WorkerReport("running", 0, (lane(LaneState.WORKING, 61),)))
    watchdog.start()
    await eventually(said.is_set)
    watchdog.stop()
    assert told == ["lane tasks/0 says working and stands still for 61 s at offset 17"]


def test_dead_letters_stop_the_worker_by_run_and_by_share() -> None:
    run = Ceiling(ratio=1.0, run=3)
    for _ in range(3):
        run.add(1)
    run.add(0)
    for _ in range(3):
        run.add(2)
    with pytest.raises(DeadLetterCeiling, match="4 records in a row"):
        run.add(1)

    share = Ceiling(ratio=0.5, run=1000)
    for number in range(WINDOW - 1):
        share.add(number % 2)
    share.add(0)
    share.add(1)
    with pytest.raises(DeadLetterCeiling, match="of the last 200"):
        for _ in range(3):
            share.add(1)
