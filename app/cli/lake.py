"""`./sightline lake …`: the tables on S3. Each verb has a file of its own, `lake_*.py`."""

from __future__ import annotations

import typer

from app.cli import lake_answers, lake_sql, lake_views


def register(cli: typer.Typer) -> None:
    """Add the verbs."""
    lake = typer.Typer(no_args_is_help=True, help="The lake: Iceberg tables on S3 that Kafka Connect writes.")
    for verb in (lake_sql, lake_views, lake_answers):
        verb.attach(lake)
    cli.add_typer(lake, name="lake")
