"""`./sightline schemas`: schemas only grow, and schemas/records.py is what they say."""

from __future__ import annotations

import sys

import typer

from app.exit_codes import ExitCode
from app.stack.schema_check import schema_complaints
from app.stack.schema_records import stale_records, write_records


def register(cli: typer.Typer) -> None:
    """Add the group."""
    schemas = typer.Typer(no_args_is_help=True, help="The Avro schemas of schemas/.")
    schemas.callback()(_group)
    schemas.command("check")(_check)
    schemas.command("write")(_write)
    cli.add_typer(schemas, name="schemas")


def _group() -> None:
    """The Avro schemas of schemas/."""


def _check() -> None:
    """Compare every schema with all earlier versions and with what was released; exit 1 names each field that breaks.

    Allowed are new fields with a default at the end of a record, in a new version. schemas/records.py must be what the
    schemas say.
    """
    complaints = schema_complaints()
    if not complaints and stale_records():
        complaints = ("schemas/records.py: not what the newest schemas say; run `make wire`",)
    for complaint in complaints:
        print(f"sightline: {complaint}", file=sys.stderr)
    if complaints:
        raise typer.Exit(ExitCode.FINDING)
    print("schemas only grow")


def _write() -> None:
    """Write schemas/records.py from the newest version of each schema."""
    print("schemas/records.py written" if write_records() else "schemas/records.py is up to date")
