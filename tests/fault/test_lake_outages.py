"""What the lake needs goes away for a while, or behaves oddly: no row is lost, and something says so meanwhile."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from app.domain.lake import table_named
from app.lake.iceberg.catalog import create_tables, load_table, open_catalog
from app.settings import ROOT, load_settings
from app.stack.local import CONNECT, REGISTRY
from app.stack.options import ACCESS_KEY, SECRET_KEY
from app.systems.registry.avro import released_schemas
from app.systems.registry.client import SchemaRegistry, subject_of
from app.topics import PREDICTIONS
from tests.support.eventually import eventually
from tests.support.lake.connect import COMMIT_SECONDS, LakeInstallation, encoded_with, made_predictions
from tests.support.stack import TestNames

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

DAY_MS = 86_400_000


@asynccontextmanager
async def _watching(lake: LakeInstallation, folder: Path) -> AsyncIterator[str]:
    """Run `lake watch` and give the address of its metrics."""
    log_file = folder / "watch.log"
    command = (sys.executable, "-m", "app", "lake", "watch", "--every", "2")
    process = await _started(command, lake.environment, log_file)
    try:

        def address() -> str | None:
            told = [word for word in log_file.read_text().split() if word.endswith("/metrics")]
            return told[0] if told else None

        yield await eventually(address, 30)
    finally:
        process.terminate()
        async with asyncio.timeout(20):
            await process.wait()


async def _started(command: tuple[str, ...], environment: dict[str, str], log_file: Path) -> asyncio.subprocess.Process:
    with log_file.open("wb") as log:
        return await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment, stdout=log, stderr=log)


async def _metric(address: str, name: str) -> float:
    """Return the value of a metric of the table predictions."""
    async with aiohttp.ClientSession() as session, session.get(address) as answer:
        for line in (await answer.text()).splitlines():
            if line.startswith(f'{name}{{table="predictions"}}'):
                return float(line.rsplit(" ", 1)[1])
    return 0.0


async def _state(lake: LakeInstallation) -> dict[str, Any]:
    """Return what `lake status --json` says of predictions."""
    _, told = await lake.verb("status", "--json")
    tables: list[dict[str, Any]] = json.loads(told.splitlines()[0])["tables"]
    return next(table for table in tables if table["table"] == "predictions")


async def _every_record_is_a_row(lake: LakeInstallation, within_seconds: float = 90) -> None:
    expected = await lake.published(PREDICTIONS)

    async def equal() -> bool:
        rows = await lake.rows("predictions")
        assert set(rows) == expected, f"{len(expected - set(rows))} missing, {len(set(rows) - expected)} extra"
        assert max(rows.values()) == 1
        return True

    await eventually(equal, within_seconds, every_seconds=1.0)


async def test_a_registry_that_is_away_stops_the_sink_and_the_watch_starts_it_again(
    lake: LakeInstallation, tmp_path: Path
) -> None:
    """A good record must never be passed over because its schema could not be asked for."""
    await lake.stack.kill(REGISTRY)
    # A new process: it knows no schema yet.
    await lake.stack.restart(CONNECT)
    await lake.publish(PREDICTIONS, list(made_predictions(300)))
    await lake.apply("predictions")

    async def failed() -> bool:
        state = await _state(lake)
        return bool(state["state"] == "failed" and state["why"])

    await eventually(failed, 90, every_seconds=1.0)
    assert not await lake.rows("predictions")
    async with _watching(lake, tmp_path) as metrics:
        await lake.stack.restart(REGISTRY)
        await _every_record_is_a_row(lake)
        assert await _metric(metrics, "sightline_lake_restarts_total") >= 1

        async def well() -> bool:
            running = await _metric(metrics, "sightline_lake_connector_running")
            return running == 1 and await _metric(metrics, "sightline_lake_behind_seconds") == 0

        await eventually(well, 30, every_seconds=1.0)


async def test_a_store_that_is_away_during_commits_loses_no_row(
    lake: LakeInstallation, names: TestNames, tmp_path: Path
) -> None:
    server = f"versitygw-{names.bucket}"
    store = await lake.stack.add_versitygw(server, lake.topic("s3.uploads"), "lake")
    try:
        elsewhere = LakeInstallation(
            lake.stack,
            load_settings(
                {
                    **lake.variables,
                    "SIGHTLINE_S3_ENDPOINT": store.endpoint,
                    "SIGHTLINE_LAKE_NAMESPACE": f"{lake.settings.lake.namespace}_b",
                }
            ),
            {**lake.variables, "SIGHTLINE_LAKE_NAMESPACE": f"{lake.settings.lake.namespace}_b"},
        )
        elsewhere.variables["SIGHTLINE_S3_ENDPOINT"] = store.endpoint
        await asyncio.to_thread(lambda: create_tables(open_catalog(elsewhere.settings), elsewhere.settings))
        await elsewhere.apply(
            "predictions",
            **{
                "iceberg.catalog.s3.endpoint": store.endpoint,
                "iceberg.catalog.s3.access-key-id": ACCESS_KEY,
                "iceberg.catalog.s3.secret-access-key": SECRET_KEY,
            },
        )
        await elsewhere.publish(PREDICTIONS, list(made_predictions(500)))
        await _every_record_is_a_row(elsewhere)
        async with _watching(elsewhere, tmp_path) as metrics:
            await lake.stack.kill(server)
            await elsewhere.publish(PREDICTIONS, list(made_predictions(2_000, 500)))

            async def noticed() -> bool:
                return (await _state(elsewhere))["state"] in ("failed", "away")

            await eventually(noticed, 120, every_seconds=1.0)
            await lake.stack.restart(server)
            await _every_record_is_a_row(elsewhere, 150)
            assert await _metric(metrics, "sightline_lake_connector_running") in (0, 1)
    finally:
        await lake.remove()
        await lake.stack.remove(server)


async def test_events_of_sixty_days_are_rows_and_open_no_file_for_each_day(lake: LakeInstallation) -> None:
    now_ms = 1_795_000_000_000
    late = [
        pair
        for day in range(60)
        for pair in made_predictions(20, day * 20, event_time_ms=now_ms - day * DAY_MS, lane="backfill")
    ]
    await lake.publish(PREDICTIONS, late)
    await lake.apply("predictions")
    await _every_record_is_a_row(lake)
    files = await asyncio.to_thread(_data_files, lake)
    # Partitioned by upload time it were 60 files for each commit.
    assert len(files) <= 5


def _data_files(lake: LakeInstallation) -> list[str]:
    table = load_table(open_catalog(lake.settings), lake.settings, table_named("predictions"))
    assert table is not None
    return [task.file.file_path for task in table.scan().plan_files()]


async def test_an_idle_topic_makes_no_snapshots_and_its_next_record_is_there_in_time(lake: LakeInstallation) -> None:
    await lake.apply("predictions")
    await lake.publish(PREDICTIONS, list(made_predictions(10)))
    await _every_record_is_a_row(lake)
    before = await asyncio.to_thread(_snapshots, lake)
    await asyncio.sleep(4 * COMMIT_SECONDS)
    assert await asyncio.to_thread(_snapshots, lake) == before
    assert (await _state(lake))["behind_seconds"] == 0
    await lake.publish(PREDICTIONS, list(made_predictions(1, 10)))
    await _every_record_is_a_row(lake, 30)


def _snapshots(lake: LakeInstallation) -> int:
    table = load_table(open_catalog(lake.settings), lake.settings, table_named("predictions"))
    assert table is not None
    return len(table.metadata.snapshots)


async def test_a_new_optional_field_becomes_a_column_without_a_hand(lake: LakeInstallation) -> None:
    """The next version of a schema: its records come from workers that are newer than the tables."""
    newest = max(
        (schema for schema in released_schemas() if schema.record == "ImagePrediction"),
        key=lambda schema: schema.version,
    )
    colour = f"colour_{lake.settings.lake.namespace}"
    schema = json.loads(newest.text)
    schema["fields"].append({"name": colour, "type": ["null", "string"], "default": None})
    text = json.dumps(schema)
    async with SchemaRegistry(lake.stack.registry_url) as registry:
        schema_id = await registry.register(subject_of(newest), text)
    await lake.apply("predictions")
    await lake.publish(PREDICTIONS, list(made_predictions(5)))
    newer = [(key, encoded_with(text, schema_id, value, **{colour: "red"})) for key, value in made_predictions(5, 5)]
    await lake.publish(PREDICTIONS, newer)
    await _every_record_is_a_row(lake)
    colours = await asyncio.to_thread(_column, lake, colour)
    assert sorted(colours, key=str) == [None] * 5 + ["red"] * 5


def _column(lake: LakeInstallation, name: str) -> list[Any]:
    table = load_table(open_catalog(lake.settings), lake.settings, table_named("predictions"))
    assert table is not None
    values: list[Any] = table.scan(selected_fields=(name,)).to_arrow()[name].to_pylist()
    return values


async def test_a_wiped_catalog_is_seen_and_registered_again_without_a_lost_row(
    lake: LakeInstallation, tmp_path: Path
) -> None:
    """The catalog forgets the tables while the sink commits; their files are all there."""
    await lake.apply("predictions")
    await lake.publish(PREDICTIONS, list(made_predictions(1_000)))
    await _every_record_is_a_row(lake)
    await asyncio.to_thread(_forget_tables, lake)
    await lake.publish(PREDICTIONS, list(made_predictions(1_000, 1_000)))

    async def seen() -> bool:
        return (await _state(lake))["state"] in ("away", "failed")

    await eventually(seen, 60, every_seconds=1.0)
    code, told = await lake.verb("verify", "--table", "predictions")
    assert code == 1 and "catalog" in told, told
    async with _watching(lake, tmp_path):
        code, told = await lake.verb("register")
        assert code == 0, told

        async def whole() -> bool:
            await lake.verb("repair", "--table", "predictions")
            code, told = await lake.verb("verify", "--table", "predictions")
            assert code == 0 and "waiting" not in told, told
            return True

        await eventually(whole, 120, every_seconds=3.0)
        await _every_record_is_a_row(lake)


def _forget_tables(lake: LakeInstallation) -> None:
    with sqlite3.connect(lake.settings.lake.catalog_uri, timeout=30) as catalog:
        catalog.execute("delete from iceberg_tables where table_namespace = ?", (lake.settings.lake.namespace,))
