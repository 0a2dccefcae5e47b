"""`./sightline lake expire`: snapshots that nobody needs to go back to."""

from __future__ import annotations

import json
import os
from typing import Annotated

import typer

from app.lake.iceberg.catalog import open_catalog
from app.lake.iceberg.expire import expire_snapshots
from app.lake.iceberg.read import TableReader
from app.lake.verbs.options import JsonOption, TableOption, tables_named
from app.settings import load_settings
from app.systems.clock import SystemClock
from app.topics import DAY_MS


def register(lake: typer.Typer) -> None:
    """Add the verb."""
    lake.command("expire")(_expire)


def _expire(
    table: TableOption = "",
    older_than: Annotated[
        float | None, typer.Option("--older-than", min=0, help="Days; SIGHTLINE_LAKE_SNAPSHOT_DAYS when left out.")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Remove snapshots older than some days; the files that only they needed go with the next `lake gc`.

    The current snapshot stays, and the line back to the one from which Kafka Connect knows how far it is.
    """
    settings = load_settings(os.environ)
    days = settings.lake.snapshot_days if older_than is None else older_than
    before_ms = SystemClock().now_ms() - int(days * DAY_MS)
    catalog = open_catalog(settings)
    found: dict[str, int] = {}
    for row in tables_named(table):
        reader = TableReader(catalog, settings, row).require()
        found[row.name] = expire_snapshots(reader, before_ms)
        if not json_output:
            left = len(reader.table.refresh().snapshots())
            typer.echo(f"{row.name}: {found[row.name]} snapshots expired, {left} left")
    if json_output:
        typer.echo(json.dumps(found))
