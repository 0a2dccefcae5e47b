"""`./sightline lake sql`: one query over the lake's tables and views."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final, TextIO

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.errors import ConfigurationError
from app.lake.sql.duckdb_session import Answer
from app.lake.sql.output import aligned, cell, is_number, write_csv, write_json
from app.lake.sql.plan import PlannedTable, plan_lines
from app.lake.sql.plot import plot as draw
from app.lake.sql.session import open_lake
from app.settings import load_settings
from app.systems.clock import SystemClock
from app.verbs.times import moment_ms

_FORMATS: Final = ("table", "csv", "json", "parquet")
_NARROWEST: Final = 8


def register(lake: typer.Typer) -> None:
    """Add the verb."""
    lake.command("sql")(_sql)


def _sql(
    query: Annotated[str, typer.Argument(help="One SELECT; left out with --file.")] = "",
    file: Annotated[Path | None, typer.Option(help="Read the query from this file.")] = None,
    form: Annotated[str, typer.Option("--format", help=" | ".join(_FORMATS))] = "",
    output: Annotated[
        Path | None, typer.Option(help="Write the answer to this file; its ending tells the format without --format.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the answer to this file (.png): the first column x, numbers y.")
    ] = None,
    at: Annotated[
        str, typer.Option(help="The tables as they were: 2026-11-23T09:15 (UTC), 2h (ago), or a snapshot id.")
    ] = "",
    explain: Annotated[
        bool, typer.Option("--explain", help="Run it and print its plan: steps, rows, files read of how many.")
    ] = False,
    rows: Annotated[int, typer.Option(min=0, help="Rows that --format table prints at most; 0: all.")] = 200,
) -> None:
    """Run one query by DuckDB, in this process, over the Iceberg tables and views (`lake tables` lists them).

    Filters on kafka_timestamp (tables) or event_time (views) keep it from reading every file. A table that holds
    nothing yet is empty. Memory and threads: SIGHTLINE_LAKE_SQL_*. A wrong query is one sentence and exit code 2.
    """
    text, form = _query(query, file), _format(form, output)
    snapshot_id, at_ms = _moment(at)
    settings = load_settings(os.environ)
    with open_lake(settings, snapshot_id=snapshot_id, at_ms=at_ms, query=text, note=_note) as (duck, scans):
        if explain:
            tables = [PlannedTable(scan.table.name, scan.location, scan.files) for scan in scans]
            typer.echo("\n".join(plan_lines(duck.plan(text), tables)))
            return
        answer = duck.query(text)
        if form == "parquet" and output is not None and plot is None:
            _note(f"{output}: {answer.write_parquet(output)} rows")
            return
        if plot is None:
            _write(answer, answer.rows(), form, output, rows)
            return
        found = list(answer.rows())
        draw(plot, [column.name for column in answer.columns], found)
        _note(f"{plot}: {len(found)} rows drawn")


def _note(text: str) -> None:
    typer.echo(text, err=True)


def _query(query: str, file: Path | None) -> str:
    if bool(query) == (file is not None):
        raise ConfigurationError("give one query: as the argument, or with --file")
    if file is None:
        return query
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--file {file}: {error}") from error


def _format(form: str, output: Path | None) -> str:
    by_name = output.suffix.removeprefix(".") if output is not None else ""
    form = form or (by_name if by_name in _FORMATS else "table")
    if form not in _FORMATS:
        raise ConfigurationError(f"--format {form!r}: one of {', '.join(_FORMATS)}")
    if form == "parquet" and output is None:
        raise ConfigurationError("--format parquet needs --output FILE")
    return form


def _moment(at: str) -> tuple[int | None, int | None]:
    if not at:
        return None, None
    # Shorter ones are dates: 20261123.
    if at.isdecimal() and len(at) > 8:
        return int(at), None
    return None, moment_ms(at, "--at", SystemClock().now_ms())


def _write(answer: Answer, rows: Any, form: str, output: Path | None, most: int) -> None:
    if output is None:
        _print(answer, rows, form, sys.stdout, most)
        return
    try:
        with output.open("w", encoding="utf-8") as stream:
            count = _print(answer, rows, form, stream, most)
    except OSError as error:
        raise ConfigurationError(f"--output {output}: {error}") from error
    _note(f"{output}: {count} rows")


def _print(answer: Answer, rows: Any, form: str, stream: TextIO, most: int) -> int:
    names = [column.name for column in answer.columns]
    match form:
        case "csv":
            return write_csv(stream, names, rows)
        case "json":
            return write_json(stream, names, rows)
    shown = list(islice(rows, most or None))
    if stream.isatty():
        _print_rich(names, shown)
    else:
        stream.write("\n".join(aligned(names, shown)) + "\n")
    if most and next(rows, None) is not None:
        _note(f"only the first {most} rows; --rows 0 prints all, --format csv too")
    return len(shown)


def _print_rich(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    console = Console()
    if len(names) * _NARROWEST > console.width:
        # So many columns would be a letter wide each: one row below the other instead.
        for number, row in enumerate(rows, 1):
            console.rule(f"row {number}", align="left")
            for name, value in zip(names, row, strict=True):
                console.print(Text(f"{name}: {cell(value)}"))
        return
    table = Table()
    for at, name in enumerate(names):
        table.add_column(name, justify="right" if is_number(row[at] for row in rows) else "left")
    for row in rows:
        # A key may look like rich's own markup.
        table.add_row(*(Text(cell(value)) for value in row))
    console.print(table)
