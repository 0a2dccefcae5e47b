"""`./sightline lake up|status|watch|connectors`: Kafka Connect and its connectors."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Annotated

import typer

from app.exit_codes import ExitCode
from app.lake.connect import setup as lake_setup
from app.lake.connect.client import ConnectClient
from app.lake.connect.config import connector_config, connector_name
from app.lake.connect.health import LakeSources, TableHealth, Watch, lake_health
from app.lake.iceberg.catalog import newest_snapshot, open_catalog
from app.lake.verbs.options import tables_named
from app.ports.topics import AtTime
from app.settings import load_settings
from app.systems.http_health import HealthServer
from app.systems.kafka.admin import ensure_topics
from app.systems.prometheus import PrometheusMeters
from app.verbs.operator import Operator, with_operator
from app.verbs.output import JsonOption, show
from app.verbs.wait_option import patiently


def register(lake: typer.Typer) -> None:
    """Add the verbs."""
    lake.command("up")(_up)
    lake.command("status")(_status)
    lake.command("watch")(_watch)
    lake.command("connectors")(_connectors)


def _up(
    wait: Annotated[float, typer.Option(help="Seconds to wait for servers that do not answer yet.")] = 0.0,
    before_connect: Annotated[
        bool, typer.Option("--before-connect", help="Only what Connect itself needs: its topics, and the tables.")
    ] = False,
) -> None:
    """Create the lake's topics and tables, and give Kafka Connect (SIGHTLINE_LAKE_CONNECT_URL) its connectors.

    What exists is checked and left alone, so it may be run again and again. Connect needs its topics before its start.
    """
    settings = load_settings(os.environ)

    async def up() -> None:
        await lake_setup.prepare(settings, partial(ensure_topics, settings.kafka), print)
        if not before_connect:
            await lake_setup.apply_connectors(settings, print)

    asyncio.run(patiently(up, wait))


async def _sources(world: Operator) -> LakeSources:
    settings, catalog = world.settings, open_catalog(world.settings)
    return LakeSources(
        await world.entered(ConnectClient(settings.lake.connect_url)),
        lambda table: connector_name(settings, table),
        lambda table: asyncio.to_thread(newest_snapshot, catalog, settings, table),
        lambda topic, since_ms: world.log.scan(topic, AtTime(since_ms)),
        world.clock,
    )


def _status(
    as_json: JsonOption = False,
) -> None:
    """Print each table with its connector: whether it runs, rows, age of the snapshot, how far it is behind.

    Exit code 1 when a connector does not run or records wait longer than three commits.
    """
    limit = load_settings(os.environ).lake.behind_seconds
    tables = with_operator(_health)
    well = all(health.well(limit) for health in tables)
    plain = {"well": well, "limit_seconds": limit, "tables": [asdict(health) for health in tables]}
    show(as_json, plain, _health_in_words(tables))
    raise typer.Exit(ExitCode.of_check(well))


async def _health(world: Operator) -> tuple[TableHealth, ...]:
    return await lake_health(await _sources(world))


def _health_in_words(tables: tuple[TableHealth, ...]) -> Iterator[str]:
    yield f"{'table':<12} {'connector':<9} {'rows':>10} {'snapshot':>10} {'behind':>8}"
    for health in tables:
        age = "none" if health.snapshot_age_seconds is None else f"{health.snapshot_age_seconds:.0f} s"
        rows = "?" if health.rows is None else health.rows
        yield f"{health.table:<12} {health.state:<9} {rows:>10} {age:>10} {health.behind_seconds:>6.0f} s"
        if health.why:
            yield f"    {health.why}"


def _watch(
    every: Annotated[float, typer.Option(min=1, help="Seconds between two looks.")] = 15.0,
) -> None:
    """Look at connectors and tables until SIGTERM or Ctrl-C: start failed tasks again, and serve /metrics.

    Connect never restarts a failed task itself. /metrics and /healthz are on SIGHTLINE_WORKER_HTTP_PORT.
    """
    with_operator(lambda world: _run_watch(world, every))


async def _run_watch(world: Operator, every: float) -> None:
    settings = world.settings
    logging.basicConfig(
        level=settings.worker.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    meters = PrometheusMeters()
    sources = await _sources(world)
    watch = Watch(sources, meters, limit_seconds=settings.lake.behind_seconds, every_seconds=every)
    health = HealthServer(settings.worker.http_host, settings.worker.http_port, meters.text, watch.shown)
    await health.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, watch.stop)
    logging.getLogger("lake").info(
        "watching %s; http://%s:%d/metrics", settings.lake.connect_url, settings.worker.http_host, health.port
    )
    try:
        await watch.run()
    finally:
        await health.stop()


def _connectors(
    table: Annotated[str, typer.Argument(help="Only this table's.")] = "",
) -> None:
    """Print each connector's configuration as `lake up` applies it: common, its own, the overlays and the settings."""
    settings = load_settings(os.environ)
    print(json.dumps({row.name: connector_config(settings, row) for row in tables_named(table)}, indent=1))
