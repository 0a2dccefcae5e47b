"""`./sightline api`: the query service and the console."""

from __future__ import annotations

import dataclasses
import os
from typing import Annotated

import typer

from app import logs
from app.settings import load_settings
from app.verbs.lazy_group import Verb, lazy_group
from app.verbs.supervise import Child, supervise

_KEYS = Verb("keys", "app.access.verb", "Make, list and revoke API keys.")


def register(cli: typer.Typer) -> None:
    """Add the verb."""
    text = "The query service and the console for moderators."
    api = typer.Typer(cls=lazy_group(_KEYS), invoke_without_command=True, help=text)
    api.callback()(_serve)
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
        words = (*(() if port is None else ("--port", str(port))), "--score" if score else "--no-score")
        raise typer.Exit(supervise([Child(("api", *words), "api")]))
    # Imported here: a supervisor stays small.
    import uvloop

    from app.api.serve import run_api

    settings = load_settings(os.environ)
    chosen = dataclasses.replace(
        settings.api, port=settings.api.port if port is None else port, score=settings.api.score and score
    )
    logs.set_up(settings.worker)
    uvloop.run(run_api(dataclasses.replace(settings, api=chosen)))
