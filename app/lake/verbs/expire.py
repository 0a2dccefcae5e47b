"""`./sightline lake expire`: snapshots that nobody needs to go back to."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from app.lake.iceberg.catalog import open_catalog
from app.lake.iceberg.expire import expire_snapshots
from app.lake.iceberg.read import TableReader
from app.lake.verbs.options import TableOption, tables_named
from app.settings import load_settings
from app.systems.clock import SystemClock
from app.topics import DAY_MS
from app.verbs.output import JsonOption, show


def register(lake: typer.Typer) -> None:
    """Add the verb."""
    lake.command("expire")(_expire)


def _expire(
    table: TableOption = "",
    older_than: Annotated[
        float | None, typer.Option("--older-than", min=0, help="Days; SIGHTLINE_LAKE_SNAPSHOT_DAYS when left out.")
    ] = None,
    as_json: JsonOption = False,
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
        if not as_json:
            left = len(reader.table.refresh().snapshots())
            typer.echo(f"{row.name}: {found[row.name]} snapshots expired, {left} left")
    show(as_json, found, ())
