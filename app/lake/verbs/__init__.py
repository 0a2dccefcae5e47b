"""`./sightline lake …`: the Iceberg tables that Kafka Connect fills; each verb has its own file here."""

from __future__ import annotations

import typer

from app.lake.verbs import answers, compact, connect, erase, expire, gc, repair, sql, verify, views

_VERBS = (connect, sql, answers, views, verify, compact, expire, gc, repair, erase)


def register(cli: typer.Typer) -> None:
    """Add the verbs."""
    lake = typer.Typer(no_args_is_help=True, help="The lake: Iceberg tables on S3 that Kafka Connect fills.")
    for verb in _VERBS:
        verb.attach(lake)
    cli.add_typer(lake, name="lake")
