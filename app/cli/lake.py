"""`./sightline lake …`: the Iceberg tables that Kafka Connect fills; each verb has a file of its own, `lake_*.py`."""

from __future__ import annotations

import typer

from app.cli import (
    lake_answers,
    lake_compact,
    lake_connect,
    lake_erase,
    lake_expire,
    lake_gc,
    lake_repair,
    lake_sql,
    lake_verify,
    lake_views,
)

_VERBS = (
    *(lake_connect, lake_sql, lake_answers, lake_views, lake_verify),
    *(lake_compact, lake_expire, lake_gc, lake_repair, lake_erase),
)


def register(cli: typer.Typer) -> None:
    """Add the verbs."""
    lake = typer.Typer(no_args_is_help=True, help="The lake: Iceberg tables on S3 that Kafka Connect fills.")
    for verb in _VERBS:
        verb.attach(lake)
    cli.add_typer(lake, name="lake")
