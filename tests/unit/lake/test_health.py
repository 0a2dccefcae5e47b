"""The watch: what it tells of each table, and when it starts failed tasks again."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from app.domain.lake import TABLES, LakeTable
from app.errors import BrokerUnavailable, LakeUnavailable
from app.lake.connect.client import ConnectorState, TaskState
from app.lake.connect.health import LakeSources, Watch, lake_health
from app.ports.records import SourceRecord
from app.systems.prometheus import PrometheusMeters
from tests.support.manual_clock import ManualClock

NOW_MS = 1_795_425_400_000
RUNNING = (TaskState(-1, "RUNNING", "w", ""), TaskState(0, "RUNNING", "w", ""))
FAILED = (TaskState(-1, "RUNNING", "w", ""), TaskState(0, "FAILED", "w", "no registry"))


@dataclass
class Lake:
    """A Connect, a catalog and topics in memory."""

    tasks: tuple[TaskState, ...] | None = RUNNING
    snapshot: tuple[int, int] | None = (NOW_MS - 60_000, 500)
    published_ms: tuple[int, ...] = ()
    connect_away: bool = False
    catalog_away: bool = False
    broker_away: bool = False
    restarted: list[str] = field(default_factory=list)
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW_MS))

    async def state(self, name: str) -> ConnectorState | None:
        if self.connect_away:
            raise LakeUnavailable("Connect does not answer")
        return None if self.tasks is None else ConnectorState(name, self.tasks)

    async def restart_failed(self, name: str) -> None:
        self.restarted.append(name)

    async def newest(self, table: LakeTable) -> tuple[int, int] | None:
        if self.catalog_away:
            raise LakeUnavailable("no catalog")
        return self.snapshot

    async def since(self, topic: str, from_ms: int) -> AsyncGenerator[SourceRecord, None]:
        if self.broker_away:
            raise BrokerUnavailable("no broker")
        for number, at_ms in enumerate(self.published_ms):
            if at_ms >= from_ms:
                yield SourceRecord(topic, 0, number, at_ms, None, b"")

    @property
    def sources(self) -> LakeSources:
        return LakeSources(self, lambda table: table.connector, self.newest, self.since, self.clock)


async def _predictions(lake: Lake) -> tuple[str, float, int | None]:
    found = (await lake_health(lake.sources))[0]
    return found.state, found.behind_seconds, found.rows


async def test_what_came_after_the_snapshot_is_behind_and_nothing_else() -> None:
    assert await _predictions(Lake()) == ("running", 0.0, 500)
    assert await _predictions(Lake(published_ms=(NOW_MS - 90_000,))) == ("running", 0.0, 500)
    late = Lake(published_ms=(NOW_MS - 10_000, NOW_MS - 45_000, NOW_MS - 90_000))
    assert await _predictions(late) == ("running", 45.0, 500)


async def test_a_table_without_a_snapshot_is_behind_by_its_oldest_record() -> None:
    assert await _predictions(Lake(snapshot=None)) == ("running", 0.0, 0)
    assert await _predictions(Lake(snapshot=None, published_ms=(NOW_MS - 3_600_000,))) == ("running", 3600.0, 0)


async def test_each_way_of_being_away_is_a_state_with_its_reason() -> None:
    cases = (
        (Lake(tasks=None), "absent"),
        (Lake(tasks=FAILED), "failed"),
        (Lake(tasks=RUNNING[:1]), "starting"),
        (Lake(connect_away=True), "away"),
        (Lake(catalog_away=True), "away"),
        (Lake(broker_away=True), "away"),
    )
    for lake, state in cases:
        found = (await lake_health(lake.sources))[0]
        assert found.state == state
        assert bool(found.why) == (state != "starting")
        assert not found.well(1e9)


def _watch(lake: Lake) -> tuple[Watch, PrometheusMeters]:
    meters = PrometheusMeters()
    return Watch(lake.sources, meters, limit_seconds=60, every_seconds=15), meters


async def test_failed_tasks_are_started_again_ever_more_rarely_and_soon_again_after_they_ran() -> None:
    lake = Lake(tasks=FAILED)
    watch, meters = _watch(lake)
    moments = []
    for second in range(0, 200, 5):
        before = len(lake.restarted)
        await watch.look()
        await lake.clock.sleep(5)
        if len(lake.restarted) > before:
            moments.append(second)
    # After 15, 30, 60 and 120 seconds.
    assert moments == [0, 15, 45, 105]
    assert lake.restarted.count("lake-predictions") == 4
    assert b'sightline_lake_restarts_total{table="predictions"} 4.0' in meters.text()
    lake.tasks = RUNNING
    await lake.clock.sleep(200)
    await watch.look()
    lake.tasks = FAILED
    await watch.look()
    assert lake.restarted.count("lake-predictions") == 5


async def test_health_and_gauges_say_what_was_seen() -> None:
    lake = Lake(published_ms=(NOW_MS - 59_000,))
    watch, meters = _watch(lake)
    assert watch.shown()[0] is False
    await watch.look()
    assert watch.shown() == (True, {table.name: "running" for table in TABLES})
    text = meters.text()
    assert b'sightline_lake_behind_seconds{table="flagged"} 59.0' in text
    assert b'sightline_lake_connector_running{table="flagged"} 1.0' in text
    await lake.clock.sleep(5)
    await watch.look()
    assert watch.shown()[0] is False
    lake.connect_away = True
    await watch.look()
    assert b'sightline_lake_connector_running{table="flagged"} 0.0' in meters.text()
