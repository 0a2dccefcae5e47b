"""How the lake's connectors and tables are, and the watch that starts failed tasks again.

Connect never restarts a task that failed, and a sink that is stuck in its commits fails in nothing at all. So the first
is restarted here, and the second is measured: by records that were published after the newest snapshot.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, Protocol

from app.domain.lake import TABLES, LakeTable
from app.errors import BrokerUnavailable, LakeUnavailable, StartupRefused
from app.lake.connect.client import ConnectorState
from app.metrics import Meters
from app.ports.clock import Clock
from app.ports.records import SourceRecord

logger = logging.getLogger(__name__)

# Records looked at for the oldest one; partitions are read side by side, so these hold the first of each.
_LOOKED_AT: Final = 500
# A task that fails at once is started again after twice the time, up to this.
_LONGEST_WAIT_SECONDS: Final = 300.0


class Connect(Protocol):
    """What is asked of Kafka Connect. Both raise LakeUnavailable."""

    async def state(self, name: str) -> ConnectorState | None:
        """Return how a connector is, or None where there is none."""
        ...

    async def restart_failed(self, name: str) -> None:
        """Start what failed again."""
        ...


@dataclass(frozen=True, slots=True)
class TableHealth:
    """One table and its connector. `behind_seconds` is the age of the oldest record that came after the snapshot."""

    table: str
    connector: str
    state: str
    why: str
    rows: int | None
    snapshot_age_seconds: float | None
    behind_seconds: float

    def well(self, limit_seconds: float) -> bool:
        """Whether the connector runs and nothing waits longer than `limit_seconds`."""
        return self.state == "running" and self.behind_seconds <= limit_seconds


@dataclass(frozen=True, slots=True)
class LakeSources:
    """Where health is read from. `newest` gives time (Unix ms) and row count of a table's newest snapshot, or None.

    It may raise LakeUnavailable; `since` yields a topic's records from a time on and may raise BrokerUnavailable.
    """

    connect: Connect
    name_of: Callable[[LakeTable], str]
    newest: Callable[[LakeTable], Awaitable[tuple[int, int] | None]]
    since: Callable[[str, int], AsyncGenerator[SourceRecord, None]]
    clock: Clock


async def lake_health(sources: LakeSources) -> tuple[TableHealth, ...]:
    """Return how every table is. Never raises for what is away: that is a state of the table."""
    return tuple([await _table_health(sources, table) for table in TABLES])


async def _table_health(sources: LakeSources, table: LakeTable) -> TableHealth:
    name = sources.name_of(table)
    state, why = await _connector_state(sources.connect, name)
    try:
        newest = await sources.newest(table)
        behind = await _behind_seconds(sources, table, newest[0] if newest is not None else 0)
    except (LakeUnavailable, BrokerUnavailable, StartupRefused) as away:
        return TableHealth(table.name, name, "away", str(away), None, None, 0.0)
    if newest is None:
        return TableHealth(table.name, name, state, why, 0, None, behind)
    age = max(0.0, (sources.clock.now_ms() - newest[0]) / 1000)
    return TableHealth(table.name, name, state, why, newest[1], age, behind)


async def _connector_state(connect: Connect, name: str) -> tuple[str, str]:
    try:
        state = await connect.state(name)
    except LakeUnavailable as away:
        return "away", str(away)
    if state is None:
        return "absent", "run `./sightline lake up`"
    if state.failed:
        return "failed", state.failed[-1].why
    return ("running", "") if state.running else ("starting", "")


async def _behind_seconds(sources: LakeSources, table: LakeTable, snapshot_ms: int) -> float:
    oldest: int | None = None
    looked_at = 0
    async with aclosing(sources.since(table.topic, snapshot_ms + 1)) as records:
        async for record in records:
            if record.timestamp_ms > snapshot_ms:
                oldest = record.timestamp_ms if oldest is None else min(oldest, record.timestamp_ms)
            looked_at += 1
            if looked_at >= _LOOKED_AT:
                break
    return 0.0 if oldest is None else max(0.0, (sources.clock.now_ms() - oldest) / 1000)


class Watch:
    """Looks at everything every `every_seconds`, sets the gauges and starts failed tasks again, ever more rarely."""

    def __init__(self, sources: LakeSources, meters: Meters, *, limit_seconds: float, every_seconds: float) -> None:
        self._sources = sources
        self._meters = meters
        self._limit = limit_seconds
        self._every = every_seconds
        self._stopping = asyncio.Event()
        self._waits: dict[str, float] = {}
        self._not_before_ms: dict[str, int] = {}
        self._latest: tuple[TableHealth, ...] = ()

    def stop(self) -> None:
        """End `run` after the look that is under way."""
        self._stopping.set()

    def shown(self) -> tuple[bool, Mapping[str, Any]]:
        """Return whether all was well at the last look, and each table's state, for /healthz."""
        return (
            bool(self._latest) and all(health.well(self._limit) for health in self._latest),
            {health.table: health.state for health in self._latest},
        )

    async def run(self) -> None:
        """Look until `stop`."""
        while not self._stopping.is_set():
            await self.look()
            try:
                async with asyncio.timeout(self._every):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def look(self) -> None:
        """Look once. Never raises for what is away."""
        before = {health.table: health.state for health in self._latest}
        self._latest = await lake_health(self._sources)
        for health in self._latest:
            labels = {"table": health.table}
            self._meters.gauge("sightline_lake_connector_running", float(health.state == "running"), **labels)
            self._meters.gauge("sightline_lake_behind_seconds", health.behind_seconds, **labels)
            if health.snapshot_age_seconds is not None:
                self._meters.gauge("sightline_lake_snapshot_age_seconds", health.snapshot_age_seconds, **labels)
            if health.rows is not None:
                self._meters.gauge("sightline_lake_rows", float(health.rows), **labels)
            if before.get(health.table) != health.state:
                logger.log(
                    logging.INFO if health.state == "running" else logging.WARNING,
                    "%s: %s%s",
                    health.table,
                    health.state,
                    f" ({health.why})" if health.why else "",
                )
            if health.state == "failed":
                await self._restart(health)
            elif health.state == "running":
                self._waits.pop(health.connector, None)

    async def _restart(self, health: TableHealth) -> None:
        now_ms = self._sources.clock.now_ms()
        if now_ms < self._not_before_ms.get(health.connector, 0):
            return
        wait = min(self._waits.get(health.connector, self._every / 2) * 2, _LONGEST_WAIT_SECONDS)
        self._waits[health.connector] = wait
        self._not_before_ms[health.connector] = now_ms + round(wait * 1000)
        try:
            await self._sources.connect.restart_failed(health.connector)
        except LakeUnavailable as away:
            logger.warning("%s: not restarted: %s", health.table, away)
            return
        self._meters.count("sightline_lake_restarts_total", table=health.table)
        logger.warning("%s: failed tasks started again; if they fail, next in %.0f s", health.table, wait)
