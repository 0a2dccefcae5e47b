"""Health of the lake's connectors and tables, and the watch that restarts failed tasks.

Connect never restarts a failed task, and a sink whose commits are stuck reports no failure. The watch restarts the
first and measures the second, by records that were published after the newest snapshot.
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

# Records that are read to find the oldest; partitions are read concurrently, so these include the first of each.
_LOOKED_AT: Final = 500
# A task that fails at once is restarted after twice the delay, up to this.
_LONGEST_WAIT_SECONDS: Final = 300.0


class Connect(Protocol):
    """Operations of Kafka Connect. Both raise LakeUnavailable."""

    async def state(self, name: str) -> ConnectorState | None:
        """Return the state of a connector, None if it does not exist."""
        ...

    async def restart_failed(self, name: str) -> None:
        """Restart failed tasks."""
        ...


@dataclass(frozen=True, slots=True)
class TableHealth:
    """Health of a table and its connector. `behind_seconds`: age of the oldest record after the snapshot."""

    table: str
    connector: str
    state: str
    why: str
    rows: int | None
    snapshot_age_seconds: float | None
    behind_seconds: float

    def well(self, limit_seconds: float) -> bool:
        """Return True if the connector runs and no record waits longer than `limit_seconds`."""
        return self.state == "running" and self.behind_seconds <= limit_seconds


@dataclass(frozen=True, slots=True)
class LakeSources:
    """Sources of health. `newest` returns time (Unix ms) and row count of a table's newest snapshot, or None.

    It may raise LakeUnavailable; `since` yields a topic's records from a time on and may raise BrokerUnavailable.
    """

    connect: Connect
    name_of: Callable[[LakeTable], str]
    newest: Callable[[LakeTable], Awaitable[tuple[int, int] | None]]
    since: Callable[[str, int], AsyncGenerator[SourceRecord, None]]
    clock: Clock


async def lake_health(sources: LakeSources) -> tuple[TableHealth, ...]:
    """Return the health of every table. Does not raise during outages: they are states of the table."""
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
    """Watch that checks every `every_seconds`, sets gauges and restarts failed tasks with exponential back-off."""

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
        """End `run` after the present check."""
        self._stopping.set()

    def shown(self) -> tuple[bool, Mapping[str, Any]]:
        """Return True if all was healthy at the last check, and each table's state, for /healthz."""
        return (
            bool(self._latest) and all(health.well(self._limit) for health in self._latest),
            {health.table: health.state for health in self._latest},
        )

    async def run(self) -> None:
        """Check until `stop`."""
        while not self._stopping.is_set():
            await self.look()
            try:
                async with asyncio.timeout(self._every):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def look(self) -> None:
        """Check once. Does not raise during outages."""
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
        logger.warning(
            "%s: failed tasks restarted; if they fail again, the next restart is in %.0f s", health.table, wait
        )
