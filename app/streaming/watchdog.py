"""Watchdog: a thread that ends the process if its event loop does not tick or a lane makes no progress.

It is a thread, because a coroutine would stop together with the loop. It reads only immutable reports that the loop
stores at each tick.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from app.settings import LaneSettings
from app.streaming.status import LaneState

TICK_SECONDS: Final = 0.5
_MUST_MOVE: Final = frozenset({LaneState.WORKING, LaneState.OPENING})


@dataclass(frozen=True, slots=True)
class LaneReport:
    """State of one lane at one tick."""

    source: str
    state: LaneState
    in_hand: int
    still_seconds: float
    held_up: bool
    oldest_offset: int | None
    oldest_timestamp_ms: int | None
    next_offset: int
    highwater: int | None
    released: int

    @property
    def lag_records(self) -> int:
        """Number of records behind the end of the partition, as of the last fetch."""
        return max(0, self.highwater - self.next_offset) if self.highwater is not None else 0


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """State of the worker at one tick. `phase` is joining, recovering, opening or running."""

    phase: str
    phase_still_seconds: float
    lanes: tuple[LaneReport, ...]


class Watchdog:
    """Watchdog of one process. The event loop calls `tick`, the thread calls `verdict`."""

    def __init__(self, settings: LaneSettings, monotonic: Callable[[], float], on_stall: Callable[[str], None]) -> None:
        self._settings = settings
        self._monotonic = monotonic
        self._on_stall = on_stall
        self._seen: tuple[float, WorkerReport] = (monotonic(), WorkerReport("starting", 0.0, ()))
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread at an orderly stop, which is not a stall."""
        self._stopped.set()

    def tick(self, report: WorkerReport) -> None:
        """Store the loop's report."""
        self._seen = (self._monotonic(), report)

    @property
    def report(self) -> WorkerReport:
        """Report of the last tick."""
        return self._seen[1]

    def verdict(self) -> str | None:
        """Return why the process must end, or None."""
        ticked_at, report = self._seen
        silent_seconds = self._monotonic() - ticked_at
        if silent_seconds > self._settings.tick_seconds:
            return f"the event loop has not ticked for {silent_seconds:.0f} s"
        if report.phase_still_seconds > self._settings.stall_seconds:
            return f"{report.phase} without progress for {report.phase_still_seconds:.0f} s"
        if any(lane.held_up for lane in report.lanes):
            # An unavailable store or index also delays records that wait for a shared fetch or batch.
            return None
        for lane in report.lanes:
            if lane.state in _MUST_MOVE and lane.still_seconds > self._settings.stall_seconds:
                return (
                    f"lane {lane.source} says {lane.state} and stands still for {lane.still_seconds:.0f} s "
                    f"at offset {lane.oldest_offset}"
                )
        return None

    def _watch(self) -> None:
        while not self._stopped.wait(1.0):
            reason = self.verdict()
            if reason is not None and not self._stopped.is_set():
                self._on_stall(reason)
                return
