"""`./sightline lake …`: the Iceberg tables that Kafka Connect fills."""

from __future__ import annotations

import typer

from app.cli import lake_connect


def register(cli: typer.Typer) -> None:
    """Add the group."""
    lake = typer.Typer(no_args_is_help=True, help="The lake: Iceberg tables on S3, filled by Kafka Connect.")
    lake_connect.add_verbs(lake)
    cli.add_typer(lake, name="lake")
