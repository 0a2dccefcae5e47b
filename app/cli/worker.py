"""`./sightline worker NAME`: one agent as one process."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from app.settings import load_settings


def register(cli: typer.Typer) -> None:
    """Add the verb."""
    cli.command("worker")(_worker)


def _worker(
    name: Annotated[str, typer.Argument(help="identify, score, retry, moderate or index.")],
    restart: Annotated[
        bool,
        typer.Option("--restart", help="Start it again when it dies, after 1 s, doubled up to 30 s. For local use."),
    ] = False,
) -> None:
    """Run one agent: a consumer group and process of its own, until SIGTERM.

    Checks broker, topics and schema ids first, and says in one sentence what is missing (exit 2). Serves /metrics and
    /healthz on a port that it logs and writes to http.json in its data folder. Exits 0 after SIGTERM, 70 when it must
    not go on (start it again: nothing is lost), 78 when too many dead letters stopped it (look first).
    """
    if restart:
        from app.cli.supervise import supervise

        raise typer.Exit(supervise(name))
    import asyncio

    from app import logs
    from app.bootstrap import run_worker
    from app.processors import production_parts

    settings = load_settings(os.environ)
    logs.set_up(settings.worker)
    asyncio.run(run_worker(settings, name, production_parts(name)))
