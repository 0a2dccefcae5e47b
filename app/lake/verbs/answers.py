"""`./sightline lake answers`: the questions of docs/analytics.md, asked of this lake."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from app.errors import ConfigurationError
from app.lake.sql.answers import PAGE, answered, questions, with_answers
from app.lake.sql.session import open_lake
from app.settings import load_settings


def register(lake: typer.Typer) -> None:
    """Add the verb."""
    lake.command("answers")(_answers)


def _answers(
    page: Annotated[
        Path | None, typer.Option(help="A page with blocks of SQL and text; docs/analytics.md when left out.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Put the answers into the page.")] = False,
) -> None:
    """Run every query of the page over the lake and print the answers."""
    page = page or PAGE
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"--page {page}: {error}") from error
    asked = questions(text)
    answers: dict[str, str] = {}
    names = "\n".join(question.sql for question in asked)
    with open_lake(load_settings(os.environ), query=names, note=lambda said: typer.echo(said, err=True)) as (duck, _):
        for question in asked:
            answers[question.title] = answered(duck, question)
            typer.echo(f"{question.title}\n\n{answers[question.title]}")
    if write:
        page.write_text(with_answers(text, answers), encoding="utf-8")
        typer.echo(f"{page}: {len(answers)} answers written", err=True)
