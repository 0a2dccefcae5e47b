"""`./sightline docs`: the generated pages of docs/."""

from __future__ import annotations

from typing import Annotated

import typer

from app.api.application import openapi_page
from app.documentation.pages import DOCS_DIR, generated_pages, stale_pages
from app.exit_codes import ExitCode


def register(cli: typer.Typer) -> None:
    """Add the verb."""
    cli.command("docs")(_docs)


def _docs(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit 1 when a page is not up to date.")
    ] = False,
) -> None:
    """Write configuration.md, topics.md, metrics.md, lake-tables.md and openapi.json from what declares them."""
    pages = {**generated_pages(), "openapi.json": openapi_page()}
    stale = stale_pages(DOCS_DIR, pages)
    if check:
        for name in stale:
            typer.echo(f"docs/{name} is not what the code says: run `make docs` and commit it", err=True)
        raise typer.Exit(ExitCode.of_check(not stale))
    for name in stale:
        (DOCS_DIR / name).write_text(pages[name], encoding="utf-8")
    typer.echo(f"{len(pages)} pages, {len(stale)} written")
