"""`./sightline api`: the query service and the console."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from app.access.verb import keys_verb
from app.settings import load_settings


def register(cli: typer.Typer) -> None:
    """Add the verb."""
    api = typer.Typer(invoke_without_command=True, help="The query service and the console for moderators.")
    api.callback()(_serve)
    api.add_typer(keys_verb(), name="keys")
    cli.add_typer(api, name="api")


def _serve(
    context: typer.Context,
    port: Annotated[int | None, typer.Option(help="Port instead of SIGHTLINE_API_PORT; 0: a free one.")] = None,
    score: Annotated[bool, typer.Option(help="Load the models for POST /v1/score.")] = True,
    restart: Annotated[
        bool, typer.Option("--restart", help="Start it again when it dies, after 1 s, doubled up to 30 s.")
    ] = False,
) -> None:
    """Serve /v1 and /console until SIGTERM; the address is logged."""
    if context.invoked_subcommand is not None:
        return
    if restart:
        from app.verbs.supervise import Child, supervise

        words = (*(() if port is None else ("--port", str(port))), "--score" if score else "--no-score")
        raise typer.Exit(supervise([Child(("api", *words), "api")]))
    import dataclasses

    import uvloop

    from app import logs
    from app.api.serve import run_api

    settings = load_settings(os.environ)
    chosen = dataclasses.replace(
        settings.api, port=settings.api.port if port is None else port, score=settings.api.score and score
    )
    logs.set_up(settings.worker)
    uvloop.run(run_api(dataclasses.replace(settings, api=chosen)))
