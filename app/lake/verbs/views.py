"""`./sightline lake views` and `lake tables`: what can be queried."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from app.errors import ConfigurationError
from app.lake.iceberg.read import moment
from app.lake.iceberg.scans import table_scans
from app.lake.sql.dialects import DIALECTS
from app.lake.sql.dictionary import dictionary
from app.lake.sql.output import aligned
from app.lake.sql.session import views_of
from app.settings import load_settings
from app.verbs.output import JsonOption, show


def register(lake: typer.Typer) -> None:
    """Add the verbs."""
    lake.command("views")(_views)
    lake.command("tables")(_tables)


def _views(
    dialect: Annotated[str, typer.Option(help="duckdb, or trino (which is Athena's too).")] = "duckdb",
) -> None:
    """Print the CREATE VIEW statements, for the models that are active, in the order in which they can be run."""
    if dialect not in DIALECTS:
        raise ConfigurationError(f"--dialect {dialect!r}: one of {', '.join(DIALECTS)}")
    preamble = DIALECTS[dialect].preamble()
    statements = [view.statement() for view in views_of(load_settings(os.environ), dialect)]
    typer.echo("\n\n".join([preamble, *statements] if preamble else statements))


def _tables(
    name: Annotated[str, typer.Argument(help="A table or view: print its columns.")] = "",
    as_json: JsonOption = False,
) -> None:
    """List the tables with rows, files and newest snapshot, and the views; or the columns of one."""
    settings = load_settings(os.environ)
    if name:
        found = {relation.name: relation for relation in dictionary(settings.inference)}
        if name not in found:
            raise ConfigurationError(f"no table or view {name!r}; there are {', '.join(found)}")
        columns = [{"column": one.name, "type": one.kind, "meaning": one.meaning} for one in found[name].columns]
        show(as_json, {"name": name, "meaning": found[name].meaning, "columns": columns}, _aligned(columns))
        return
    rows: list[dict[str, Any]] = [
        {
            "table": scan.table.name,
            "rows": scan.rows,
            "files": scan.files,
            "bytes": scan.bytes,
            "snapshot": scan.snapshot_id,
            "committed": None if scan.snapshot_ms is None else moment(scan.snapshot_ms),
            "note": scan.absent,
        }
        for scan in table_scans(settings)
    ]
    views = [view.name for view in views_of(settings)]
    show(as_json, {"tables": rows, "views": views}, (*_aligned(rows), f"\nviews: {', '.join(views)}"))


def _aligned(rows: list[dict[str, Any]]) -> list[str]:
    return aligned(list(rows[0]), [list(row.values()) for row in rows])
