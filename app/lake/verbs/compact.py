"""`./sightline lake compact`: small files become large ones."""

from __future__ import annotations

import dataclasses
import os
import re
from typing import Annotated

import typer

from app.errors import ConfigurationError
from app.lake.iceberg.catalog import open_catalog
from app.lake.iceberg.compactor import Compactor
from app.lake.iceberg.read import TableReader
from app.lake.upkeep.compaction import DayDone, Days, compact
from app.lake.verbs.options import TableOption, tables_named
from app.settings import load_settings
from app.verbs.output import JsonOption, show


def register(lake: typer.Typer) -> None:
    """Add the verb."""
    lake.command("compact")(_compact)


def _compact(
    table: TableOption = "",
    since: Annotated[str, typer.Option(help="From this UTC day on, as 2026-11-23.")] = "",
    until: Annotated[str, typer.Option(help="Up to and including this UTC day.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Join the small files of each day into files of SIGHTLINE_LAKE_TARGET_FILE_BYTES, sorted by event time.

    Safe while Kafka Connect commits, and to repeat: each group of files is exchanged in one snapshot, or not at all.
    Needs disk in the folder for temporary files for four files' rows at a time.
    """
    settings = load_settings(os.environ)
    days = Days(_day(since, "--since"), _day(until, "--until"))
    catalog = open_catalog(settings)
    found = {}
    for row in tables_named(table):
        name = row.name

        def report(done: DayDone, name: str = name) -> None:
            if not as_json:
                typer.echo(
                    f"{name} {done.day}: {done.files_before} files became {done.files_after} "
                    f"({done.bytes_before / 1e6:.1f} MB to {done.bytes_after / 1e6:.1f} MB, {done.rows} rows)"
                )

        compactor = Compactor(TableReader(catalog, settings, row))
        found[name] = compact(compactor, days, settings.lake.target_file_bytes, report)
    show(
        as_json,
        {name: [dataclasses.asdict(day) for day in done] for name, done in found.items()},
        () if any(found.values()) else ["nothing to join"],
    )


def _day(text: str, option: str) -> str:
    if text and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        raise ConfigurationError(f"{option} {text!r}: give a UTC day such as 2026-11-23")
    return text
