"""`./sightline schemas check`: schemas only grow."""

from __future__ import annotations

import sys

import typer


def register(cli: typer.Typer) -> None:
    """Add the group."""
    schemas = typer.Typer(no_args_is_help=True, help="The Avro schemas of schemas/.")
    schemas.callback()(_group)
    schemas.command("check")(_check)
    cli.add_typer(schemas, name="schemas")


def _group() -> None:
    """The Avro schemas of schemas/."""


def _check() -> None:
    """Compare every schema with all earlier versions and with what was released; exit 1 names each field that breaks.

    Allowed are new fields with a default at the end of a record, in a new version.
    """
    from app.stack.schema_check import schema_complaints

    complaints = schema_complaints()
    for told in complaints:
        print(f"sightline: {told}", file=sys.stderr)
    if complaints:
        raise typer.Exit(1)
    print("schemas only grow")
