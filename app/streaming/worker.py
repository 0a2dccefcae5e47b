"""Worker process: starts the stream app, reports at each tick, drains at the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from app.metrics import Meters
from app.ports.clock import Clock
from app.ports.records import SourceRecord
from app.settings import LaneSettings
from app.streaming.lanes import Lanes
from app.streaming.ports import SourceControl, SourcePartition
from app.streaming.pump import Pump
from app.streaming.status import LaneState
from app.streaming.suspects import Suspects
from app.streaming.watchdog import TICK_SECONDS, LaneReport, Watchdog, WorkerReport

logger = logging.getLogger(__name__)
_STOP_SECONDS = 10.0
_LANE_GAUGES = (
    "sightline_lane_lag_records",
    "sightline_lane_lag_seconds",
    "sightline_lane_in_flight",
    "sightline_lane_state",
)


class StreamApp(Protocol):
    """Interface of a worker to the stream framework."""

    async def start(self) -> None:
        """Join the group. Returns when everything runs."""
        ...

    async def stop(self) -> None:
        """Leave the group."""
        ...

    def phase(self) -> tuple[str, object]:
        """Return `recovering` or `running`, and a value that changes with progress."""
        ...

    def loaded_records(self) -> int:
        """Return the number of changelog records that were loaded in bulk since the start."""
        ...


class Worker:
    """Main part of a worker process, which runs after the start-up checks."""

    def __init__(
        self,
        app: StreamApp,
        lanes: Lanes,
        pumps: Mapping[str, Pump],
        control: SourceControl,
        settings: LaneSettings,
        clock: Clock,
        meters: Meters,
        on_stall: Callable[[str], None],
    ) -> None:
        self._app = app
        self._lanes = lanes
        self._pumps = pumps
        self._control = control
        self._settings = settings
        self._clock = clock
        self._meters = meters
        self._stopping = asyncio.Event()
        self._phase: tuple[str, object] = ("starting", None)
        self._phase_moved_at = clock.monotonic()
        self._generations = 0
        self._drained = False
        self.watchdog = Watchdog(settings, clock.monotonic, on_stall)

    @property
    def suspects(self) -> Suspects:
        """Suspects of this worker."""
        return self._lanes.suspects

    def stop(self) -> None:
        """Begin an orderly stop. `run` returns when it is done."""
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        """Return whether the stop has begun."""
        return self._stopping.is_set()

    @property
    def stopped(self) -> bool:
        """Return whether all lanes are closed for good: later failures no longer matter."""
        return self._drained

    async def run(self) -> None:
        """Work until `stop`, then finish the records in hand within the drain bound and leave the group."""
        self.watchdog.start()
        ticking = asyncio.create_task(self._tick_forever(), name="tick")
        starting = asyncio.create_task(self._app.start(), name="start")
        ending = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((starting, ending), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
            await ending
            logger.info("stopping: finishing what is in hand")
            await self._lanes.stop(self._settings.drain_seconds)
            self._drained = True
            self.suspects.stopped()
            if starting.done():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_STOP_SECONDS):
                        await self._app.stop()
        finally:
            self.watchdog.stop()
            ticking.cancel()

    async def _tick_forever(self) -> None:
        due = self._clock.monotonic() + TICK_SECONDS
        while True:
            await asyncio.sleep(TICK_SECONDS)
            late = max(0.0, self._clock.monotonic() - due)
            due = self._clock.monotonic() + TICK_SECONDS
            self._meters.gauge("sightline_loop_lag_seconds", late)
            report = self.report()
            self.watchdog.tick(report)
            self._publish(report)

    def report(self) -> WorkerReport:
        """Return the state of the worker."""
        now = self._clock.monotonic()
        phase: tuple[str, object] = self._app.phase()
        if phase[0] == "running" and self._lanes.opening_since is not None:
            phase = ("opening lanes", self._lanes.opening_since)
        if phase != self._phase or phase[0] == "running":
            self._phase = phase
            self._phase_moved_at = now
        reports = tuple(self._lane_report(source) for source in sorted(self._lanes.open_lanes()))
        return WorkerReport(phase[0], now - self._phase_moved_at, reports)

    def _lane_report(self, source: SourcePartition) -> LaneReport:
        lane = self._lanes.open_lanes()[source]
        state = lane.state
        pump = self._pumps[source.topic]
        if state is LaneState.IDLE and pump.gate is not None and pump.gate.yielding:
            state = LaneState.YIELDING
        oldest: SourceRecord | None = lane.oldest
        return LaneReport(
            source=str(source),
            state=state,
            in_hand=lane.in_hand,
            still_seconds=lane.still_seconds,
            held_up=lane.held_up,
            oldest_offset=oldest.offset if oldest else None,
            oldest_timestamp_ms=oldest.timestamp_ms if oldest else None,
            next_offset=lane.next_offset,
            highwater=self._control.highwater(source),
            released=lane.released,
        )

    def _publish(self, report: WorkerReport) -> None:
        now_ms = self._clock.now_ms()
        if self._lanes.generations > self._generations:
            self._meters.count("sightline_generations_total", self._lanes.generations - self._generations)
            self._generations = self._lanes.generations
            for name in _LANE_GAUGES:
                self._meters.forget(name)
        for (topic, partition), lane in zip(sorted(self._lanes.open_lanes()), report.lanes, strict=True):
            labels = {"topic": topic, "partition": str(partition)}
            age_seconds = 0.0 if lane.oldest_timestamp_ms is None else (now_ms - lane.oldest_timestamp_ms) / 1000
            self._meters.gauge("sightline_lane_lag_records", lane.lag_records, **labels)
            self._meters.gauge("sightline_lane_lag_seconds", max(0.0, age_seconds), **labels)
            self._meters.gauge("sightline_lane_in_flight", lane.in_hand, **labels)
            for state in LaneState:
                self._meters.gauge("sightline_lane_state", float(state is lane.state), state=state, **labels)
        for topic, pump in self._pumps.items():
            self._meters.gauge("sightline_credits_taken", pump.pool.taken, topic=topic)
        self._meters.gauge("sightline_suspects", self.suspects.left)
        self._meters.gauge("sightline_table_loaded_records", self._app.loaded_records())
        self._meters.gauge("sightline_resident_bytes", resident_bytes())

    def health(self) -> tuple[bool, Mapping[str, Any]]:
        """Return the watchdog's view for /healthz: whether it is healthy, and the details."""
        verdict = self.watchdog.verdict()
        report = self.watchdog.report
        return verdict is None, {
            "phase": "stopping" if self.stopping else report.phase,
            "verdict": verdict,
            "suspects": {"count": self.suspects.left, "crashes": self.suspects.named()},
            "lanes": {
                lane.source: {
                    "state": lane.state,
                    "in_flight": lane.in_hand,
                    "still_seconds": round(lane.still_seconds, 1),
                    "lag_records": lane.lag_records,
                    "next_offset": lane.next_offset,
                    "released": lane.released,
                }
                for lane in report.lanes
            },
        }


def resident_bytes() -> int:
    """Return the resident memory of this process, or its peak if there is no /proc."""
    try:
        with open("/proc/self/statm") as statm:  # noqa: PTH123 - twice a second, nothing to resolve
            return int(statm.read().split()[1]) * resource.getpagesize()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
